"""What a containerd has on the machine outside its own directory: processes, mounts, cgroups; finding and removing them.

All of it is read from the kernel, not from containerd, which may be dead. cgroup v1, v2 and both at once look the same here: a
list of hierarchies, each of which may have a directory of the same name.
"""

import logging
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from veil.runtime.detached import ProcessId, identify
from veil.runtime.mounts import mount, mounts, unmount

log = logging.getLogger(__name__)

KILL_DEADLINE_S = 10.0


def kill_all(processes: Sequence[ProcessId]) -> None:
    """Kill and wait until they are gone (zombies are: reaping them is their parent's work)."""
    for process in processes:
        process.send(signal.SIGKILL)
    for process in processes:
        if not process.wait_gone_sync(KILL_DEADLINE_S):
            log.warning("process %d does not die", process.pid)


def cgroup_roots() -> list[Path]:
    """Where the hierarchies of cgroup v1 and v2 are mounted."""
    return [point for point, kind in mounts() if kind in ("cgroup", "cgroup2")]


def cgroup_members(parent: str) -> list[ProcessId]:
    """All processes in the cgroup and below, in any hierarchy."""
    pids = {int(pid) for path in _cgroups(parent) for pid in (path / "cgroup.procs").read_text().split()}
    return [process for process in map(identify, pids) if process is not None]


def remove_cgroups(parent: str) -> None:
    for path in _cgroups(parent):
        try:
            path.rmdir()
        except OSError as error:
            log.warning("cgroup %s stays: %s", path, error.strerror)


def overlay_works(probe: Path) -> bool:
    """Try it: an overlay on an overlay, for one, is refused by the kernel."""
    parts = {name: probe / name for name in ("lower", "upper", "work", "merged")}
    for path in parts.values():
        path.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    try:
        mount(parts["merged"], "overlay", options)
        unmount(parts["merged"])
        return True
    except OSError as error:
        log.info("no overlay mounts here: %s", error.strerror)
        return False
    finally:
        shutil.rmtree(probe)


def _cgroups(parent: str) -> list[Path]:
    """All cgroups at and below ``parent`` in every hierarchy, the lowest first."""
    found: list[Path] = []
    for root in cgroup_roots():
        top = root / parent.lstrip("/")
        if top.is_dir():
            found += sorted((path for path in (top, *top.rglob("*")) if path.is_dir()), reverse=True)
    return found

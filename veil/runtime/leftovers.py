"""What a containerd has on the machine outside its own directory: processes, mounts, cgroups; finding and removing them.

All of it is read from the kernel, not from containerd, which may be dead. cgroup v1, v2 and both at once look the same here: a
list of hierarchies, each of which may have a directory of the same name.
"""

import ctypes
import logging
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from veil.runtime.detached import ProcessId, identify

log = logging.getLogger(__name__)

KILL_DEADLINE_S = 10.0
_MNT_DETACH = 2


def kill_all(processes: Sequence[ProcessId]) -> None:
    """Kill and wait until they are gone (zombies are: reaping them is their parent's work)."""
    for process in processes:
        process.send(signal.SIGKILL)
    for process in processes:
        if not process.wait_gone_sync(KILL_DEADLINE_S):
            log.warning("process %d does not die", process.pid)


def cgroup_roots() -> list[Path]:
    """Where the hierarchies of cgroup v1 and v2 are mounted."""
    return [point for point, kind in _mounts() if kind in ("cgroup", "cgroup2")]


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


def unmount_below(directory: Path) -> None:
    """The last mounted first; detached, so that nothing can hold one."""
    for point, _ in reversed(_mounts()):
        if point.is_relative_to(directory):
            _unmount(point)


def overlay_works(probe: Path) -> bool:
    """Try it: an overlay on an overlay, for one, is refused by the kernel."""
    parts = {name: probe / name for name in ("lower", "upper", "work", "merged")}
    for path in parts.values():
        path.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.mount(b"overlay", bytes(parts["merged"]), b"overlay", 0, options.encode()) != 0:
            log.info("no overlay mounts here: %s", os.strerror(ctypes.get_errno()))
            return False
        _unmount(parts["merged"])
        return True
    finally:
        shutil.rmtree(probe)


def _mounts() -> list[tuple[Path, str]]:
    """(mount point, file system type) in the order they were mounted (proc(5), mountinfo)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        point = head.split()[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        found.append((Path(point), tail.split()[0]))
    return found


def _cgroups(parent: str) -> list[Path]:
    """All cgroups at and below ``parent`` in every hierarchy, the lowest first."""
    found: list[Path] = []
    for root in cgroup_roots():
        top = root / parent.lstrip("/")
        if top.is_dir():
            found += sorted((path for path in (top, *top.rglob("*")) if path.is_dir()), reverse=True)
    return found


def _unmount(point: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(bytes(point), _MNT_DETACH) != 0:
        log.warning("mount %s stays: %s", point, os.strerror(ctypes.get_errno()))

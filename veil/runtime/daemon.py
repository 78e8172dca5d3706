"""A containerd of one's own: for development clusters and tests, many on a machine, each gone without a trace.

Everything it needs is below one directory: content, state, socket, runc's state. It runs detached, so that containers and
daemon outlive whoever started it; starting again on the same directory adopts the running one. ``stop`` removes what is
outside the directory too: containers, shims and their sockets, mounts, cgroups. The directory itself is its owner's.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
from pathlib import Path

import psutil

from veil.errors import ConfigInvalid, RuntimeUnavailable
from veil.runtime import leftovers
from veil.runtime.containerd.shims import known_sockets
from veil.runtime.detached import ProcessId, identify, read_record, spawn
from veil.runtime.mounts import unmount_below

log = logging.getLogger(__name__)

START_DEADLINE_S = 15.0
STOP_DEADLINE_S = 10.0
MAX_SOCKET_PATH_BYTES = 107 - len(".ttrpc")
"""sockaddr_un holds 108 bytes with the final zero (unix(7)); containerd's second socket has the longer name."""

_POLL_S = 0.01
_CAP_SYS_ADMIN = 21
_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "runc")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_TASKS = "io.containerd.runtime.v2.task"
_PLUGINS_OFF = (
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.restart",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
)
"""Not the v1 Linux runtime: without it containerd 1.6 kills tasks. The restart monitor would fight whoever reconciles."""


def available() -> str | None:
    """Why containerd cannot run here, in words for a person; None if it can."""
    if os.geteuid() != 0:
        return "containerd needs root"
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_search_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian packages containerd and runc)"
    if not _capability(_CAP_SYS_ADMIN):
        return "this root may not mount (no CAP_SYS_ADMIN): a container without privileges, probably"
    if not any(os.access(path, os.W_OK) for path in leftovers.cgroup_roots()):
        return "no writable cgroup file system"
    return None


class PrivateContainerd:
    """One daemon in ``directory``, logging to ``log_file``. All attributes are known before it runs."""

    def __init__(self, directory: Path, log_file: Path) -> None:
        self.directory = directory.absolute()
        self.log_file = log_file.absolute()
        self.socket = self.directory / "containerd.sock"
        self.runc_root = self.directory / "runc"
        self.cgroup_parent = "/veil-" + hashlib.sha256(bytes(self.directory)).hexdigest()[:16]
        if len(bytes(self.socket)) > MAX_SOCKET_PATH_BYTES:
            raise ConfigInvalid(f"the path {self.socket} is too long for a socket", hint="use a directory with a shorter path")

    @property
    def snapshotter(self) -> str:
        """``overlayfs``, or ``native`` where overlay mounts are impossible. Decided at the first start."""
        return (self.directory / "snapshotter").read_text()

    @property
    def process(self) -> ProcessId | None:
        """The daemon's process, if it lives."""
        process = read_record(self._record)
        return process if process is not None and process.alive() else None

    async def start(self) -> int:
        """Start it if it does not run; gives its pid once it accepts connections. Raises RuntimeUnavailable."""
        if (reason := available()) is not None:
            raise RuntimeUnavailable(f"containerd cannot run here: {reason}", hint="use the process runtime instead")
        process = self.process
        if process is None:
            await asyncio.to_thread(self._prepare)
            process = await spawn(
                ["containerd", "--config", str(self.directory / "config.toml")],
                record=self._record,
                env={**os.environ, "PATH": _search_path()},
                cwd=self.directory,
                stdout=self.log_file,
                stderr=self.log_file,
            )
        await self._until_it_accepts(process)
        return process.pid

    async def stop(self) -> None:
        """Stop it and all it runs, and remove their mounts, cgroups and sockets. Not running = the same."""
        sockets: list[Path] = []
        if self.process is not None:
            with contextlib.suppress(RuntimeUnavailable):
                sockets = await known_sockets(self.socket)
        await asyncio.to_thread(self._stop, sockets)

    @property
    def _record(self) -> Path:
        return self.directory / "process"

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        snapshotter = self.directory / "snapshotter"
        if not snapshotter.exists():
            snapshotter.write_text("overlayfs" if leftovers.overlay_works(self.directory / "probe") else "native")
        self.socket.unlink(missing_ok=True)
        (self.directory / "config.toml").write_text(self._config())

    def _config(self) -> str:
        """JSON's strings and lists of strings are TOML's too."""
        settings = {"root": self.directory / "root", "state": self.directory / "state"}
        lines = ["version = 2", *(f"{key} = {_toml(path)}" for key, path in settings.items())]
        lines += ["oom_score = 0", f"disabled_plugins = {json.dumps(_PLUGINS_OFF)}"]
        lines += ["[grpc]", f"address = {_toml(self.socket)}"]
        lines += ["[ttrpc]", f"address = {_toml(self.socket.with_name(self.socket.name + '.ttrpc'))}"]
        lines += ["[debug]", 'level = "warn"']
        lines += ['[plugins."io.containerd.internal.v1.opt"]', f"path = {_toml(self.directory / 'opt')}"]
        return "\n".join(lines) + "\n"

    async def _until_it_accepts(self, process: ProcessId) -> None:
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                while not _accepts(self.socket):
                    if not process.alive():
                        break
                    await asyncio.sleep(_POLL_S)
                else:
                    return
        except TimeoutError:
            pass
        raise RuntimeUnavailable(f"containerd in {self.directory} did not come up", hint=f"see {self.log_file}")

    def _stop(self, known_sockets: list[Path]) -> None:
        """The daemon first, so that it does not act on the deaths of the rest."""
        if (process := self.process) is not None:
            process.send(signal.SIGTERM)
            if not process.wait_gone_sync(STOP_DEADLINE_S):
                process.send(signal.SIGKILL)
                process.wait_gone_sync(STOP_DEADLINE_S)
        shim_sockets = [*known_sockets, *self._shim_sockets()]
        leftovers.kill_all(self._shims())
        leftovers.kill_all(leftovers.cgroup_members(self.cgroup_parent))
        for path in shim_sockets:
            path.unlink(missing_ok=True)
        unmount_below(self.directory)
        leftovers.remove_cgroups(self.cgroup_parent)
        for path in (self._record, self.socket, self.socket.with_name(self.socket.name + ".ttrpc")):
            path.unlink(missing_ok=True)

    def _shims(self) -> list[ProcessId]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or [""]
            if "containerd-shim" in command[0] and str(self.socket) in command:
                found.append(identify(process.pid))
        return [process for process in found if process is not None]

    def _shim_sockets(self) -> list[Path]:
        """A shim notes its socket, which is outside our directory, in the bundle of its task. Bundles go while we look."""
        found = []
        for file in (self.directory / "state" / _TASKS).glob("*/*/address"):
            with contextlib.suppress(FileNotFoundError):
                found.append(Path(file.read_text().removeprefix("unix://")))
        return found


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _toml(path: Path) -> str:
    return json.dumps(str(path))


def _search_path() -> str:
    """A user's PATH often lacks the directories where runc is."""
    return os.environ.get("PATH", os.defpath) + os.pathsep + _SBIN


def _capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False

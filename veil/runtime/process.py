"""Plain processes of this machine as containers. NOTHING IS ISOLATED: for machines without root, by explicit choice only.

The image is ignored, the command must be given, limits and network are not enforced. Everything else is as in a real runtime:
each container is a detached session that survives the node, its exit code is caught, its logs are appended to files, and any
later driver object on the same directory adopts it.

One directory for each container: ``spec.json``, then per run ``shim`` and ``main`` (who they are, see ``detached``) and
``exit``. The shim is a few lines of sh: it runs the command in the foreground, renames the exit code into place and then kills
what is left of its process group. Main process killed = the shim notes it; shim killed = the end is not seen (UNKNOWN).
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil

from veil.errors import ContainerFailed, DeadlineExceeded, NotFound
from veil.runtime.credentials import Login
from veil.runtime.detached import ProcessId, kill_session, read_record, recorded, spawn
from veil.runtime.disk_use import tree_bytes
from veil.runtime.ids import check_id
from veil.runtime.locks import Locks
from veil.runtime.netns import tcp_socket
from veil.runtime.ports import (
    Container,
    ContainerSpec,
    ContainerState,
    Disk,
    EventKind,
    ExecResult,
    ExecSession,
    Image,
    RuntimeEvent,
    Stats,
)

log = logging.getLogger(__name__)

KILL_DEADLINE_S = 10.0
_CHUNK_BYTES = 1 << 16
_SHIM = """
trap : TERM INT HUP QUIT
dir=$1; shift
/bin/sh -c 'read -r line < /proc/$$/stat && printf "%s\\n" "$line" > "$0" && exec "$@"' "$dir/main" "$@"
echo $? > "$dir/exit.new"
mv "$dir/exit.new" "$dir/exit"
kill -KILL 0
"""


class ProcessRuntime:
    """Containers as processes under ``root``, a directory that this driver owns."""

    name = "process"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._subscribers: list[asyncio.Queue[RuntimeEvent]] = []
        self._locks = Locks()

    async def start_driver(self) -> None:
        log.warning("containers are plain processes of this machine: nothing is isolated, no limit is enforced")
        self._root.mkdir(parents=True, exist_ok=True)
        for view in await self.list():
            if view.state is ContainerState.RUNNING:
                self._watch(view.id)

    async def close(self) -> None:
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        self._watches.clear()

    async def version(self) -> str:
        return f"process {os.uname().release}"

    async def pull(self, image: str, login: Login | None = None) -> str:
        """Images are ignored: nothing is fetched, so there is no digest (empty)."""
        return ""

    async def import_image(self, name: str, archive: Path) -> str:
        """Images are ignored: nothing is loaded, so there is no digest (empty)."""
        return ""

    async def images(self) -> "list[Image]":
        return []

    async def remove_image(self, name: str) -> None:
        """There are none."""

    async def disk(self) -> Disk:
        usage = await asyncio.to_thread(psutil.disk_usage, str(self._root))
        return Disk(total_bytes=usage.used + usage.free, used_bytes=usage.used)

    async def create(self, spec: ContainerSpec) -> Container:
        if not spec.command:
            raise ContainerFailed(
                f"container {spec.id}: no command; plain processes have no image to take one from",
                hint="set command in the container, or run it with the containerd runtime",
            )
        if spec.mounts:
            raise ContainerFailed(
                f"container {spec.id}: plain processes have no mounts",
                hint="run it with the containerd runtime, or without volumes",
            )
        if spec.devices:
            raise ContainerFailed(f"container {spec.id}: plain processes are given no devices", hint="run it with containerd")
        async with self._locks[spec.id]:
            home = self._home(spec.id)
            if not (home / "spec.json").exists():
                await asyncio.to_thread(_write_spec, home, spec)
            return _view(home)

    async def start(self, id: str) -> Container:
        async with self._locks[id]:
            home = self._existing(id)
            if (view := _view(home)).state is ContainerState.RUNNING:
                return view
            spec = await asyncio.to_thread(_read_spec, home)
            env = _environment(spec)
            if shutil.which(spec.command[0], path=env["PATH"]) is None:
                raise ContainerFailed(f"container {id}: {spec.command[0]} is not a program here", hint="check its command")
            await asyncio.to_thread(_clear_run, home)
            shim = await spawn(
                ["/bin/sh", "-c", _SHIM, "veil-shim", str(home), *spec.command, *spec.args],
                record=home / "shim",
                env=env,
                cwd=_workdir(home, spec),
                stdout=spec.stdout,
                stderr=spec.stderr,
            )
            await recorded(home / "main", unless_gone=shim)
            self._publish(RuntimeEvent(kind=EventKind.STARTED, id=id))
            self._watch(id)
            return _view(home)

    async def stop(self, id: str, *, grace_s: float = 30.0) -> Container:
        home = self._existing(id)
        if await self._signal_until_gone(home, signal.SIGTERM, grace_s) or await self._signal_until_gone(
            home, signal.SIGKILL, KILL_DEADLINE_S
        ):
            return _view(home)
        raise ContainerFailed(f"container {id} does not die", hint="it hangs in the kernel; look at its state with ps")

    async def delete(self, id: str) -> None:
        async with self._locks[id]:
            home = self._home(id)
            if not home.exists():
                return
            if not await self._signal_until_gone(home, signal.SIGKILL, KILL_DEADLINE_S):
                raise ContainerFailed(f"container {id} does not die", hint="it hangs in the kernel; look at its state with ps")
            if (watch := self._watches.get(id)) is not None:
                await watch
            if (shim := read_record(home / "shim")) is not None:
                await asyncio.to_thread(kill_session, shim)
            await asyncio.to_thread(shutil.rmtree, home)

    async def exec(
        self, id: str, command: Sequence[str], *, timeout_s: float = 60.0, max_output_bytes: int = 1 << 20
    ) -> ExecResult:
        home = self._existing(id)
        if _view(home).state is not ContainerState.RUNNING:
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        spec = await asyncio.to_thread(_read_spec, home)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(spec),
                cwd=_workdir(home, spec),
                start_new_session=True,
            )
        except OSError as error:
            raise ContainerFailed(f"container {id}: cannot run {command[0]}: {error}", hint="check the command") from error
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                output = await _read_bounded(process.stdout, max_output_bytes)
                return ExecResult(exit_code=_shell_code(await process.wait()), output=output)
        except TimeoutError:
            raise DeadlineExceeded(f"container {id}: {command[0]} did not end within {timeout_s} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def open_exec(self, id: str, command: Sequence[str], *, tty: bool = False) -> ExecSession:
        """There are none: a command is run by :meth:`exec`."""
        raise ContainerFailed("plain processes have no commands to speak with", hint="run the node with containerd for that")

    async def open_socket(self, id: str) -> socket.socket:
        """Plain processes have the machine's network."""
        if _view(self._existing(id)).state is not ContainerState.RUNNING:
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        return tcp_socket()

    async def state(self, id: str) -> Container:
        home = self._existing(id)
        try:
            return _view(home)
        except FileNotFoundError as error:
            raise NotFound(f"no container {id}", hint="it was deleted in this moment") from error

    async def list(self) -> list[Container]:
        return await asyncio.to_thread(_scan, self._root)

    async def stats(self, id: str) -> Stats:
        home = self._existing(id)
        main = read_record(home / "main")
        if main is None or not main.alive():
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        return await asyncio.to_thread(_usage, main.pid)

    async def written(self, id: str) -> int:
        """A process writes wherever it may: this is what is in its own directory."""
        return await asyncio.to_thread(tree_bytes, self._existing(id))

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._subscribers.append(queue)
        try:
            yield RuntimeEvent(kind=EventKind.RESYNC)
            while True:
                yield await queue.get()
        finally:
            self._subscribers.remove(queue)

    async def update(self, id: str, *, cpu_milli: int = 0, memory_bytes: int = 0, pids: int = 0) -> None:
        """Plain processes have no limits, so there is none to change."""
        self._existing(id)

    def _home(self, id: str) -> Path:
        return self._root / check_id(id)

    def _existing(self, id: str) -> Path:
        home = self._home(id)
        if not (home / "spec.json").exists():
            raise NotFound(f"no container {id}", hint="create it first")
        return home

    def _publish(self, event: RuntimeEvent) -> None:
        for queue in self._subscribers:
            queue.put_nowait(event)

    def _watch(self, id: str) -> None:
        task = asyncio.create_task(self._until_ended(id))
        self._watches[id] = task
        task.add_done_callback(lambda done: self._watches.pop(id) if self._watches.get(id) is done else None)

    async def _until_ended(self, id: str) -> None:
        home = self._home(id)
        await _gone(home)
        self._publish(RuntimeEvent(kind=EventKind.EXITED, id=id, exit_code=_exit_code(home)))

    async def _signal_until_gone(self, home: Path, number: int, timeout_s: float) -> bool:
        """Signal the main process; True once main process and shim are gone."""
        main = read_record(home / "main")
        if main is not None:
            main.send(number)
        try:
            async with asyncio.timeout(timeout_s):
                await _gone(home)
        except TimeoutError:
            return False
        return True


async def _gone(home: Path) -> None:
    """Wait for the shim, which ends last; if it was killed, for the main process it left behind."""
    for name in ("shim", "main"):
        process = read_record(home / name)
        if process is not None:
            await process.wait_gone()


def _scan(root: Path) -> list[Container]:
    found = []
    for path in sorted(root.glob("*/spec.json")):
        with contextlib.suppress(FileNotFoundError):  # deleted in this moment
            found.append(_view(path.parent))
    return found


def _view(home: Path) -> Container:
    """What the files and the kernel say now.

    The exit file is looked at after the processes: it appears before the shim goes, so a shim that is gone without one was
    killed.
    """
    shim, main = read_record(home / "shim"), read_record(home / "main")
    alive = [process for process in (main, shim) if process is not None and process.alive()]
    code = _exit_code(home)
    state = _state(alive, code, shim)
    spec = json.loads((home / "spec.json").read_text())
    return Container(
        id=home.name,
        state=state,
        pid=alive[0].pid if state is ContainerState.RUNNING else 0,
        exit_code=code,
        started_s=_modified_s(home / "shim"),
        finished_s=_modified_s(home / "exit"),
        image=spec["image"],
        labels=spec["labels"],
    )


def _state(alive: Sequence[ProcessId], code: int | None, shim: ProcessId | None) -> ContainerState:
    if code is not None:
        return ContainerState.EXITED
    if alive:
        return ContainerState.RUNNING
    return ContainerState.CREATED if shim is None else ContainerState.UNKNOWN


def _exit_code(home: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return int((home / "exit").read_text())
    return None


def _modified_s(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _clear_run(home: Path) -> None:
    for name in ("exit", "main", "shim"):
        (home / name).unlink(missing_ok=True)


def _write_spec(home: Path, spec: ContainerSpec) -> None:
    plain = {
        "id": spec.id,
        "image": spec.image,
        "command": list(spec.command),
        "args": list(spec.args),
        "env": dict(spec.env),
        "workdir": spec.workdir,
        "stdout": str(spec.stdout),
        "stderr": str(spec.stderr),
        "labels": dict(spec.labels),
    }
    (home / "work").mkdir(parents=True, exist_ok=True)
    new = home / "spec.json.new"
    new.touch(mode=0o600)
    new.write_text(json.dumps(plain))
    new.rename(home / "spec.json")


def _read_spec(home: Path) -> ContainerSpec:
    plain = json.loads((home / "spec.json").read_text())
    return ContainerSpec(**plain | {"stdout": Path(plain["stdout"]), "stderr": Path(plain["stderr"])})


def _environment(spec: ContainerSpec) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), **spec.env}


def _workdir(home: Path, spec: ContainerSpec) -> Path:
    return Path(spec.workdir) if spec.workdir else home / "work"


def _usage(pid: int) -> Stats:
    """The main process and all below it."""
    cpu_seconds, memory_bytes, pids = 0.0, 0, 0
    try:
        main = psutil.Process(pid)
        family = [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess as error:
        raise ContainerFailed(f"process {pid} has ended", hint="start it first") from error
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_seconds += times.user + times.system + times.children_user + times.children_system
            memory_bytes += process.memory_info().rss
            pids += 1
    return Stats(cpu_seconds=cpu_seconds, memory_bytes=memory_bytes, pids=pids)


async def _read_bounded(stream: asyncio.StreamReader, max_bytes: int) -> bytes:
    """Read to the end, keep the first ``max_bytes``: the writer must not block on what nobody wants."""
    kept = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        kept += chunk[: max_bytes - len(kept)]
    return bytes(kept)


def _shell_code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode

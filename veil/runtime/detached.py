"""Processes that outlive whoever started them, and how to know one again.

A detached process has its own session and is nobody's child here, so that the death of the starter, by whatever signal, is no
event for it, and the starter has nothing to reap. Before it becomes the program it writes its own line of ``/proc/<pid>/stat``
to a record file: pid and start time together name a process for as long as the machine is up, whereas a pid alone is reused.
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from veil.errors import ContainerFailed

SPAWN_DEADLINE_S = 10.0
_POLL_S = 0.002
_RECORD_SELF = 'read -r line < /proc/$$/stat && printf "%s\\n" "$line" > "$0" && exec "$@"'


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, for good: a pid and the clock tick at which it started."""

    pid: int
    start_ticks: int

    def alive(self) -> bool:
        """Running or stopped; a zombie is not alive."""
        line = _read(Path(f"/proc/{self.pid}/stat"))
        seen = parse_stat(line)
        return seen == self and _state(line) not in "ZX"

    def send(self, number: int) -> bool:
        """Send a signal; False if the process is gone. The pidfd closes the gap between the check and the signal."""
        fd = self._pidfd()
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True

    async def wait_gone(self) -> None:
        """Return once the process is no longer alive."""
        fd = self._pidfd()
        if fd is None:
            return
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()
        loop.add_reader(fd, _settle, gone)
        try:
            await gone
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    def wait_gone_sync(self, timeout_s: float) -> bool:
        """The same without an event loop; False if it is still there after ``timeout_s``."""
        fd = self._pidfd()
        if fd is None:
            return True
        try:
            return bool(select.select([fd], [], [], timeout_s)[0])
        finally:
            os.close(fd)

    def _pidfd(self) -> int | None:
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.alive():
            return fd
        os.close(fd)
        return None


def parse_stat(line: str) -> ProcessId | None:
    """Read a line of ``/proc/<pid>/stat`` (proc(5)); None if it is not a whole one."""
    head, separator, tail = line.rpartition(") ")
    fields = tail.split()
    if not separator or not line.endswith("\n") or len(fields) < 20:
        return None
    return ProcessId(int(head.split(" ", 1)[0]), int(fields[19]))


def identify(pid: int) -> ProcessId | None:
    """The process that has ``pid`` now; None if there is none or it is a zombie."""
    process = parse_stat(_read(Path(f"/proc/{pid}/stat")))
    return process if process is not None and process.alive() else None


def read_record(record: Path) -> ProcessId | None:
    """The process that wrote ``record``, alive or not; None if there is no record."""
    return parse_stat(_read(record))


def kill_session(leader: ProcessId) -> None:
    """Kill what a leader that is gone left in its session.

    The kernel gives a pid to nobody as long as it names a session: if someone else has it, the session is empty.
    """
    if parse_stat(_read(Path(f"/proc/{leader.pid}/stat"))) not in (leader, None):
        return
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == leader.pid:
                os.kill(int(entry.name), signal.SIGKILL)


async def spawn(
    command: Sequence[str],
    *,
    record: Path,
    env: Mapping[str, str],
    cwd: Path,
    stdout: Path,
    stderr: Path,
) -> ProcessId:
    """Start ``command`` detached, its output appended to files, and wait until ``record`` names it.

    Raises ContainerFailed when it does not come up.
    """
    await asyncio.to_thread(_launch, command, record, env, cwd, stdout, stderr)
    process = await recorded(record)
    if process is None:
        raise ContainerFailed(f"{command[0]} did not start within {SPAWN_DEADLINE_S} s", hint=f"see {stderr}")
    return process


async def recorded(record: Path, *, unless_gone: ProcessId | None = None) -> ProcessId | None:
    """Wait until ``record`` names a process; None if that takes too long or ``unless_gone`` ends before it does."""
    try:
        async with asyncio.timeout(SPAWN_DEADLINE_S):
            while (process := read_record(record)) is None and (unless_gone is None or unless_gone.alive()):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)  # the writer is nobody's child: there is nothing to wait on
    except TimeoutError:
        return None
    return process


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _launch(command: Sequence[str], record: Path, env: Mapping[str, str], cwd: Path, stdout: Path, stderr: Path) -> None:
    record.unlink(missing_ok=True)
    try:
        with stdout.open("ab") as out, stderr.open("ab") as err:
            subprocess.run(
                ["setsid", "--fork", "/bin/sh", "-c", _RECORD_SELF, str(record), *command],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(env),
                cwd=cwd,
                timeout=SPAWN_DEADLINE_S,
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise ContainerFailed(
            f"cannot start {command[0]}: {error}", hint="check the command, the directory and the log files"
        ) from error


def _read(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return path.read_text(errors="replace")
    return ""


def _state(line: str) -> str:
    return line.rpartition(") ")[2][:1]

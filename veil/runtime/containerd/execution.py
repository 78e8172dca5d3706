"""Running a command inside a container, with its output through a fifo: bounded in memory, nothing on disk.

The fifo is held open for reading and writing here. The shim opens it twice (for stdout and stderr), and only after it has
started the command: when a short command has closed the first before the second is opened, a plain reader would see an end of
file, go away, and leave the shim waiting for a reader for 30 s. So there is no end of file; the end is when containerd says
that the process, its output copied, has been removed.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from veil.errors import ContainerFailed, DeadlineExceeded, NotFound, RuntimeUnavailable
from veil.runtime.containerd.tasks import Tasks
from veil.runtime.ports import ExecResult

KILL_DEADLINE_S = 10.0
_CHUNK_BYTES = 1 << 16


async def execute(
    tasks: Tasks, id: str, process: dict[str, Any], command: Sequence[str], *, timeout_s: float, max_output_bytes: int
) -> ExecResult:
    """``process`` is the container's own (user, capabilities, environment). Raises DeadlineExceeded, ContainerFailed."""
    exec_id = f"exec-{secrets.token_hex(8)}"
    with _fifo(max_output_bytes) as output:
        await tasks.add_process(id, exec_id, {**process, "args": list(command), "terminal": False}, output.path, output.path)
        try:
            await tasks.start(id, exec_id)
            code = await _wait(tasks, id, exec_id, command, timeout_s)
        finally:
            with contextlib.suppress(NotFound, RuntimeUnavailable, ContainerFailed):
                await tasks.delete_process(id, exec_id)
        output.read()
        return ExecResult(exit_code=code, output=bytes(output.kept))


async def _wait(tasks: Tasks, id: str, exec_id: str, command: Sequence[str], timeout_s: float) -> int:
    try:
        async with asyncio.timeout(timeout_s):
            return await tasks.wait(id, timeout_s=timeout_s, exec_id=exec_id)
    except TimeoutError:
        with contextlib.suppress(NotFound):
            await tasks.kill(id, signal.SIGKILL, exec_id)
        await tasks.wait(id, timeout_s=KILL_DEADLINE_S, exec_id=exec_id)
        raise DeadlineExceeded(f"container {id}: {command[0]} did not end within {timeout_s} s", hint="it was killed") from None


class _Output:
    """Keeps the first bytes and drops the rest: the writer must not block on what nobody wants."""

    def __init__(self, path: Path, fd: int, max_bytes: int) -> None:
        self.path = path
        self.kept = bytearray()
        self._fd = fd
        self._max_bytes = max_bytes

    def read(self) -> None:
        """Take all that is in the fifo now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._fd, _CHUNK_BYTES):
                self.kept += data[: self._max_bytes - len(self.kept)]


@contextmanager
def _fifo(max_bytes: int) -> Iterator[_Output]:
    """A fifo that the running event loop empties."""
    directory = Path(tempfile.mkdtemp(prefix="exec-"))
    path = directory / "output"
    loop = asyncio.get_running_loop()
    os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    output = _Output(path, fd, max_bytes)
    loop.add_reader(fd, output.read)
    try:
        yield output
    finally:
        loop.remove_reader(fd)
        os.close(fd)
        shutil.rmtree(directory)

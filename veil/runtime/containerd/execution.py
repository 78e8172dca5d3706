"""Running a command inside a container, with its output through a fifo: bounded in memory, nothing on disk."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from veil.errors import ContainerFailed, DeadlineExceeded, NotFound, RuntimeUnavailable
from veil.runtime.containerd.tasks import Tasks
from veil.runtime.ports import ExecResult

KILL_DEADLINE_S = 10.0
DRAIN_DEADLINE_S = 2.0
"""How long output may still come after the command has ended: a child it left behind may hold the pipe."""


async def execute(
    tasks: Tasks, id: str, process: dict[str, Any], command: Sequence[str], *, timeout_s: float, max_output_bytes: int
) -> ExecResult:
    """``process`` is the container's own (user, capabilities, environment). Raises DeadlineExceeded, ContainerFailed."""
    exec_id = f"exec-{secrets.token_hex(8)}"
    async with _fifo(max_output_bytes) as (path, output):
        await tasks.add_process(id, exec_id, {**process, "args": list(command), "terminal": False}, path)
        try:
            await tasks.start(id, exec_id)
            code = await _wait(tasks, id, exec_id, command, timeout_s)
        finally:
            with contextlib.suppress(NotFound, RuntimeUnavailable, ContainerFailed):
                await tasks.delete_process(id, exec_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_DEADLINE_S):
                await output.ended.wait()
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


class _Output(asyncio.Protocol):
    """Keeps the first bytes and drops the rest: the writer must not block on what nobody wants."""

    def __init__(self, max_bytes: int) -> None:
        self.kept = bytearray()
        self.ended = asyncio.Event()
        self._max_bytes = max_bytes

    def data_received(self, data: bytes) -> None:
        self.kept += data[: self._max_bytes - len(self.kept)]

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()


@asynccontextmanager
async def _fifo(max_bytes: int) -> AsyncIterator[tuple[Path, _Output]]:
    """A fifo that is open for reading. Its writer (the shim) opens it later, so an end of file before that is no end."""
    directory = Path(tempfile.mkdtemp(prefix="exec-"))
    path = directory / "output"
    os.mkfifo(path, 0o600)
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    try:
        transport, output = await asyncio.get_running_loop().connect_read_pipe(lambda: _Output(max_bytes), file)
        try:
            yield path, output
        finally:
            transport.close()
    finally:
        shutil.rmtree(directory)

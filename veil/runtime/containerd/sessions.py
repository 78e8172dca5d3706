"""Commands inside a container that people speak with: input and output through fifos, with a terminal or without.

For each output this process holds a reader and a writer of the fifo: the shim may open and close it as it likes, and the end of
file comes when the writer is closed here, which is after containerd has said that all output was copied.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from veil.errors import ContainerFailed, VeilError
from veil.runtime.containerd.tasks import Tasks

SESSION_MAX_S = 24 * 3600.0
"""A session that was forgotten ends after a day."""

KILL_DEADLINE_S = 10.0
_BUFFER_BYTES = 1 << 16
_NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC


class Session:
    """Implements :class:`veil.runtime.ports.ExecSession`. Made by :func:`open_session`."""

    def __init__(self, tasks: Tasks, id: str, *, tty: bool) -> None:
        self._tasks = tasks
        self._id = id
        self._exec_id = f"exec-{secrets.token_hex(8)}"
        self._tty = tty
        self._directory = Path(tempfile.mkdtemp(prefix="exec-"))
        self._outputs: dict[int, asyncio.StreamReader] = {}
        self._transports: list[asyncio.BaseTransport] = []
        self._writers: list[int] = []
        self._pieces: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(maxsize=4)
        self._copies: list[asyncio.Task[None]] = []
        self._ending: asyncio.Task[int] | None = None

    async def start(self, process: dict[str, Any], command: Sequence[str]) -> None:
        """Raises ContainerFailed."""
        names = {1: "stdout"} if self._tty else {1: "stdout", 2: "stderr"}
        for stream, name in names.items():
            await self._open_output(stream, self._directory / name)
        await self._open_input(self._directory / "stdin")
        asked = {**process, "args": list(command), "terminal": self._tty}
        stderr = None if self._tty else self._directory / "stderr"
        await self._tasks.add_process(
            self._id, self._exec_id, asked, self._directory / "stdout", stderr, self._directory / "stdin"
        )
        try:
            await self._tasks.start(self._id, self._exec_id)
        except VeilError as error:
            await self._remove()
            raise ContainerFailed(f"{command[0]} does not start: {error.message}", hint="check the command") from error
        loop = asyncio.get_running_loop()
        self._ending = loop.create_task(self._until_ended())
        self._copies = [loop.create_task(self._copy(stream)) for stream in self._outputs]
        loop.create_task(self._mark_the_end()).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _open_output(self, stream: int, path: Path) -> None:
        os.mkfifo(path, 0o600)
        reading = os.open(path, os.O_RDONLY | _NONBLOCKING)
        self._writers.append(os.open(path, os.O_WRONLY | _NONBLOCKING))
        reader = asyncio.StreamReader(limit=_BUFFER_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
        )
        self._outputs[stream] = reader
        self._transports.append(transport)

    async def _open_input(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        keeper = os.open(path, os.O_RDONLY | _NONBLOCKING)  # without a reader it could not be opened
        writing = os.open(path, os.O_WRONLY | _NONBLOCKING)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(writing, "wb", buffering=0)
        )
        self._input = asyncio.StreamWriter(transport, protocol, None, loop)
        self._transports.append(transport)
        self._keeper: int | None = keeper

    async def write(self, data: bytes) -> None:
        if self._ending is None or self._ending.done() or self._input.is_closing():
            return
        self._input.write(data)
        with contextlib.suppress(ConnectionError):
            await self._input.drain()

    async def end_input(self) -> None:
        if not self._input.is_closing():
            with contextlib.suppress(ConnectionError):
                await self._input.drain()
            self._input.close()
            with contextlib.suppress(VeilError):
                await self._tasks.close_input(self._id, self._exec_id)

    async def read(self) -> tuple[int, bytes] | None:
        piece = await self._pieces.get()
        if piece is None:
            self._pieces.put_nowait(None)
        return piece

    async def resize(self, columns: int, rows: int) -> None:
        if self._tty:
            with contextlib.suppress(VeilError):
                await self._tasks.resize(self._id, self._exec_id, columns, rows)

    async def wait(self) -> int:
        assert self._ending is not None, "it was started"
        return await asyncio.shield(self._ending)

    async def close(self) -> None:
        if self._ending is not None and not self._ending.done():
            with contextlib.suppress(VeilError):
                await self._tasks.kill(self._id, signal.SIGKILL, self._exec_id)
            await asyncio.wait([self._ending], timeout=KILL_DEADLINE_S)
        for copy in self._copies:
            copy.cancel()
        await self._remove()

    async def _until_ended(self) -> int:
        try:
            return await self._tasks.wait(self._id, timeout_s=SESSION_MAX_S, exec_id=self._exec_id)
        finally:
            with contextlib.suppress(VeilError):
                await self._tasks.delete_process(self._id, self._exec_id)
            self._let_outputs_end()

    def _let_outputs_end(self) -> None:
        for writer in self._writers:
            os.close(writer)
        self._writers.clear()

    async def _copy(self, stream: int) -> None:
        while data := await self._outputs[stream].read(_BUFFER_BYTES):
            await self._pieces.put((stream, data))

    async def _mark_the_end(self) -> None:
        await asyncio.gather(*self._copies, return_exceptions=True)
        await self._pieces.put(None)

    async def _remove(self) -> None:
        with contextlib.suppress(VeilError):
            await self._tasks.delete_process(self._id, self._exec_id)
        self._let_outputs_end()
        for transport in self._transports:
            transport.close()
        if self._keeper is not None:
            os.close(self._keeper)
            self._keeper = None
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)


async def open_session(tasks: Tasks, id: str, process: dict[str, Any], command: Sequence[str], *, tty: bool) -> Session:
    """``process`` is the container's own (user, capabilities, environment). Raises ContainerFailed, NotFound."""
    session = Session(tasks, id, tty=tty)
    environment = [line for line in process.get("env", []) if not line.startswith("TERM=")] + ["TERM=xterm"] * tty
    await session.start({**process, "env": environment or process.get("env", [])}, command)
    return session

"""Commands inside a container that people speak with: one connection that the daemon turns into a stream both ways.

The request asks for an upgrade; after the answer's headers the connection carries input one way and output the other, raw with a
terminal, in frames without one. Source: Docker Engine API 1.41, "Start an exec instance".
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from veil.errors import Conflict, ContainerFailed, RuntimeUnavailable, VeilError
from veil.runtime.docker.connection import API_PATH, Connection, frames
from veil.runtime.docker.execution import exit_code, kill

START_DEADLINE_S = 15.0
BUFFER_BYTES = 256 << 10
"""Of output that nobody reads yet; then the command waits."""
REASON_MAX_BYTES = 16 << 10
_PIECE_BYTES = 1 << 16
_POLL_S = 0.02
_NOT_STARTED = (126, 127)
"""Exit codes of a command that could not be run."""


class Session:
    """Implements :class:`veil.runtime.ports.ExecSession`. Made by :func:`open_session`."""

    def __init__(
        self, connection: Connection, exec_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tty: bool
    ) -> None:
        self._connection = connection
        self._exec_id = exec_id
        self._writer = writer
        self._tty = tty
        self._output = _raw(reader) if tty else frames(reader)
        self._output_over = asyncio.Event()
        self._input_over = False

    async def write(self, data: bytes) -> None:
        if not (self._input_over or self._writer.is_closing()):
            self._writer.write(data)
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    async def end_input(self) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            if not (self._input_over or self._writer.is_closing()):
                self._input_over = True
                await self._writer.drain()
                self._writer.write_eof()

    async def read(self) -> tuple[int, bytes] | None:
        if self._output_over.is_set():
            return None
        try:
            return await anext(self._output)
        except (StopAsyncIteration, ConnectionError, asyncio.IncompleteReadError):
            self._output_over.set()
            return None

    async def resize(self, columns: int, rows: int) -> None:
        if self._tty:
            query = {"w": str(columns), "h": str(rows)}
            with contextlib.suppress(VeilError):
                await self._connection.call("POST", f"/exec/{self._exec_id}/resize", query=query)

    async def wait(self) -> int:
        await self._output_over.wait()
        return await exit_code(self._connection, self._exec_id)

    async def close(self) -> None:
        with contextlib.suppress(VeilError):
            await kill(self._connection, self._exec_id)
        self._output_over.set()
        self._writer.close()


async def open_session(connection: Connection, name: str, id: str, command: Sequence[str], *, tty: bool) -> Session:
    """``name`` is the container's at the daemon. Raises ContainerFailed."""
    body = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": tty, "Cmd": list(command)}
    if tty:
        body["Env"] = ["TERM=xterm"]
    try:
        exec_id = str((await connection.call("POST", f"/containers/{name}/exec", body=body))["Id"])
    except Conflict as error:
        raise ContainerFailed(f"container {id} is not running", hint="start it first") from error
    async with asyncio.timeout(START_DEADLINE_S):
        reader, writer = await _start(connection, exec_id, tty=tty)
        session = Session(connection, exec_id, reader, writer, tty=tty)
        try:
            await _until_started(connection, exec_id, command[0])
        except BaseException:
            writer.close()
            raise
    return session


async def _start(connection: Connection, exec_id: str, *, tty: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    body = json.dumps({"Detach": False, "Tty": tty}).encode()
    head = (
        f"POST {API_PATH}/exec/{exec_id}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        reader, writer = await asyncio.open_unix_connection(str(connection.socket), limit=BUFFER_BYTES)
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise RuntimeUnavailable(f"the Docker API at {connection.socket}: {error!r}", hint="see the daemon's log") from error
    status = answer.split(b" ", 2)[1]
    if status not in (b"101", b"200"):
        said = (await reader.read(REASON_MAX_BYTES)).decode(errors="replace")
        writer.close()
        raise ContainerFailed(f"the command does not start: {said.strip()[-300:]}", hint="check the command")
    return reader, writer


async def _until_started(connection: Connection, exec_id: str, program: str) -> None:
    """The daemon says what is wrong with a command after it has said that it was started. Raises ContainerFailed."""
    said: dict[str, Any] = {}
    while not said.get("Pid") and said.get("ExitCode") is None:
        said = await connection.call("GET", f"/exec/{exec_id}/json")
        await asyncio.sleep(_POLL_S)
    if not said.get("Pid") and said.get("ExitCode") in _NOT_STARTED:
        raise ContainerFailed(f"{program} does not start", hint="check the command")


async def _raw(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    while data := await reader.read(_PIECE_BYTES):
        yield 1, data

"""Running a command inside a container, with its output in a bounded piece of memory.

The API cannot end a command that it has begun; it tells its pid. So the socket has to be this machine's, as it is anyway.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from veil.errors import Conflict, ContainerFailed, DeadlineExceeded
from veil.runtime.docker.connection import Connection, frames
from veil.runtime.ports import ExecResult

KILL_DEADLINE_S = 10.0
_POLL_S = 0.02


async def execute(
    connection: Connection, name: str, id: str, command: Sequence[str], *, timeout_s: float, max_output_bytes: int
) -> ExecResult:
    """Raises DeadlineExceeded, ContainerFailed."""
    body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)}
    try:
        made = await connection.call("POST", f"/containers/{name}/exec", body=body)
    except Conflict as error:
        raise ContainerFailed(f"container {id} is not running", hint="start it first") from error
    try:
        async with asyncio.timeout(timeout_s):
            output = await _run(connection, made["Id"], max_output_bytes)
            return ExecResult(exit_code=await exit_code(connection, made["Id"]), output=output)
    except TimeoutError:
        await kill(connection, made["Id"])
        raise DeadlineExceeded(f"container {id}: {command[0]} did not end within {timeout_s} s", hint="it was killed") from None


async def _run(connection: Connection, exec_id: str, max_bytes: int) -> bytes:
    """Read to the end, keep the first ``max_bytes``: the writer must not block on what nobody wants."""
    kept = bytearray()
    async with connection.open("POST", f"/exec/{exec_id}/start", body={"Detach": False, "Tty": False}) as response:
        async for _, piece in frames(response.content):
            kept += piece[: max_bytes - len(kept)]
    return bytes(kept)


async def exit_code(connection: Connection, exec_id: str) -> int:
    """Of a command, once it has ended: its output can end a moment before the daemon has heard of the command's end."""
    while (said := await connection.call("GET", f"/exec/{exec_id}/json"))["Running"]:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)  # there is nothing to wait on
    return int(said["ExitCode"])


async def kill(connection: Connection, exec_id: str) -> None:
    """End a command that runs."""
    said = await connection.call("GET", f"/exec/{exec_id}/json")
    if said["Running"] and said.get("Pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(said["Pid"], signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_DEADLINE_S):
            await exit_code(connection, exec_id)

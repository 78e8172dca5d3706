"""Commands in containers over a WebSocket, as kubectl speaks it: channels named by each message's first byte.

Source: Kubernetes' subprotocols v4 and v5.channel.k8s.io (remotecommand). The connection is made before the command is begun, so
that an error reaches the person as what it is: on the channel for errors, as a Status.
"""

import asyncio
import json
import logging
from collections.abc import Mapping

import msgspec
from aiohttp import WSMsgType, web

from veil.api.ports import ExecSource
from veil.api.status import Rejected, status_of
from veil.api.targets import is_true
from veil.errors import InvalidInput, VeilError
from veil.runtime.ports import ExecSession
from veil.store.objects import Obj
from veil.wire.execs import COMMAND_MAX_WORDS, EXEC_CHUNK_MAX_BYTES

log = logging.getLogger(__name__)

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, ERROR, RESIZE, CLOSE = 0, 3, 4, 255
"""Channels besides the two of output. CLOSE (v5) names another channel whose input has ended."""

MESSAGE_MAX_BYTES = 4 * EXEC_CHUNK_MAX_BYTES
HEARTBEAT_S = 20.0


async def respond(request: web.Request, source: ExecSource, instance: Obj, closing: asyncio.Event) -> web.StreamResponse:
    """Run the command that the query asks for, until it ends, the client goes, or the server closes. Raises Rejected."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise Rejected(400, "BadRequest", "a command needs a WebSocket", hint="use `veil exec`, or kubectl 1.30 or newer")
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=MESSAGE_MAX_BYTES, heartbeat=HEARTBEAT_S)
    await socket.prepare(request)
    try:
        session = await _open(source, instance, request.query.getall("command", []), request.query)
    except VeilError as error:
        await _send(socket, ERROR, msgspec.json.encode(status_of(error)))
        await socket.close()
        return socket
    try:
        await _speak(socket, session, wants_input=is_true(request.query.get("stdin", "")), closing=closing)
    except VeilError as error:
        await _send(socket, ERROR, msgspec.json.encode(status_of(error)))
    finally:
        try:
            await session.close()
        except VeilError as error:
            log.info("a command's end was not told: %s", error.message)
        await socket.close()
    return socket


async def _open(source: ExecSource, instance: Obj, command: list[str], query: Mapping[str, str]) -> ExecSession:
    if not command or len(command) > COMMAND_MAX_WORDS:
        raise InvalidInput(f"command: 1 to COMMAND_MAX_WORDS={COMMAND_MAX_WORDS} words", hint="name one after --")
    tty = is_true(query.get("tty", ""))
    return await source.open_exec(instance, container=query.get("container", ""), command=command, tty=tty)


async def _speak(socket: web.WebSocketResponse, session: ExecSession, *, wants_input: bool, closing: asyncio.Event) -> None:
    if not wants_input:
        await session.end_input()
    hearing = asyncio.ensure_future(_hear(socket, session))
    telling = asyncio.ensure_future(_tell(socket, session))
    ending = asyncio.ensure_future(closing.wait())
    work = {hearing, telling, ending}
    try:
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            await _send(socket, ERROR, _outcome(telling.result()))
        elif hearing.done():
            hearing.result()
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def _hear(socket: web.WebSocketResponse, session: ExecSession) -> None:
    """Input, until the client goes. Raises VeilError."""
    async for message in socket:
        data = message.data if message.type is WSMsgType.BINARY else str(message.data).encode()
        if not data:
            continue
        channel, rest = data[0], data[1:]
        if channel == STDIN and rest:
            await session.write(rest)
        elif channel == CLOSE and rest[:1] == bytes([STDIN]):
            await session.end_input()
        elif channel == RESIZE:
            await _resize(session, rest)


async def _resize(session: ExecSession, text: bytes) -> None:
    try:
        size = json.loads(text)
        columns, rows = int(size["Width"]), int(size["Height"])
    except (ValueError, KeyError, TypeError):
        return
    if 0 < columns <= 10_000 and 0 < rows <= 10_000:
        await session.resize(columns, rows)


async def _tell(socket: web.WebSocketResponse, session: ExecSession) -> int:
    """Output, until the end; the exit code."""
    while (piece := await session.read()) is not None:
        await _send(socket, *piece)
    return await session.wait()


async def _send(socket: web.WebSocketResponse, channel: int, data: bytes) -> None:
    try:
        await socket.send_bytes(bytes([channel]) + data)
    except ConnectionError:
        log.debug("nobody hears the output any more")


def _outcome(code: int) -> bytes:
    if code == 0:
        return msgspec.json.encode({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
    return msgspec.json.encode(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )

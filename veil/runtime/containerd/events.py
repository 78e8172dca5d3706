"""containerd's events as the runtime's, across containerd's own deaths.

Nothing may fall between a subscription and the list that follows it. gRPC does not say when a subscription is in force, so a
marker event is published until it comes back on the stream: only then is RESYNC given out. A broken stream is opened anew,
for ever, with a back-off that is short because the other end is a local socket.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from veil.errors import Unavailable, VeilError
from veil.runtime.containerd.connection import Connection, translate
from veil.runtime.containerd.schema import message, unpack
from veil.runtime.ports import EventKind, RuntimeEvent

log = logging.getLogger(__name__)

BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 1.0
MARKER_EVERY_S = 0.1
_KINDS = {"/tasks/start": EventKind.STARTED, "/tasks/exit": EventKind.EXITED, "/tasks/oom": EventKind.OOM}


async def events(connection: Connection) -> AsyncIterator[RuntimeEvent]:
    """Events of the connection's namespace; RESYNC whenever a subscription has come into force. Never ends by itself."""
    backoff_s = BACKOFF_MIN_S
    while True:
        try:
            async for event in _subscription(connection):
                backoff_s = BACKOFF_MIN_S
                yield event
            log.info("the event stream of containerd ended")
        except Unavailable as error:
            log.info("no events from containerd: %s", error.message)
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)


async def _subscription(connection: Connection) -> AsyncIterator[RuntimeEvent]:
    marker = f"/resync/{secrets.token_hex(8)}"
    request = message("containerd.services.events.v1.SubscribeRequest")(
        filters=[f'namespace=={connection.namespace},topic~="^/tasks/(start|exit|oom)$"', f'topic=="{marker}"']
    )
    call = connection.open("events", "Subscribe", request, deadline_s=None)
    marking = asyncio.create_task(_mark(connection, marker))
    try:
        async for envelope in call:
            if envelope.topic == marker:
                if not marking.done():
                    marking.cancel()
                    yield RuntimeEvent(kind=EventKind.RESYNC)
            elif (event := _event(envelope)) is not None:
                yield event
    except grpc.aio.AioRpcError as error:
        raise translate(error, "events.Subscribe", connection.socket) from error
    finally:
        marking.cancel()
        call.cancel()
        await asyncio.gather(marking, return_exceptions=True)


async def _mark(connection: Connection, topic: str) -> None:
    empty = message("google.protobuf.Any")(type_url="containerd.events.TaskPaused")
    while True:
        try:
            await connection.call("events", "Publish", topic=topic, event=empty)
        except VeilError as error:
            log.debug("no marker: %s", error.message)
        await asyncio.sleep(MARKER_EVERY_S)


def _event(envelope: Any) -> RuntimeEvent | None:
    """None for what is not about a container: the end of an exec has an id of its own."""
    kind, event = _KINDS.get(envelope.topic), unpack(envelope.event)
    if kind is None or event is None:
        return None
    if kind is not EventKind.EXITED:
        return RuntimeEvent(kind=kind, id=event.container_id)
    if event.id != event.container_id:
        return None
    return RuntimeEvent(kind=kind, id=event.container_id, exit_code=event.exit_status)

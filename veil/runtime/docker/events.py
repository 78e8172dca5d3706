"""The daemon's events as the runtime's, across its own deaths."""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from veil.errors import Unavailable
from veil.runtime.docker.connection import Connection
from veil.runtime.docker.spec import ID, NAMESPACE
from veil.runtime.ports import EventKind, RuntimeEvent

log = logging.getLogger(__name__)

BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 1.0
_KINDS = {"start": EventKind.STARTED, "die": EventKind.EXITED, "died": EventKind.EXITED, "oom": EventKind.OOM}
_CODES = ("exitCode", "containerExitCode")
"""dockerd's and podman's word."""


async def events(connection: Connection, namespace: str) -> AsyncIterator[RuntimeEvent]:
    """RESYNC whenever a subscription has come into force. Never ends by itself."""
    backoff_s = BACKOFF_MIN_S
    filters = json.dumps({"type": ["container"], "label": [f"{NAMESPACE}={namespace}"]})
    while True:
        try:
            async with connection.open("GET", "/events", query={"filters": filters}) as response:
                backoff_s = BACKOFF_MIN_S
                yield RuntimeEvent(kind=EventKind.RESYNC)
                async for line in response.content:
                    if (event := _event(json.loads(line))) is not None:
                        yield event
            log.info("the event stream of the Docker API ended")
        except (Unavailable, aiohttp.ClientError) as error:
            log.info("no events from the Docker API: %s", error)
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)


def _event(said: dict[str, Any]) -> RuntimeEvent | None:
    """None for what is not about a container's life."""
    kind, attributes = _KINDS.get(said.get("Action", "")), (said.get("Actor") or {}).get("Attributes") or {}
    if kind is None or not attributes.get(ID):
        return None
    code = next((int(attributes[name]) for name in _CODES if attributes.get(name)), None)
    return RuntimeEvent(kind=kind, id=attributes[ID], exit_code=code if kind is EventKind.EXITED else None)

"""Requests to the Docker API over its unix socket, and its errors as the house's.

Source: Docker Engine API 1.41, which podman serves too.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from veil.errors import Conflict, ContainerFailed, NotFound, RuntimeUnavailable

API_PATH = "/v1.41"
API = f"http://docker{API_PATH}"
CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 60.0
MESSAGE_MAX_CHARS = 300
_HEADER = struct.Struct(">BxxxL")

STDERR = 2
"""The stream number of what was written to stderr; all others are stdout's."""


class Connection:
    """One socket. Raises RuntimeUnavailable when nobody answers; NotFound, Conflict, ContainerFailed for what it answers."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket), limit=0))

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Any:
        """One request; its JSON answer, None when it has none."""
        async with self.open(method, path, query=query, body=body, timeout_s=timeout_s) as response:
            text = await response.read()
            is_json = response.content_type == "application/json" or text[:1] in (b"{", b"[")  # podman does not always say
            return json.loads(text) if text and is_json else None

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request whose answer is read as it comes. ``timeout_s`` None: without an end."""
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._session.request(
                method, API + path, params=query, json=body, data=data, headers=headers, timeout=timeout
            ) as response:
                if response.status >= 400:
                    raise _error(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RuntimeUnavailable(
                f"the Docker API at {self.socket} does not answer: {error!r}",
                hint="start it, or set VEIL_DOCKER_SOCKET to the right socket",
            ) from error


async def frames(stream: aiohttp.StreamReader | asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Pieces of output with the number of their stream (the API's multiplexed format), to the end."""
    while True:
        head = await stream.read(_HEADER.size)
        while head and len(head) < _HEADER.size:
            more = await stream.read(_HEADER.size - len(head))
            if not more:
                return
            head += more
        if not head:
            return
        number, size = _HEADER.unpack(head)
        yield number, await stream.readexactly(size)


def _error(code: int, text: bytes) -> NotFound | Conflict | ContainerFailed:
    try:
        said = str(json.loads(text).get("message", ""))
    except (ValueError, AttributeError):
        said = text.decode(errors="replace")
    said = said.strip()[:MESSAGE_MAX_CHARS] or f"HTTP {code}"
    if code == 404:
        return NotFound(said, hint="create it first")
    if code == 409:
        return Conflict(said, hint="try again in a moment")
    return ContainerFailed(said, hint="check its command and the daemon's log")

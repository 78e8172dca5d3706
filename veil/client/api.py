"""The API's client on asyncio: for the controllers (over their unix socket), for `veil dev`, for tests.

Asks the same as :class:`veil.client.blocking.BlockingClient` does. Safe for concurrent use within one event loop.
"""

import io
from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
import msgspec

from veil.client import requests
from veil.client.answers import Change, change_of, error_of
from veil.client.blocking import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S, WATCH_QUIET_MAX_S, tls_context, unavailable
from veil.client.kinds import Obj, Resource
from veil.client.kubeconfig import KubeConfig
from veil.client.requests import MERGE, Call
from veil.errors import NotFound


class ApiClient:
    """Raises the errors that the API answers with; NodeUnavailable when it does not answer, Untrusted for a wrong certificate."""

    def __init__(self, config: KubeConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # verbs

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Obj:
        return await self.send(requests.get(resource, name, namespace))

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Obj | None:
        """As :meth:`get`, None when there is no such object."""
        try:
            return await self.get(resource, name, namespace)
        except NotFound:
            return None

    async def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> Obj:
        """The list document: ``items`` and the ``metadata.resourceVersion`` to watch from."""
        return await self.send(requests.listing(resource, namespace, labels=labels, fields=fields))

    async def watch(
        self, resource: Resource, namespace: str = "", *, since: str = "", labels: str = "", fields: str = ""
    ) -> AsyncIterator[Change]:
        """One watch, bookmarks included; ends when the server ends it. Raises Conflict when ``since`` is too old: list again."""
        call = requests.watching(resource, namespace, since=since, labels=labels, fields=fields, bookmarks=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=WATCH_QUIET_MAX_S)
        try:
            async with self._request(call, timeout) as response:
                await _require_success(response)
                async for line in response.content:
                    yield change_of(line)
        except (aiohttp.ClientError, OSError) as error:
            raise unavailable(self._config, error) from error

    async def create(self, resource: Resource, obj: Obj, namespace: str = "", *, dry_run: bool = False) -> Obj:
        return await self.send(requests.create(resource, obj, namespace, dry_run=dry_run))

    async def update(self, resource: Resource, obj: Obj, *, subresource: str = "") -> Obj:
        """Replace; fails with Conflict when the object's resourceVersion is not the current one."""
        return await self.send(requests.update(resource, obj, subresource=subresource))

    async def apply(self, resource: Resource, obj: Obj, *, manager: str, force: bool = False, dry_run: bool = False) -> Obj:
        """Server-side apply."""
        return await self.send(requests.apply(resource, obj, manager=manager, force=force, dry_run=dry_run))

    async def patch(
        self, resource: Resource, name: str, change: Any, namespace: str = "", *, form: str = MERGE, subresource: str = ""
    ) -> Obj:
        """JSON merge patch, or another ``form`` of :mod:`veil.client.requests`."""
        return await self.send(requests.patch(resource, name, change, namespace, form=form, subresource=subresource))

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "") -> Obj:
        return await self.send(requests.delete(resource, name, namespace, uid=uid))

    async def logs(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        *,
        container: str = "",
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: int | None = None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> AsyncIterator[bytes]:
        """Pieces of log as they come; with ``follow`` until the container is gone."""
        call = requests.logs(
            resource,
            name,
            namespace,
            container=container,
            follow=follow,
            tail_lines=tail_lines,
            since_s=since_s,
            timestamps=timestamps,
            previous=previous,
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._request(call, timeout) as response:
                await _require_success(response)
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise unavailable(self._config, error) from error

    # transport

    async def send(self, call: Call) -> Obj:
        """One request, its JSON answer."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._request(call, timeout) as response:
                await _require_success(response)
                answer: Obj = msgspec.json.decode(await response.read())
                return answer
        except aiohttp.ClientConnectorCertificateError as error:
            raise unavailable(self._config, error.certificate_error) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise unavailable(self._config, error) from error

    def _request(self, call: Call, timeout: aiohttp.ClientTimeout) -> Any:
        headers = {"Accept": call.accept, "Content-Type": call.content_type}
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token.reveal().decode()}"
        base = "http://localhost" if self._config.socket else self._config.server
        body = None if call.body is None else io.BytesIO(call.body)
        return self._open().request(call.method, base + call.target, data=body, headers=headers, timeout=timeout)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            path = self._config.socket
            connector = (
                aiohttp.UnixConnector(str(path), limit=0)
                if path is not None
                else aiohttp.TCPConnector(ssl=tls_context(self._config), limit=0)
            )
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


async def _require_success(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise error_of(response.status, await response.read())

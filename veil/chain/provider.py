"""web3 over :class:`~veil.chain.endpoints.Endpoints`: each request goes to the one that is used now."""

from typing import Any

import aiohttp
from web3 import AsyncWeb3
from web3.providers.async_base import AsyncJSONBaseProvider
from web3.providers.rpc import AsyncHTTPProvider

from veil.chain.endpoint import AWAY
from veil.chain.endpoints import Endpoints

REQUEST_DEADLINE_S = 15.0
"""How long one request of web3 may take."""


class EndpointsProvider(AsyncJSONBaseProvider):
    """A request that finds its endpoint away raises, and the next one goes to another."""

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__()
        self._endpoints = endpoints
        # Without retries of web3's own: the sender's are bounded and know what may be repeated.
        timeout = {"timeout": aiohttp.ClientTimeout(total=REQUEST_DEADLINE_S)}
        self._http = {
            url: AsyncHTTPProvider(url, request_kwargs=timeout, exception_retry_configuration=None) for url in endpoints.urls
        }

    async def make_request(self, method: Any, params: Any) -> Any:
        rpc = self._endpoints.current()
        try:
            return await self._http[rpc.url].make_request(method, params)
        except AWAY as error:
            self._endpoints.leave(rpc, f"does not answer ({error or type(error).__name__})")
            raise

    async def disconnect(self) -> None:
        for provider in self._http.values():
            await provider.disconnect()


def connect(endpoints: Endpoints) -> AsyncWeb3[EndpointsProvider]:
    """A web3 client of ``endpoints``."""
    return AsyncWeb3(EndpointsProvider(endpoints))

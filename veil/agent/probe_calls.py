"""Asking once: a command in the container, an HTTP request or a connection to its loopback address.

HTTP and TCP go to 127.0.0.1 in the container's own network, through a socket that the runtime makes there, so a container
without a network is probed like any other and nothing else of the node can be reached. As with the kubelet, a certificate is not
verified, and a redirect is followed on the same host and is a success when it leads elsewhere.
"""

import asyncio
import socket
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp

from veil.agent.probes import Action, ExecAction, HttpAction, TcpAction
from veil.errors import DeadlineExceeded
from veil.runtime.ports import Runtime

OUTPUT_MAX_BYTES = 10 << 10
BODY_MAX_BYTES = 10 << 10
REDIRECTS_MAX = 10
USER_AGENT = "veil-probe/1"
LOOPBACK = "127.0.0.1"


class Asks(Protocol):
    """Asks a container once. Raises VeilError when it could not be asked: then there is no answer, neither good nor bad."""

    async def ask(self, id: str, action: Action, timeout_s: float) -> bool: ...


class ProbeCalls:
    """Asks through the runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def ask(self, id: str, action: Action, timeout_s: float) -> bool:
        """Whether it succeeded in time. Raises VeilError when the runtime could not have it asked."""
        if isinstance(action, ExecAction):
            return await self._exec(id, action, timeout_s)
        made = await self._runtime.open_socket(id)
        try:
            async with asyncio.timeout(timeout_s):
                if isinstance(action, TcpAction):
                    await asyncio.get_running_loop().sock_connect(made, (LOOPBACK, action.port))
                    return True
                return await self._http(id, action, made)
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError):
            return False
        finally:
            made.close()

    async def _exec(self, id: str, action: ExecAction, timeout_s: float) -> bool:
        try:
            result = await self._runtime.exec(id, action.command, timeout_s=timeout_s, max_output_bytes=OUTPUT_MAX_BYTES)
        except DeadlineExceeded:
            return False
        return result.exit_code == 0

    async def _http(self, id: str, action: HttpAction, first: socket.socket) -> bool:
        host = f"{LOOPBACK}:{action.port}"
        url = urljoin(f"{action.scheme.lower()}://{host}/", action.path)
        headers = {"User-Agent": USER_AGENT, "Accept": "*/*", **dict(action.headers)}
        spare = [first]
        connector = aiohttp.TCPConnector(ssl=False, force_close=True, socket_factory=lambda _: spare.pop())
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(REDIRECTS_MAX + 1):
                if not spare:
                    spare.append(await self._runtime.open_socket(id))
                async with session.get(url, headers=headers, allow_redirects=False) as response:
                    target = urljoin(url, response.headers.get("Location", ""))
                    if not 300 <= response.status < 400 or urlsplit(target).netloc != host or target == url:
                        return 200 <= response.status < 400
                    url = target
        return False

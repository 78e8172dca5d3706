"""A command in a container, spoken with over a WebSocket: the client's side of Kubernetes' v5.channel.k8s.io."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp

from veil.client.answers import error_of, error_of_status
from veil.client.blocking import CONNECT_TIMEOUT_S, tls_context, unavailable
from veil.client.kinds import Resource
from veil.client.kubeconfig import KubeConfig
from veil.errors import NodeUnavailable

PROTOCOL = "v5.channel.k8s.io"
STDIN, ERROR, RESIZE, CLOSE = 0, 3, 4, 255


class Channels:
    """The two directions. Made by :func:`open_channels`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.exit_code: int | None = None
        """Once the command has ended."""

    async def write(self, data: bytes) -> None:
        await self._send(bytes([STDIN]) + data)

    async def end_input(self) -> None:
        await self._send(bytes([CLOSE, STDIN]))

    async def resize(self, columns: int, rows: int) -> None:
        await self._send(bytes([RESIZE]) + json.dumps({"Width": columns, "Height": rows}).encode())

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Pieces with their stream (1 or 2), to the end; then there is an exit code. Raises what the command failed with."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == ERROR:
                self.exit_code = _exit_code(data)
            else:
                yield channel, data
        if self.exit_code is None:
            raise NodeUnavailable("the node ended the connection before the command ended", hint="is it being restarted?")

    async def _send(self, data: bytes) -> None:
        if not self._socket.closed:
            try:
                await self._socket.send_bytes(data)
            except ConnectionError:
                await asyncio.sleep(0)


@asynccontextmanager
async def open_channels(
    config: KubeConfig,
    resource: Resource,
    name: str,
    namespace: str,
    command: Sequence[str],
    *,
    container: str = "",
    stdin: bool = False,
    tty: bool = False,
) -> AsyncIterator[Channels]:
    """Raises NotFound and what else the API answers with, NodeUnavailable, Untrusted."""
    query = [("command", word) for word in command] + [("stdout", "true")]
    query += [(word, "true") for word, wanted in (("stdin", stdin), ("tty", tty), ("stderr", not tty)) if wanted]
    query += [("container", container)] if container else []
    headers = {"Authorization": f"Bearer {config.token.reveal().decode()}"} if config.token else {}
    path = config.socket
    connector: aiohttp.BaseConnector = (
        aiohttp.UnixConnector(str(path)) if path is not None else aiohttp.TCPConnector(ssl=tls_context(config))
    )
    base = "http://localhost" if path is not None else config.server
    url = f"{base}{resource.path(namespace, name, 'exec')}?{urlencode(query)}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            socket = await session.ws_connect(url, protocols=(PROTOCOL,), headers=headers, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as error:
            raise error_of(error.status, await _said(session, url, headers)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise unavailable(config, error) from error
        async with socket:
            yield Channels(socket)


async def _said(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> bytes:
    """Why the connection was refused: a handshake's answer has no body that could be read."""
    async with session.get(url, headers=headers) as response:
        return await response.read()


def _exit_code(text: bytes) -> int:
    """Of a Status; raises the error that it is when the command did not run."""
    status = json.loads(text)
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    code = next((cause["message"] for cause in causes if cause.get("reason") == "ExitCode"), None)
    if status.get("reason") == "NonZeroExitCode" and code is not None:
        return int(code)
    raise error_of_status(status)

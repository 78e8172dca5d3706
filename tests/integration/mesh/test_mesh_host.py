"""The host's gate, one defence at a time: hosts in one process, over real sockets."""

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import trio

from veil.errors import MeshUnavailable
from veil.identity import Identity
from veil.mesh.host import Host
from veil.mesh.messages import BlobReply
from veil.mesh.wire import Wire
from veil.types import PeerId

pytestmark = pytest.mark.mesh

LISTEN = ["/ip4/127.0.0.1/tcp/0"]
PROTOCOL = "/veil/test/1"


class Pair:
    """A server with a gate and a client that lets everybody pass."""

    def __init__(self) -> None:
        client, server = Identity.generate(), Identity.generate()
        self.registered: set[PeerId] = set()
        self.served = 0
        self.client_id, self.server_id = client.peer_id, server.peer_id
        self.server = Host(server.seed, lambda peer: peer in self.registered)
        self.client = Host(client.seed, lambda peer: True)
        self.server.serve(PROTOCOL, self.serve)

    async def serve(self, wire: Wire) -> None:
        self.served += 1
        await wire.write(BlobReply(status="ok"))
        await wire.read_exactly(1)

    async def ask(self) -> BlobReply:
        wire = await self.client.open(self.server_id, PROTOCOL)
        return await wire.read_head(BlobReply)

    async def connect(self) -> None:
        await self.client.dial(self.server_id, self.server.addresses()[0])

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(5):
            while not condition():
                await trio.sleep(0.01)


def play(scenario: Callable[[Pair], Awaitable[None]]) -> None:
    async def main() -> None:
        pair = Pair()
        async with pair.server.run(LISTEN), pair.client.run(LISTEN):
            await scenario(pair)

    trio.run(main)


def test_the_unregistered_do_not_pass_the_handshake():
    async def scenario(pair: Pair) -> None:
        with trio.move_on_after(3):
            with contextlib.suppress(MeshUnavailable):
                await pair.connect()
        await pair.until(lambda: pair.server.noise.refused == 1)
        assert not pair.server.connected(pair.client_id)
        await pair.until(lambda: not pair.client.connected(pair.server_id))
        pair.registered.add(pair.client_id)
        await pair.connect()
        assert (await pair.ask()).status == "ok"

    play(scenario)


def test_one_struck_off_while_connected_opens_no_stream():
    async def scenario(pair: Pair) -> None:
        pair.registered.add(pair.client_id)
        await pair.connect()
        assert (await pair.ask()).status == "ok"
        pair.registered.clear()
        with pytest.raises(MeshUnavailable):
            await pair.ask()
        assert pair.served == 1

    play(scenario)


def test_cutting_off_ends_live_connections_and_streams():
    async def scenario(pair: Pair) -> None:
        pair.registered.add(pair.client_id)
        await pair.connect()
        wire = await pair.client.open(pair.server_id, PROTOCOL)
        await wire.read_head(BlobReply)
        pair.registered.clear()
        await pair.server.cut_off(pair.client_id)
        await pair.until(lambda: not pair.client.connected(pair.server_id))
        with pytest.raises(MeshUnavailable), trio.fail_after(3):
            await wire.read_exactly(1)

    play(scenario)


def test_a_peer_that_is_not_who_its_address_says_is_not_connected():
    async def scenario(pair: Pair) -> None:
        other = Identity.generate().peer_id
        pair.registered.add(pair.client_id)
        with pytest.raises(MeshUnavailable):
            await pair.client.dial(other, pair.server.addresses()[0])
        assert not pair.client.connected(other)

    play(scenario)

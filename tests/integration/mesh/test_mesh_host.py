"""The host's gate, one defence at a time: hosts in one process, over real sockets."""

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import Yamux

from veil.errors import MeshUnavailable
from veil.identity import Identity
from veil.mesh.host import GatedNoise, Host, _id_of
from veil.mesh.messages import BlobReply
from veil.mesh.muxer import BoundedYamux
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


defended = pytest.mark.parametrize("defended", [True, False], ids=["", "undefended"])


@defended
def test_the_unregistered_do_not_pass_the_handshake(monkeypatch, defended):
    if not defended:

        async def lets_everybody_in(noise, secured):
            return secured

        monkeypatch.setattr(GatedNoise, "_gate", lets_everybody_in)

    async def scenario(pair: Pair) -> None:
        with trio.move_on_after(3):
            with contextlib.suppress(MeshUnavailable):
                await pair.connect()
        if not defended:
            await pair.until(lambda: pair.server.connected(pair.client_id))
            return
        await pair.until(lambda: pair.server.noise.refused == 1)
        assert not pair.server.connected(pair.client_id)
        await pair.until(lambda: not pair.client.connected(pair.server_id))
        pair.registered.add(pair.client_id)
        await pair.connect()
        assert (await pair.ask()).status == "ok"

    play(scenario)


@defended
def test_one_struck_off_while_connected_opens_no_stream(defended):
    async def scenario(pair: Pair) -> None:
        pair.registered.add(pair.client_id)
        await pair.connect()
        assert (await pair.ask()).status == "ok"
        pair.registered.clear()
        if not defended:
            pair.server._allowed = lambda peer: True
            await pair.ask()
            assert pair.served == 2
            return
        with pytest.raises(MeshUnavailable):
            await pair.ask()
        assert pair.served == 1

    play(scenario)


@defended
def test_cutting_off_ends_live_connections_and_streams(defended):
    async def scenario(pair: Pair) -> None:
        pair.registered.add(pair.client_id)
        await pair.connect()
        wire = await pair.client.open(pair.server_id, PROTOCOL)
        await wire.read_head(BlobReply)
        pair.registered.clear()
        if not defended:
            await trio.sleep(0.5)
            assert pair.client.connected(pair.server_id), "being struck off ends nothing by itself"
            return
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


def test_peers_do_not_ask_each_other_who_they_are():
    """libp2p's own host does so with each connection; a change of version must not bring it back unnoticed."""

    async def scenario(pair: Pair) -> None:
        pair.registered.add(pair.client_id)
        await pair.connect()
        await pair.ask()
        await trio.sleep(0.3)
        for host in (pair.server, pair.client):
            assert not host._host._identified_peers
            assert not host._host._identify_inflight

    play(scenario)


@pytest.mark.parametrize("whole", [True, False], ids=["", "as libp2p does it"])
def test_a_write_that_is_cancelled_does_not_end_the_connection(monkeypatch, whole):
    if not whole:
        monkeypatch.setattr(BoundedYamux, "_write_frame", Yamux._write_frame)

    async def scenario(pair: Pair) -> None:
        pair.registered.add(pair.client_id)
        await pair.connect()
        wire = await pair.client.open(pair.server_id, PROTOCOL)
        await wire.read_head(BlobReply)
        raw = pair.client._network.get_connections(_id_of(pair.server_id))[0].muxed_conn.secured_conn.conn.read_writer
        write = raw.read_write_closer.write

        async def slowly(data: bytes) -> None:
            await trio.sleep(0.2)
            await write(data)

        monkeypatch.setattr(raw.read_write_closer, "write", slowly, raising=False)
        with trio.move_on_after(0.1) as scope:
            await wire.write_bytes(b"a deadline expires while Noise's message is on its way to TCP")
        assert scope.cancelled_caught
        if whole:
            assert (await pair.ask()).status == "ok"
        else:
            with pytest.raises(MeshUnavailable), trio.fail_after(5):
                await pair.ask()

    play(scenario)


def test_libp2p_dials_nobody_by_itself():
    """Not even one whose address it knows: who may be dialled, and when, is decided by who is registered."""

    async def scenario(pair: Pair) -> None:
        pair.registered.add(pair.client_id)
        await pair.connect()
        await pair.client.cut_off(pair.server_id)
        await pair.until(lambda: not pair.client.connected(pair.server_id))
        await pair.client._network.auto_connector.maybe_connect()
        await trio.sleep(0.5)
        assert not pair.client.connected(pair.server_id)

    play(scenario)

"""What membership costs on the wire: one stream between two peers, and no credit for small frames."""

import random
from contextlib import AsyncExitStack

import mesh_sites as sites
import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from veil.identity import Identity
from veil.mesh.claims import KeySignatory
from veil.mesh.heartbeat import Heartbeat
from veil.mesh.host import Host
from veil.mesh.messages import Frame
from veil.mesh.ports import PeerState
from veil.mesh.preset import LOCAL
from veil.types import ClusterId, SystemClock

pytestmark = pytest.mark.mesh

MEMBERS = 3


class Member:
    """A host and its membership; the test makes the connections."""

    def __init__(self) -> None:
        identity = Identity.generate()
        self.peer = identity.peer_id
        self.opened = 0
        self.host = Host(identity.seed, lambda peer: True)
        self.heartbeat = Heartbeat(
            self.host,
            preset=LOCAL,
            signatory=KeySignatory(identity, ClusterId(b"s" * 32)),
            rng=random.Random(1),
            clock=SystemClock(),
            on_change=lambda member: None,
        )
        self.host.on_connection = self.heartbeat.connection
        open_stream = self.host.open

        async def counted(*args):
            self.opened += 1
            return await open_stream(*args)

        self.host.open = counted  # type: ignore[method-assign]

    def sees_alive(self, others: "list[Member]") -> bool:
        entries = [self.heartbeat.swim.roster.get(other.peer) for other in others if other is not self]
        return all(entry is not None and entry.state is PeerState.ALIVE for entry in entries)


@pytest.mark.parametrize("shared", [True, False], ids=["", "one each way"])
def test_two_members_share_one_stream(monkeypatch, shared):
    if not shared:

        async def reads_only(self, wire):
            await self._read_all(wire)

        monkeypatch.setattr(Heartbeat, "_on_stream", reads_only)

    async def scenario():
        async with AsyncExitStack() as stack:
            members = [Member() for _ in range(MEMBERS)]
            for member in members:
                await stack.enter_async_context(member.host.run(sites.LISTEN))
            nursery = await stack.enter_async_context(trio.open_nursery())
            for member in members:
                member.heartbeat.allow({other.peer for other in members})
                nursery.start_soon(member.heartbeat.run)
            await trio.sleep(0.1)
            for number, member in enumerate(members):
                for other in members[:number]:
                    await member.host.dial(other.peer, other.host.addresses()[0])
            await sites.until(lambda: all(member.sees_alive(members) for member in members))
            await trio.sleep(3 * LOCAL.probe_interval_s)
            pairs = MEMBERS * (MEMBERS - 1) // 2
            opened = sum(member.opened for member in members)
            assert (opened == pairs) is shared
            nursery.cancel_scope.cancel()

    sites.play(scenario)


def test_small_frames_are_not_answered_with_credit(monkeypatch):
    updates = []
    send_window_update = YamuxStream.send_window_update

    async def counted(self, increment, skip_lock=False):
        updates.append(increment)
        await send_window_update(self, increment, skip_lock)

    monkeypatch.setattr(YamuxStream, "send_window_update", counted)

    async def scenario():
        a, b = Member(), Member()
        received = []

        async def keep(wire):
            while True:
                received.append(await wire.read_frame(1024))

        b.host.serve("/veil/test/1", keep)
        async with a.host.run(sites.LISTEN), b.host.run(sites.LISTEN):
            await a.host.dial(b.peer, b.host.addresses()[0])
            wire = await a.host.open(b.peer, "/veil/test/1")
            updates.clear()
            for sequence in range(100):
                await wire.write(Frame(kind="ping", sequence=sequence))
                await sites.until(lambda sent=sequence: len(received) > sent)
            assert updates == []

    sites.play(scenario)

"""Down marks: operators sign what each has seen for itself, one transaction says it, and the way back is the node's own.

Marks are counted on the chain. Time is virtual.
"""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest
from node_world import LoopClock, SeededRandom

from veil.chain.fake import FakeChain, fake_signature
from veil.chain.fake_ledger import Ledger
from veil.chain.ports import NodeMarkedDown, NodeMarkedUp
from veil.chain.projector import follow
from veil.errors import ChainUnavailable
from veil.identity import Identity
from veil.mesh.fake import FakeNetwork
from veil.mesh.ports import PeerState
from veil.node.down_marks import CHECK_S, MARK_DOWN, MARKS_OF_PEER, DownMarks
from veil.node.view import NodeView
from veil.placement.local import Local
from veil.placement.service import MeshLiveness
from veil.placement.settings import DEV
from veil.store.projection import Projection
from veil.types import Address, PeerId, Secret
from veil.wire.codec import decode, encode
from veil.wire.marks import MarkDownAnswer, MarkDownQuestion
from veil.wire.nodes import prove_possession

pytestmark = pytest.mark.looptime
ADMIN = Address("0x" + "99" * 20)
LEASE_S = DEV.lease_s


class Member:
    """One operator's node: its own view of chain and mesh, and down marks in a loop."""

    def __init__(self, scene: "Scene", number: int) -> None:
        self.scene = scene
        self.identity = Identity(Secret(bytes([number + 1]) * 32))
        self.peer = self.identity.peer_id
        self.operator = Address("0x" + f"{number + 1:02x}" * 20)
        self.chain = FakeChain(scene.ledger, self.operator)
        self.projection = Projection(None, self.chain.cluster)
        self.mesh = scene.network.mesh(self.peer)
        self.leases: set[PeerId] = set()
        clock = LoopClock()
        local = Local(
            identity=self.identity,
            cluster=self.chain.cluster,
            view=NodeView(self.projection, lambda: None),
            clock=clock,
            random=SeededRandom(),
            liveness=MeshLiveness(self.mesh, clock),
            settings=DEV,
        )
        holds = self.leases.__contains__
        self.marks = DownMarks(local=local, mesh=self.mesh, chain=self.chain, holds_lease=holds)
        self.sent = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(follow(self.chain, self.projection)), asyncio.create_task(self._loop())]

    async def _loop(self) -> None:
        while True:
            with contextlib.suppress(ChainUnavailable):
                await self.marks.sync()
            await asyncio.sleep(CHECK_S)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Scene:
    """Members of one operator each, all alive; k is 2 of 3 and 3 of 5."""

    def __init__(self, nodes: int = 5) -> None:
        self.ledger = Ledger(ADMIN)
        self.network = FakeNetwork()
        self.members = [Member(self, number) for number in range(nodes)]
        self.peers = [member.peer for member in self.members]
        self._count_transactions()

    def _count_transactions(self) -> None:
        for member in self.members:
            original = member.chain.mark_down

            async def counted(*args: Any, member: Member = member, original: Any = original) -> None:
                member.sent += 1
                await original(*args)

            member.chain.mark_down = counted  # type: ignore[method-assign]

    async def __aenter__(self) -> "Scene":
        admin = FakeChain(self.ledger, ADMIN)
        for member in self.members:
            proof = prove_possession(member.identity, member.chain.cluster, member.operator)
            await member.chain.register_node_with_proof(member.peer, member.operator, proof)
            await admin.approve_node(member.peer)
        for member in self.members:
            await member.mesh.start()
            member.mesh.allow(dict.fromkeys(self.peers, ()))
        for peer in self.peers:
            self.network.set_state(peer, PeerState.ALIVE)
        for member in self.members:
            await member.start()
        await asyncio.sleep(2 * CHECK_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        for member in self.members:
            await member.stop()
            member.projection.close()

    async def kill(self, member: Member, *, seen_by: list[Member] | None = None) -> None:
        await member.stop()
        self.network.kill(member.peer)
        observers = None if seen_by is None else [one.peer for one in seen_by]
        self.network.set_state(member.peer, PeerState.DEAD, seen_by=observers)

    async def revive(self, member: Member) -> None:
        """As a restart: a higher incarnation, alive for everybody."""
        self.network.revive(member.peer)
        await member.mesh.start()
        self.network.announce(member.mesh.own())
        await member.start()

    def marks(self) -> list[tuple[str, PeerId, int]]:
        """What the chain has, in order."""
        events = [event for block in self.ledger.blocks for event in block.events]
        found = [event for event in events if isinstance(event, NodeMarkedDown | NodeMarkedUp)]
        return [("down" if isinstance(event, NodeMarkedDown) else "up", event.peer, event.incarnation) for event in found]

    def first(self, about: Member) -> Member:
        """Whose turn it is first."""
        some = next(member for member in self.members if member is not about)
        order = list(some.marks._ranked(about.peer, some.marks._look()))
        return self.members[self.peers.index(order[0])]


async def test_one_transaction_marks_the_dead_and_the_node_comes_back_by_itself() -> None:
    async with Scene() as scene:
        lost = scene.members[4]
        await scene.kill(lost)
        await asyncio.sleep(LEASE_S - 1)
        assert scene.marks() == []
        await asyncio.sleep(3)
        assert scene.marks() == [("down", lost.peer, 1)]
        row = scene.members[0].projection.node(lost.peer)
        assert row is not None
        assert row.down_incarnation == 1
        await asyncio.sleep(10 * LEASE_S)
        assert sum(member.sent for member in scene.members) == 1
        await scene.revive(lost)
        await asyncio.sleep(3)
        assert scene.marks() == [("down", lost.peer, 1), ("up", lost.peer, 2)]
        await asyncio.sleep(3 * LEASE_S)
        assert len(scene.marks()) == 2


async def test_the_next_rank_takes_over_a_lease_later() -> None:
    async with Scene() as scene:
        lost = scene.members[4]
        await scene.kill(lost)
        first = scene.first(lost)

        async def away(*_: Any) -> None:
            first.sent += 1
            raise ChainUnavailable("no ether")

        first.chain.mark_down = away  # type: ignore[assignment]
        await asyncio.sleep(LEASE_S + 3)
        assert (first.sent, scene.marks()) == (1, [])
        await asyncio.sleep(LEASE_S)
        assert scene.marks() == [("down", lost.peer, 1)]
        assert [member.sent for member in scene.members if member is not first].count(1) == 1


@pytest.mark.parametrize("careless", [False, True], ids=["careful", "twin"])
async def test_nobody_signs_for_a_node_that_it_saw_alive(careless: bool) -> None:
    """Two of five see it dead, two do not. A twin of these signs whatever it is asked: then it is marked, which must not be."""
    async with Scene() as scene:
        one = scene.members[4]
        scene.network.set_state(one.peer, PeerState.DEAD, seen_by=[member.peer for member in scene.members[:2]])

        def sign_anything(member: Member) -> None:
            async def sign(_: PeerId, payload: bytes) -> bytes:
                asked = decode(payload, MarkDownQuestion)
                signature = await member.chain.sign_mark_down(PeerId(asked.peer), asked.incarnation)
                return encode(MarkDownAnswer(signature=signature, reason=""))

            member.mesh.serve(MARK_DOWN, sign)

        for member in scene.members[2:4] if careless else ():
            sign_anything(member)
        await asyncio.sleep(6 * LEASE_S)
        assert bool(scene.marks()) == careless


async def test_a_lease_that_is_not_over_keeps_the_signature_back() -> None:
    async with Scene() as scene:
        lost = scene.members[4]
        for member in scene.members[:3]:
            member.leases.add(lost.peer)
        await scene.kill(lost)
        await asyncio.sleep(3 * LEASE_S)
        assert scene.marks() == []
        scene.members[0].leases.clear()
        scene.members[1].leases.clear()
        await asyncio.sleep(5 * LEASE_S)
        assert scene.marks() == [("down", lost.peer, 1)]


async def _asked(scene: Scene, asker: Member, asked: Member, peer: PeerId, incarnation: int) -> MarkDownAnswer:
    question = encode(MarkDownQuestion(peer=peer, incarnation=incarnation))
    return decode(await asker.mesh.request(asked.peer, MARK_DOWN, question), MarkDownAnswer)


async def test_only_what_was_seen_is_signed() -> None:
    async with Scene() as scene:
        first, second, *_, lost = scene.members
        assert (await _asked(scene, first, second, lost.peer, 1)).reason == "NotDead"
        assert (await _asked(scene, first, second, PeerId(bytes(32)), 1)).reason == "NotMember"
        await scene.kill(lost)
        await asyncio.sleep(2 * CHECK_S)
        assert (await _asked(scene, first, second, lost.peer, 1)).reason == "HeardRecently"
        await asyncio.sleep(LEASE_S + 3)
        assert (await _asked(scene, first, second, lost.peer, 1)).reason == "AlreadyMarked"
        for incarnation in (0, 2, 2**62):
            answer = await _asked(scene, first, second, lost.peer, incarnation)
            assert (answer.signature, answer.reason in ("AlreadyMarked", "OtherIncarnation")) == (b"", True)


@pytest.mark.parametrize("kind", ["stranger", "duplicate", "old"])
async def test_signatures_that_are_not_an_operators_own_are_left_out(kind: str) -> None:
    """Two of the four others lie: what they give is found out before anything is sent, so that no gas is spent on it."""
    async with Scene() as scene:
        lost = scene.members[4]
        first = scene.first(lost)
        liars = [member for member in scene.members[:4] if member is not first][:2]
        forged = {
            "stranger": fake_signature(ADMIN, lost.peer, 1),
            "duplicate": fake_signature(first.operator, lost.peer, 1),
            "old": fake_signature(liars[0].operator, lost.peer, 0),
        }[kind]

        async def lie(*_: Any) -> bytes:
            return encode(MarkDownAnswer(signature=forged, reason=""))

        for liar in liars:
            await liar.stop()
            liar.mesh.serve(MARK_DOWN, lie)
        await scene.kill(lost)
        await asyncio.sleep(6 * LEASE_S)
        assert scene.marks() == []
        assert sum(member.sent for member in scene.members) == 0


async def test_one_operator_cannot_sign_for_two_nodes() -> None:
    """Three of five nodes are one operator's: with its signature and one more, k = 3 is not reached."""
    async with Scene() as scene:
        for member in scene.members[:2]:
            scene.ledger.state.nodes[member.peer] = replace(
                scene.ledger.state.nodes[member.peer], operator=scene.members[2].operator
            )
            for each in scene.members:
                row = each.projection.node(member.peer)
                assert row is not None
                with each.projection.batch() as writer:
                    writer.put_node(replace(row, operator=scene.members[2].operator))
            member.operator = member.chain.operator = scene.members[2].operator
        await scene.kill(scene.members[4])
        await asyncio.sleep(6 * LEASE_S)
        assert scene.marks() == []
        assert sum(member.sent for member in scene.members) == 0


async def test_who_is_cut_off_marks_nobody_and_comes_back_when_it_sees_the_others() -> None:
    async with Scene() as scene:
        few, many = scene.members[:2], scene.members[2:]
        scene.network.partition([m.peer for m in few], [m.peer for m in many])
        for side, other in ((few, many), (many, few)):
            for member in side:
                scene.network.set_state(member.peer, PeerState.DEAD, seen_by=[one.peer for one in other])
        await asyncio.sleep(10 * LEASE_S)
        assert sorted(scene.marks()) == sorted(("down", member.peer, 1) for member in few)
        assert sum(member.sent for member in few) == 0
        scene.network.heal()
        for peer in scene.peers:
            scene.network.set_state(peer, PeerState.ALIVE)
        await asyncio.sleep(2 * LEASE_S)
        assert sorted(scene.marks()[2:]) == sorted(("up", member.peer, 2) for member in few)


async def test_a_mark_that_the_mesh_knows_nothing_of_is_taken_back_a_lease_later() -> None:
    """k operators that work together: the node lives, nobody in the mesh accuses it."""
    async with Scene() as scene:
        victim = scene.members[0]
        signatures = [fake_signature(member.operator, victim.peer, 77) for member in scene.members[2:]]
        await FakeChain(scene.ledger, ADMIN).mark_down(victim.peer, 77, signatures)
        await asyncio.sleep(LEASE_S / 2)
        assert scene.marks() == [("down", victim.peer, 77)]
        await asyncio.sleep(LEASE_S)
        assert scene.marks() == [("down", victim.peer, 77), ("up", victim.peer, 78)]


async def test_what_a_flapping_node_costs_each_operator_is_bounded() -> None:
    async with Scene() as scene:
        lost = scene.members[4]
        for _ in range(3 * MARKS_OF_PEER):
            await scene.kill(lost)
            await asyncio.sleep(2 * LEASE_S)
            await scene.revive(lost)
            await asyncio.sleep(LEASE_S)
        assert max(member.sent for member in scene.members) == MARKS_OF_PEER

"""What every Chain must do: run against the real registry on anvil and against the fake.

A bench gives clients of one fresh registry: ``client(i)`` is account i, account 0 is the administrator.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

import pytest
from eth_hash.auto import keccak

from veil.chain.disputes import read_disputes
from veil.chain.fake import FAKE_PARTS
from veil.chain.ports import (
    EMPTY_HEAD,
    AccessChanged,
    Block,
    BlockEvents,
    ChainEvent,
    DecisionLimitChanged,
    DisputeClosed,
    DisputeOpened,
    EpochPublished,
    EpochRetired,
    Finality,
    Finalized,
    Head,
    HomePeersChanged,
    ImageCommitted,
    ImageRootChanged,
    NamespaceOwnerChanged,
    NodeLabelsChanged,
    NodeMarkedDown,
    NodeMarkedUp,
    NodeRegistered,
    NodeStatus,
    NodeStatusChanged,
    ObjectApplied,
    ObjectDeleted,
    OtherEvent,
    PlacementsAppended,
    PolicyChanged,
    Registry,
    RoleChanged,
    Rollback,
)
from veil.chain.records import DisputeStatus, EpochRecord, EpochStatus, Right, StakeTerms, role_id
from veil.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, LimitExceeded, NotFound, Refused
from veil.types import Digest, Epoch, Generation, PeerId, Shard
from veil.wire.merkle import proof_of, root_of
from veil.wire.objects import KINDS, object_id

WORKLOAD, NAMESPACE = KINDS["Workload"], KINDS["Namespace"]
SPACE = object_id("default", "")
WEB = object_id("default", "web")
PROOF = bytes(range(64))
TERMS = StakeTerms(min_stake_wei=100, dispute_bond_wei=10, unbond_period_s=2000, resolve_period_s=1000)


class Bench(Protocol):
    async def client(self, index: int = 0) -> Registry: ...

    async def reorg(self, depth: int) -> None: ...

    async def mine(self, blocks: int = 1) -> None: ...

    async def advance(self, seconds: int) -> None: ...


def peer(name: str) -> PeerId:
    return PeerId(hashlib.sha256(name.encode()).digest())


def digest(name: str) -> Digest:
    return Digest(hashlib.sha256(name.encode()).digest())


async def join(bench: Bench, index: int) -> PeerId:
    """Account ``index`` becomes the operator of an Active node."""
    client, admin = await bench.client(index), await bench.client(0)
    who = peer(f"node {index}")
    await client.register_node_with_proof(who, client.operator, PROOF)
    await admin.approve_node(who)
    return who


class View:
    """What a follower has made of the events: the same from every way that leads to one head."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Block, tuple[ChainEvent, ...], Head]] = []
        self.rollbacks = 0
        self.finalized: dict[Finality, int] = {}

    def take(self, item: BlockEvents | Rollback | Finalized) -> None:
        match item:
            case Rollback(to):
                self.rollbacks += 1
                self.blocks = [entry for entry in self.blocks if entry[0].number <= to]
            case BlockEvents(block, events, head):
                assert not self.blocks or block.number > self.blocks[-1][0].number
                assert head.rv == self.head.rv + len(events)
                self.blocks.append((block, events, head))
            case Finalized(level, number):
                self.finalized[level] = number

    @property
    def head(self) -> Head:
        return self.blocks[-1][2] if self.blocks else EMPTY_HEAD

    @property
    def events(self) -> list[ChainEvent]:
        return [event for _, events, _ in self.blocks for event in events]

    def since(self, rv: int) -> list[ChainEvent]:
        """The events after ``rv``: a registry begins with those of its administrator's roles."""
        return [event for event in self.events if event.rv > rv]

    @property
    def known(self) -> list[Block]:
        return [block for block, _, _ in self.blocks]


Stream = AsyncIterator[BlockEvents | Rollback | Finalized]


async def until(stream: Stream, view: View, done: Callable[[View], bool], *, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not done(view):
            view.take(await anext(stream))


async def caught_up(chain: Registry, stream: Stream, view: View) -> None:
    """Follow until the view has the chain's present head."""
    head = await chain.head()
    await until(stream, view, lambda seen: seen.head == head)


async def replay(chain: Registry) -> View:
    view = View()
    head = await chain.head()
    if head != EMPTY_HEAD:
        await until(chain.follow(from_block=0, from_head=EMPTY_HEAD), view, lambda seen: seen.head == head)
    return view


async def object_lifecycle(bench: Bench) -> None:
    chain = await bench.client()
    first = (await chain.head()).rv
    with pytest.raises(NotFound):
        await chain.apply_object(WORKLOAD, WEB, Generation(0), b"no namespace yet")
    assert await chain.apply_object(NAMESPACE, SPACE, Generation(0), b"space") == 1
    assert await chain.apply_object(WORKLOAD, WEB, Generation(0), b"one") == 1
    assert await chain.apply_object(WORKLOAD, WEB, Generation(1), b"two", finalizers=3) == 2
    await chain.delete_object(WORKLOAD, WEB, Generation(2))
    with pytest.raises(Conflict):
        await chain.apply_object(WORKLOAD, WEB, Generation(3), b"while it is being deleted")
    await chain.remove_finalizer(WORKLOAD, WEB, 1)
    await chain.remove_finalizer(WORKLOAD, WEB, 2)
    with pytest.raises(NotFound):
        await chain.delete_object(WORKLOAD, WEB, Generation(3))
    assert await chain.apply_object(WORKLOAD, WEB, Generation(0), b"again") == 4
    events = (await replay(chain)).since(first)
    assert [type(event).__name__ for event in events] == [
        "ObjectApplied",
        "ObjectApplied",
        "ObjectApplied",
        "ObjectApplied",
        "OtherEvent",
        "ObjectDeleted",
        "ObjectApplied",
    ]
    assert events[3] == ObjectApplied(
        rv=first + 4, kind=WORKLOAD, object_id=WEB, generation=Generation(3), owner=chain.operator, envelope=b"", deleting=True
    )
    assert events[5] == ObjectDeleted(rv=first + 6, kind=WORKLOAD, object_id=WEB, generation=Generation(3))
    assert events[6] == ObjectApplied(
        rv=first + 7, kind=WORKLOAD, object_id=WEB, generation=Generation(4), owner=chain.operator, envelope=b"again"
    )


async def generation_conflicts(bench: Bench) -> None:
    chain = await bench.client()
    first = (await chain.head()).rv
    await chain.apply_object(NAMESPACE, SPACE, Generation(0), b"space")
    await chain.apply_object(WORKLOAD, WEB, Generation(0), b"one")
    for expected in (0, 2, 7):
        with pytest.raises(Conflict):
            await chain.apply_object(WORKLOAD, WEB, Generation(expected), b"stale")
        with pytest.raises(Conflict):
            await chain.delete_object(WORKLOAD, WEB, Generation(expected))
    with pytest.raises(Conflict):
        await chain.delete_object(NAMESPACE, SPACE, Generation(1))  # not empty
    with pytest.raises(LimitExceeded):
        await chain.apply_object(WORKLOAD, WEB, Generation(1), bytes(513))
    with pytest.raises(InvalidInput):
        await chain.apply_object(7, WEB, Generation(0), b"no such kind")
    with pytest.raises(InvalidInput):
        await chain.apply_object(NAMESPACE, WEB, Generation(0), b"not a namespace's id")
    assert await chain.apply_object(WORKLOAD, WEB, Generation(1), bytes(512)) == 2
    assert (await chain.head()).rv == first + 3


async def namespaces_belong_to_their_creator(bench: Bench) -> None:
    owner, other = await bench.client(1), await bench.client(2)
    await owner.apply_object(NAMESPACE, SPACE, Generation(0), b"mine")
    for refused in (
        other.apply_object(WORKLOAD, WEB, Generation(0), b"x"),
        other.apply_object(NAMESPACE, SPACE, Generation(1), b"x"),
        other.delete_object(NAMESPACE, SPACE, Generation(1)),
        other.set_access(SPACE[:16], other.operator, Right.WRITE),
    ):
        with pytest.raises(Forbidden):
            await refused
    await owner.set_access(SPACE[:16], other.operator, Right.WRITE)
    assert await other.apply_object(WORKLOAD, WEB, Generation(0), b"as editor") == 1
    with pytest.raises(Forbidden):
        await other.apply_object(NAMESPACE, SPACE, Generation(1), b"an editor is no owner")
    await owner.set_access(SPACE[:16], other.operator, Right.NONE)
    with pytest.raises(Forbidden):
        await other.apply_object(WORKLOAD, WEB, Generation(1), b"no longer")
    await owner.delete_object(WORKLOAD, WEB, Generation(1))
    await owner.set_access(SPACE[:16], other.operator, Right.WRITE)
    await owner.delete_object(NAMESPACE, SPACE, Generation(1))
    third = await bench.client(3)
    assert await third.apply_object(NAMESPACE, SPACE, Generation(0), b"a new owner") == 2
    with pytest.raises(Forbidden):
        await other.apply_object(WORKLOAD, WEB, Generation(0), b"the old owner's editor")


async def membership(bench: Bench) -> None:
    admin, squatter, owner = await bench.client(0), await bench.client(1), await bench.client(2)
    node = peer("wanted")
    with pytest.raises(Forbidden):
        await squatter.register_node(node, owner.operator)
    await squatter.register_node(node, squatter.operator)
    with pytest.raises(AlreadyExists):
        await owner.register_node_with_proof(node, owner.operator, PROOF)
    with pytest.raises(Conflict):
        await admin.approve_node(node)  # without a proof
    with pytest.raises(Forbidden):
        await squatter.approve_node(node)
    await admin.remove_node(node)
    await owner.register_node(node, owner.operator)
    with pytest.raises(InvalidInput):
        await owner.prove_node(node, b"short")
    with pytest.raises(Forbidden):
        await squatter.prove_node(node, PROOF)
    await owner.prove_node(node, PROOF)
    with pytest.raises(Conflict):
        await owner.set_node_status(node, NodeStatus.ACTIVE)  # by approval only
    await admin.approve_node(node)
    with pytest.raises(Forbidden):
        await squatter.publish_node_info(node, b"lies")
    await owner.publish_node_info(node, bytes(1024))
    with pytest.raises(LimitExceeded):
        await owner.publish_node_info(node, bytes(1025))
    for status in (NodeStatus.CORDONED, NodeStatus.ACTIVE, NodeStatus.LEAVING, NodeStatus.GONE):
        await owner.set_node_status(node, status)
    with pytest.raises(NotFound):
        await owner.publish_node_info(node, b"gone")
    events = (await replay(admin)).events
    statuses = [event.status for event in events if isinstance(event, NodeStatusChanged)]
    assert statuses == ["Gone", "Active", "Cordoned", "Active", "Leaving", "Gone"]
    proofs = [(event.operator, event.proof) for event in events if isinstance(event, NodeRegistered)]
    assert proofs == [(squatter.operator, b""), (owner.operator, b""), (owner.operator, PROOF)]


async def append_fence(bench: Bench) -> None:
    await join(bench, 1)
    await join(bench, 2)
    first, second, stranger = await bench.client(1), await bench.client(2), await bench.client(3)
    with pytest.raises(Forbidden):
        await stranger.append_placements(Shard(0), 1, digest("root"), 1, digest("data"))
    with pytest.raises(InvalidInput):
        await first.append_placements(Shard(16), 1, digest("root"), 1, digest("data"))
    with pytest.raises(Conflict):
        await first.append_placements(Shard(5), 2, digest("root"), 1, digest("data"))
    for sequence in range(1, 6):
        roots = [digest(f"{who} {sequence}") for who in ("first", "second")]
        results = await asyncio.gather(
            first.append_placements(Shard(5), sequence, roots[0], 1, digest("data")),
            second.append_placements(Shard(5), sequence, roots[1], 1, digest("data")),
            return_exceptions=True,
        )
        lost = [result for result in results if isinstance(result, BaseException)]
        assert len(lost) == 1, results
        assert isinstance(lost[0], Conflict), lost
        assert await first.placement_sequence(Shard(5)) == sequence
    appended = [event for event in (await replay(first)).events if isinstance(event, PlacementsAppended)]
    assert [event.sequence for event in appended] == [1, 2, 3, 4, 5]
    assert all(event.sender in (first.operator, second.operator) for event in appended)
    assert await first.placement_sequence(Shard(4)) == 0


async def leaves_are_verified(bench: Bench) -> None:
    await join(bench, 1)
    chain = await bench.client(1)
    leaves = [digest(f"leaf {n}") for n in range(5)]
    await chain.append_placements(Shard(3), 1, root_of(leaves), len(leaves), digest("data"))
    for index, leaf in enumerate(leaves):
        assert await chain.verify_placement(Shard(3), 1, leaf, proof_of(leaves, index))
    assert not await chain.verify_placement(Shard(3), 1, digest("another"), proof_of(leaves, 0))
    assert not await chain.verify_placement(Shard(3), 2, leaves[0], proof_of(leaves, 0))
    assert await chain.anchor_deployment(digest("note"))
    with pytest.raises(AlreadyExists):
        await chain.anchor_deployment(digest("note"))


async def down_marks(bench: Bench) -> None:
    lost = await join(bench, 1)
    await join(bench, 2)
    await join(bench, 3)  # three members: two must sign
    clients = [await bench.client(index) for index in range(4)]
    sign = [await client.sign_mark_down(lost, 4) for client in clients]
    assert (await clients[0].down_signers(), await clients[0].down_floor(lost)) == (2, 0)
    for client, signature in zip(clients, sign, strict=True):
        assert clients[0].mark_down_signer(lost, 4, signature) == client.operator
        assert clients[0].mark_down_signer(lost, 5, signature) != client.operator
    assert clients[0].mark_down_signer(lost, 4, b"") is clients[0].mark_down_signer(lost, 4, bytes(64)) is None
    with pytest.raises(Forbidden):
        await clients[0].mark_down(lost, 4, sign[2:3])
    with pytest.raises(Forbidden):
        await clients[0].mark_down(lost, 4, [sign[2], sign[2]])
    with pytest.raises(Forbidden):
        await clients[0].mark_down(lost, 4, [sign[2], sign[0]])  # account 0 operates no node
    with pytest.raises(Forbidden):
        await clients[0].mark_down(lost, 5, sign[2:])  # signed for another incarnation
    with pytest.raises(Conflict):
        await clients[1].mark_up(lost, 9)  # not down
    await clients[0].mark_down(lost, 4, sign[2:])
    with pytest.raises(Conflict):
        await clients[0].mark_down(lost, 4, sign[2:])
    with pytest.raises(Conflict):
        await clients[1].mark_up(lost, 4)
    with pytest.raises(Forbidden):
        await clients[2].mark_up(lost, 6)
    far = 2**63
    with pytest.raises(LimitExceeded):
        await clients[0].mark_down(lost, far, [await client.sign_mark_down(lost, far) for client in clients[2:]])
    with pytest.raises(LimitExceeded):
        await clients[1].mark_up(lost, far)
    assert await clients[0].down_floor(lost) == 4
    await clients[1].mark_up(lost, 6)
    assert await clients[0].down_floor(lost) == 5
    stale = [await client.sign_mark_down(lost, 5) for client in clients[2:]]
    with pytest.raises(Conflict):
        await clients[0].mark_down(lost, 5, stale)
    await clients[0].set_down_signers(1)
    await clients[0].mark_down(lost, 6, [await clients[3].sign_mark_down(lost, 6)])
    marks = [(type(e), e.incarnation) for e in (await replay(clients[0])).events if isinstance(e, NodeMarkedDown | NodeMarkedUp)]
    assert marks == [(NodeMarkedDown, 4), (NodeMarkedUp, 6), (NodeMarkedDown, 6)]


async def policy_and_epochs(bench: Bench) -> None:
    admin, other = await bench.client(0), await bench.client(1)
    first = (await admin.head()).rv
    assert await admin.get_policy() == b""
    await admin.set_policy(b"policy" * 20)
    assert await other.get_policy() == b"policy" * 20
    with pytest.raises(LimitExceeded):
        await admin.set_policy(bytes(4097))
    for refused in (other.set_policy(b"x"), other.publish_epoch(Epoch(1), digest("keys"), FAKE_PARTS), other.set_down_signers(1)):
        with pytest.raises(Forbidden):
            await refused
    await admin.publish_epoch(Epoch(1), digest("keys"), FAKE_PARTS)
    with pytest.raises(Conflict):
        await admin.publish_epoch(Epoch(1), digest("other keys"), FAKE_PARTS)
    await admin.publish_epoch(Epoch(2), digest("new keys"), FAKE_PARTS)
    await admin.retire_epoch(Epoch(1))
    with pytest.raises(Conflict):
        await admin.retire_epoch(Epoch(1))
    assert (await replay(other)).since(first) == [
        PolicyChanged(rv=first + 1, policy=b"policy" * 20),
        EpochPublished(rv=first + 2, epoch=1, digest=digest("keys")),
        EpochPublished(rv=first + 3, epoch=2, digest=digest("new keys")),
        EpochRetired(rv=first + 4, epoch=1),
    ]


async def stakes_and_payments(bench: Bench) -> None:
    admin, operator, other = await bench.client(0), await bench.client(1), await bench.client(2)
    node = peer("staked")
    await admin.set_stake_terms(TERMS)
    assert await other.stake_terms() == TERMS
    with pytest.raises(NotFound):
        await operator.stake(node, 5)
    await operator.register_node_with_proof(node, operator.operator, PROOF)
    with pytest.raises(Conflict):
        await admin.approve_node(node)  # without a stake
    with pytest.raises(InvalidInput):
        await operator.stake(node, 0)
    await operator.stake(node, 60)
    await other.stake(node, 60)
    await admin.approve_node(node)
    for refused in (other.slash(node, 1, digest("reason")), other.pay_pool(other.operator, 1), other.set_stake_terms(TERMS)):
        with pytest.raises(Forbidden):
            await refused
    await admin.slash(node, 50, digest("reason"))
    assert (await other.stake_of(node)).amount_wei == 70
    with pytest.raises(Conflict):
        await operator.set_node_status(node, NodeStatus.ACTIVE)  # cordoned below the minimum
    with pytest.raises(LimitExceeded):
        await admin.pay_pool(other.operator, 51)
    await admin.pay_pool(other.operator, 50)
    assert (await other.slashed_pool(), await other.credit_of(other.operator)) == (0, 50)
    await other.withdraw(other.operator)
    with pytest.raises(NotFound):
        await other.withdraw(other.operator)
    await admin.remove_node(node)  # leaves, as there is a stake
    with pytest.raises(Conflict):
        await operator.stake(node, 1)
    with pytest.raises(Conflict):
        await operator.set_node_status(node, NodeStatus.GONE)
    await bench.advance(TERMS.unbond_period_s + 1)
    await operator.set_node_status(node, NodeStatus.GONE)
    assert await other.credit_of(operator.operator) == 70
    await operator.withdraw(operator.operator)
    assert await other.credit_of(operator.operator) == 0
    events = (await replay(admin)).events
    assert [event.status for event in events if isinstance(event, NodeStatusChanged)] == ["Active", "Cordoned", "Leaving", "Gone"]


async def disputes(bench: Bench) -> None:
    accused = await join(bench, 1)
    admin, operator, other = await bench.client(0), await bench.client(1), await bench.client(2)
    await admin.set_stake_terms(TERMS)
    await operator.stake(accused, 100)
    leaves = [digest(f"leaf {n}") for n in range(3)]
    await operator.append_placements(Shard(7), 1, root_of(leaves), 3, digest("data"))
    await operator.anchor_deployment(digest("note"))
    about: dict[str, Any] = {"accused": accused, "evidence": digest("evidence")}
    with pytest.raises(NotFound):
        await other.dispute_placement(Shard(7), 2, leaves[1], proof_of(leaves, 1), bond_wei=10, **about)
    with pytest.raises(NotFound):
        await other.dispute_deployment(digest("another note"), bond_wei=10, **about)
    with pytest.raises(InvalidInput):
        await other.dispute_deployment(digest("note"), bond_wei=9, **about)
    one = await other.dispute_placement(Shard(7), 1, leaves[1], proof_of(leaves, 1), bond_wei=10, **about)
    two = await other.dispute_deployment(digest("note"), bond_wei=15, **about)
    three = await other.dispute_placement(Shard(7), 1, leaves[2], proof_of(leaves, 2), bond_wei=20, **about)
    with pytest.raises(Conflict):
        await other.dispute_deployment(digest("note"), bond_wei=15, **about)
    assert (await other.stake_of(accused)).disputes == 3
    found = await other.get_dispute(two)
    assert (found.accused, found.by, found.status, found.bond_wei) == (accused, other.operator, DisputeStatus.OPEN, 15)
    with pytest.raises(Forbidden):
        await other.resolve_dispute(one, upheld=True, slash_wei=100, reason=digest("why"))
    await admin.resolve_dispute(one, upheld=True, slash_wei=30, reason=digest("why"))
    await admin.resolve_dispute(two, upheld=False, slash_wei=30, reason=digest("why"))
    with pytest.raises(Conflict):
        await admin.resolve_dispute(one, upheld=False, slash_wei=0, reason=digest("why"))
    with pytest.raises(Conflict):
        await other.lapse_dispute(three)
    await bench.advance(TERMS.resolve_period_s + 1)
    await operator.lapse_dispute(three)
    assert (await other.stake_of(accused)).amount_wei == 70
    assert (await other.slashed_pool(), await other.credit_of(other.operator)) == (45, 30)
    statuses = [(await other.get_dispute(which)).status for which in (one, two, three, digest("none"))]
    assert statuses == ["Upheld", "Rejected", "Lapsed", "None"]
    told = [event for event in (await replay(other)).events if isinstance(event, DisputeOpened | DisputeClosed)]
    assert [event.dispute for event in told] == [one, two, three] * 2
    assert {event.accused for event in told} == {accused}
    assert [event.by for event in told if isinstance(event, DisputeOpened)] == [other.operator] * 3
    assert [event.status for event in told if isinstance(event, DisputeClosed)] == statuses[:3]
    assert await read_disputes(other) == dict(zip((one, two, three), statuses, strict=False))
    again = await other.dispute_placement(Shard(7), 1, leaves[2], proof_of(leaves, 2), bond_wei=10, **about)
    assert await read_disputes(other) == {one: "Upheld", two: "Rejected", again: "Open"}


async def an_append_is_disputed_as_a_whole(bench: Bench) -> None:
    accused = await join(bench, 1)
    admin, operator, other = await bench.client(0), await bench.client(1), await bench.client(2)
    await admin.set_stake_terms(TERMS)
    await operator.stake(accused, 100)
    await operator.append_placements(Shard(7), 1, digest("root"), 3, digest("data"))
    about: dict[str, Any] = {"accused": accused, "evidence": digest("evidence"), "bond_wei": 10}
    with pytest.raises(NotFound):
        await other.dispute_append(Shard(7), 2, **about)
    with pytest.raises(NotFound):
        await other.dispute_append(Shard(8), 1, **about)
    whole = await other.dispute_append(Shard(7), 1, **about)
    with pytest.raises(Conflict):
        await other.dispute_append(Shard(7), 1, **about)
    await admin.resolve_dispute(whole, upheld=True, slash_wei=30, reason=digest("why"))
    assert ((await other.stake_of(accused)).amount_wei, await other.credit_of(other.operator)) == (70, 10)
    assert (await other.get_dispute(whole)).status is DisputeStatus.UPHELD


async def rights_owners_and_limits(bench: Bench) -> None:
    node = await join(bench, 3)
    admin, owner, other = await bench.client(0), await bench.client(1), await bench.client(2)
    space, team = SPACE[:16], role_id("TEAM")
    await owner.apply_object(NAMESPACE, SPACE, Generation(0), b"space")
    await owner.set_access(space, other.operator, Right.EDIT | Right.VIEW)
    assert await admin.rights_of(space, other.operator) == Right.EDIT | Right.VIEW
    await other.apply_object(KINDS["GitSource"], WEB, Generation(0), b"edited")
    with pytest.raises(Forbidden):
        await other.apply_object(WORKLOAD, WEB, Generation(0), b"needs REQUEST")
    await owner.set_home_peers(space, [node])
    assert any(await admin.home_peers_digest(space))
    with pytest.raises(NotFound):
        await owner.set_home_peers(space, [peer("nobody")])
    with pytest.raises(LimitExceeded):
        await owner.set_home_peers(space, [node] * 4)
    with pytest.raises(Forbidden):
        await other.set_namespace_owner(space, other.operator)
    await owner.set_namespace_owner_role(space, team)
    assert (await admin.namespace_owner(space)).role == team
    assert await admin.rights_of(space, other.operator) == Right.NONE, "rights end with their owner"
    with pytest.raises(Forbidden):
        await owner.set_access(space, other.operator, Right.ALL)
    with pytest.raises(Forbidden):
        await other.grant_role("TEAM", other.operator)
    await admin.grant_role("TEAM", other.operator)
    assert await admin.has_role("TEAM", other.operator)
    await other.apply_object(WORKLOAD, WEB, Generation(0), b"by the team")
    await admin.revoke_role("TEAM", other.operator)
    with pytest.raises(Forbidden):
        await other.apply_object(WORKLOAD, WEB, Generation(1), b"no longer")
    for refused in (other.set_restricted(True), other.set_decision_limit(space, 5)):
        with pytest.raises(Forbidden):
            await refused
    await admin.set_decision_limit(bytes(16), 50)
    assert await other.decision_limit(space) == 50
    await admin.set_decision_limit(space, 5)
    assert await other.decision_limit(space) == 5
    await admin.set_restricted(True)
    assert await other.is_restricted()
    with pytest.raises(Forbidden):
        await owner.apply_object(NAMESPACE, object_id("second", ""), Generation(0), b"x")
    events = (await replay(other)).events
    told = [event for event in events if isinstance(event, AccessChanged | HomePeersChanged | DecisionLimitChanged)]
    assert [replace(event, rv=0) for event in told] == [
        AccessChanged(rv=0, namespace=space, account=other.operator, rights=3),
        HomePeersChanged(rv=0, namespace=space, peers=(node,)),
        DecisionLimitChanged(rv=0, namespace=bytes(16), per_epoch=50),
        DecisionLimitChanged(rv=0, namespace=space, per_epoch=5),
    ]
    moved = [event for event in events if isinstance(event, NamespaceOwnerChanged)]
    assert [(event.object_id, event.owner) for event in moved] == [(SPACE, (await admin.namespace_owner(space)).address)]


async def kinds_with_their_own_functions(bench: Bench) -> None:
    chain = await bench.client(1)
    await chain.apply_object(NAMESPACE, SPACE, Generation(0), b"space")
    for kind in (0, 7, 8, 9, 10):
        with pytest.raises(InvalidInput):
            await chain.apply_object(kind, WEB, Generation(0), b"x")


async def labels_images_and_epoch_parts(bench: Bench) -> None:
    node = await join(bench, 1)
    admin, operator, other = await bench.client(0), await bench.client(1), await bench.client(2)
    with pytest.raises(Forbidden):
        await other.set_node_labels(node, digest("labels"))
    await operator.set_node_labels(node, digest("own"))
    await admin.set_node_labels(node, digest("labels"))
    assert await other.node_labels(node) == digest("labels")
    images = [digest(f"image {n}") for n in range(4)]
    leaves = [Digest(bytes(keccak(keccak(image)))) for image in images]
    assert await other.is_image_allowed(images[0], [])
    await admin.set_image_root(root_of(leaves), digest("list"))
    assert await other.is_image_allowed(images[2], proof_of(leaves, 2))
    assert not await other.is_image_allowed(images[1], proof_of(leaves, 2))
    await admin.commit_image(digest("name"), images[0])
    assert await other.image_manifest(digest("name")) == images[0]
    for refused in (other.set_image_root(digest("x"), digest("x")), other.commit_image(digest("name"), images[1])):
        with pytest.raises(Forbidden):
            await refused
    told = [e for e in (await replay(other)).events if isinstance(e, NodeLabelsChanged | ImageRootChanged | ImageCommitted)]
    assert [replace(event, rv=0) for event in told] == [
        NodeLabelsChanged(rv=0, peer=node, labels=digest("own"), by=operator.operator),
        NodeLabelsChanged(rv=0, peer=node, labels=digest("labels"), by=admin.operator),
        ImageRootChanged(rv=0, root=root_of(leaves), images=digest("list")),
        ImageCommitted(rv=0, name=digest("name"), manifest=images[0]),
    ]
    await admin.publish_epoch(Epoch(3), digest("three"), FAKE_PARTS)
    for wrong in ({"threshold": 4}, {"threshold": 0}, {"circuits": Digest(bytes(32))}, {"size": 65}):
        with pytest.raises(InvalidInput):
            await admin.publish_epoch(Epoch(4), digest("four"), replace(FAKE_PARTS, **wrong))  # type: ignore[arg-type]
    for number in (4, 5, 6):
        await admin.publish_epoch(Epoch(number), digest(str(number)), FAKE_PARTS)
    assert await other.get_epoch(Epoch(4)) == EpochRecord(EpochStatus.PREPARED, digest("4"), FAKE_PARTS)
    await admin.activate_epoch(Epoch(5))
    with pytest.raises(Conflict):
        await admin.activate_epoch(Epoch(4))
    await admin.retire_epoch(Epoch(5))
    assert await other.active_epoch() == 6
    statuses = [(await other.get_epoch(Epoch(number))).status for number in range(2, 7)]
    assert statuses == ["None", "Retired", "Retired", "Retired", "Active"]


async def a_pause(bench: Bench) -> None:
    admin, other = await bench.client(0), await bench.client(1)
    with pytest.raises(Forbidden):
        await other.set_paused(True)
    await admin.set_paused(True)
    with pytest.raises(Refused):
        await other.apply_object(NAMESPACE, SPACE, Generation(0), b"x")
    with pytest.raises(Refused):
        await admin.set_decision_limit(bytes(16), 5)
    assert await other.get_policy() == b""
    await admin.grant_role("NODE_ADMIN", other.operator)
    await admin.set_paused(False)
    await other.apply_object(NAMESPACE, SPACE, Generation(0), b"x")


async def roles_and_pauses_are_in_the_head_chain(bench: Bench) -> None:
    admin, other = await bench.client(0), await bench.client(1)
    first = (await admin.head()).rv
    await admin.grant_role("TEAM", other.operator)
    await admin.grant_role("TEAM", other.operator)
    await admin.set_role_admin("TEAM", "LEAD")
    with pytest.raises(Forbidden):
        await admin.revoke_role("TEAM", other.operator)
    with pytest.raises(Forbidden):
        await other.set_role_admin("TEAM", "TEAM")
    await admin.grant_role("LEAD", other.operator)
    await other.revoke_role("TEAM", other.operator)
    await admin.set_paused(True)
    await admin.set_paused(False)
    view = await replay(other)
    team, lead = role_id("TEAM"), role_id("LEAD")
    assert view.since(first) == [
        RoleChanged(rv=first + 1, role=team, account=other.operator, held=True),
        OtherEvent(rv=first + 2, name="RoleAdminSet"),
        RoleChanged(rv=first + 3, role=lead, account=other.operator, held=True),
        RoleChanged(rv=first + 4, role=team, account=other.operator, held=False),
        OtherEvent(rv=first + 5, name="PauseChanged"),
        OtherEvent(rv=first + 6, name="PauseChanged"),
    ]
    assert view.head == await admin.head()


async def _fill(chain: Registry, count: int) -> None:
    await chain.apply_object(NAMESPACE, SPACE, Generation(0), b"space")
    for index in range(count):
        await chain.apply_object(WORKLOAD, object_id("default", f"w{index}"), Generation(0), b"%d" % index)


async def follow_and_finality(bench: Bench) -> None:
    chain = await bench.client()
    view, stream = View(), chain.follow(from_block=0, from_head=EMPTY_HEAD)
    await _fill(chain, 3)
    await caught_up(chain, stream, view)
    await until(stream, view, lambda seen: seen.finalized.get(Finality.LATEST, 0) >= seen.blocks[-1][0].number)
    before = view.known[-1].number
    await bench.mine(2)
    await until(stream, view, lambda seen: seen.finalized[Finality.LATEST] >= before + 2)
    assert view.known[-1].number >= before + 2, "blocks without events move the cursor"
    await until(stream, view, lambda seen: seen.finalized.get(Finality.FINALIZED, 0) > 0)
    assert view.finalized[Finality.FINALIZED] <= view.finalized[Finality.SAFE] <= view.finalized[Finality.LATEST]


async def resume_from_cursor(bench: Bench) -> None:
    chain = await bench.client()
    first = (await chain.head()).rv
    await _fill(chain, 3)
    view = await replay(chain)
    await chain.apply_object(WORKLOAD, WEB, Generation(0), b"while away")
    last = view.known[-1].number
    for known in (view.known[-3:], []):
        again = View()
        again.blocks = list(view.blocks)
        await caught_up(chain, chain.follow(from_block=last, from_head=view.head, known=known), again)
        assert [event.rv for event in again.since(first)] == [first + n for n in (1, 2, 3, 4, 5)]


async def reorg_while_following(bench: Bench, depth: int = 3) -> None:
    chain = await bench.client()
    await _fill(chain, 5)
    view, stream = View(), chain.follow(from_block=0, from_head=EMPTY_HEAD)
    await caught_up(chain, stream, view)
    await bench.reorg(depth)
    await chain.apply_object(WORKLOAD, WEB, Generation(0), b"on the other branch")
    await caught_up(chain, stream, view)
    assert view.rollbacks >= 1
    assert view.events == (await replay(chain)).events
    assert [event.rv for event in view.events] == list(range(1, len(view.events) + 1))
    last = view.events[-1]
    assert isinstance(last, ObjectApplied)
    assert last.envelope == b"on the other branch"


async def reorg_while_away(bench: Bench) -> None:
    chain = await bench.client()
    await _fill(chain, 5)
    stored = await replay(chain)
    await bench.reorg(3)
    await chain.apply_object(WORKLOAD, WEB, Generation(0), b"on the other branch")
    fresh = await replay(chain)
    for known in (stored.known, stored.known[-1:], []):
        view = View()
        view.blocks = list(stored.blocks)
        stream = chain.follow(from_block=stored.known[-1].number, from_head=stored.head, known=known)
        await until(stream, view, lambda seen: seen.head == fresh.head)
        assert view.rollbacks >= 1
        assert view.events == fresh.events


async def a_cursor_of_another_history(bench: Bench) -> None:
    chain = await bench.client()
    await _fill(chain, 2)
    view = View()
    stream = chain.follow(from_block=(await replay(chain)).known[-1].number, from_head=Head(2, b"\1" * 24))
    await until(stream, view, lambda seen: seen.rollbacks > 0)
    await caught_up(chain, stream, view)
    assert view.events == (await replay(chain)).events


CASES: list[Callable[[Any], Awaitable[None]]] = [
    object_lifecycle,
    generation_conflicts,
    namespaces_belong_to_their_creator,
    membership,
    append_fence,
    leaves_are_verified,
    down_marks,
    policy_and_epochs,
    stakes_and_payments,
    disputes,
    an_append_is_disputed_as_a_whole,
    rights_owners_and_limits,
    kinds_with_their_own_functions,
    labels_images_and_epoch_parts,
    a_pause,
    roles_and_pauses_are_in_the_head_chain,
    follow_and_finality,
    resume_from_cursor,
    reorg_while_following,
    reorg_while_away,
    a_cursor_of_another_history,
]
"""Each takes a :class:`Bench`."""

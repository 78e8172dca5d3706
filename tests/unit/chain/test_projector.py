"""The projection against a chain that changes its mind: it always equals a fresh replay of what the chain says now."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from veil.chain.fake import FAKE_PARTS, FakeChain
from veil.chain.fake_ledger import Ledger
from veil.chain.ports import (
    Block,
    BlockEvents,
    ChainEvent,
    Finality,
    Head,
    NodeInfoPublished,
    NodeRegistered,
    NodeStatus,
    NodeStatusChanged,
    PolicyChanged,
    Rollback,
)
from veil.chain.projector import BATCH_MAX, Change, apply, follow
from veil.chain.records import Right, role_id
from veil.errors import DeadlineExceeded, HeadMismatch, StorageUnavailable, VeilError
from veil.identity import Identity
from veil.store.projection import Projection
from veil.store.rows import ImagesRow, NamespaceRow
from veil.store.tables import TABLES, UNDO_BLOCKS
from veil.types import TERM_BLOCKS, Address, Digest, Epoch, Generation, ObjectId, PeerId, Secret, Shard
from veil.wire.codec import encode
from veil.wire.nodes import HOSTNAME_LABEL, NodeInfo, labels_digest, prove_possession
from veil.wire.objects import KINDS, Envelope, encode_envelope, object_id
from veil.wire.signed import sign

WORKLOAD = KINDS["Workload"]
NAMESPACE = KINDS["Namespace"]


def operator(index: int) -> Address:
    return Address("0x" + f"{index + 1:02x}" * 20)


def identity(index: int) -> Identity:
    return Identity(Secret(bytes([index + 1]) * 32))


@pytest.fixture
def chains() -> list[FakeChain]:
    ledger = Ledger(operator(0))
    return [FakeChain(ledger, operator(index)) for index in range(3)]


@pytest.fixture
def chain(chains: list[FakeChain]) -> FakeChain:
    chains[0].ledger.acl = False
    return chains[0]


def content(projection: Projection) -> dict[str, list[Any]]:
    """Every row, whatever way it came in."""
    tables = {name: projection._tables.scan(table) for name, table in TABLES.items() if name != "blocks"}
    return tables | {"head": [projection.head()], "tip": [projection.finality("latest")]}


@asynccontextmanager
async def following(chain: Any, projection: Projection) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(follow(chain, projection))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, VeilError):
            await task


async def caught_up(chain: FakeChain, projection: Projection) -> None:
    last = chain.ledger.blocks[-1]

    def is_there() -> bool:
        cursor = projection.cursor()
        return cursor.known != () and cursor.known[-1].hash == last.block.hash

    if len(chain.ledger.blocks) > 1:
        await projection.wait_until(is_there, 5)


async def replayed(chain: FakeChain) -> Projection:
    """A fresh projection that has seen what the chain says now."""
    projection = Projection(None, chain.cluster)
    async with following(chain, projection):
        await caught_up(chain, projection)
    return projection


async def register(chain: FakeChain, index: int, *, status: NodeStatus = NodeStatus.ACTIVE, name: str = "") -> PeerId:
    me = identity(index)
    await chain.register_node_with_proof(me.peer_id, chain.operator, prove_possession(me, chain.cluster, chain.operator))
    if status is not NodeStatus.PENDING:
        await chain.approve_node(me.peer_id)
    if name:
        await chain.publish_node_info(me.peer_id, node_info(chain, index, name=name))
    return me.peer_id


def node_info(chain: FakeChain, index: int, *, name: str, sequence: int = 1, peer: PeerId | None = None) -> bytes:
    me = identity(index)
    info = NodeInfo(
        peer=peer or me.peer_id, sequence=sequence, name=name, addresses=("/ip4/127.0.0.1/tcp/1",), labels={"zone": "a"}
    )
    return encode(sign(me, chain.cluster, info))


def envelope(replicas: int = 1, *, body: int = 0, **fields: Any) -> bytes:
    """A Workload's, with one of many templates."""
    values: dict[str, Any] = {"namespace": "default", "name": "w", "uid": bytes(16), "body": bytes([body]) * 32}
    return encode_envelope(Envelope(kind="Workload", replicas=replicas, **(values | fields)))


class History:
    """Random but valid and invalid calls; refusals are part of it."""

    def __init__(self, chains: list[FakeChain], draw: random.Random) -> None:
        self.chains = chains
        self.chain = chains[0]
        self.draw = draw

    async def step(self) -> None:
        name = self.draw.choice([n for n in dir(self) if n.startswith("do_")])
        with suppress(VeilError):
            await getattr(self, name)()

    def object(self) -> ObjectId:
        return object_id("default", f"w{self.draw.randrange(6)}")

    def generation(self, which: ObjectId) -> Generation:
        record = self.chain.ledger.state.objects.get((WORKLOAD, which))
        return Generation(record.generation if record and record.live else 0)

    async def do_apply(self) -> None:
        which = self.object()
        data = envelope(self.draw.randrange(4), body=self.draw.randrange(2)) if self.draw.random() < 0.8 else b"unreadable"
        await self.chain.apply_object(WORKLOAD, which, self.generation(which), data, finalizers=self.draw.randrange(2))

    do_apply_again = do_apply
    do_apply_more = do_apply

    async def do_delete(self) -> None:
        which = self.object()
        await self.chain.delete_object(WORKLOAD, which, self.generation(which))

    async def do_finalize(self) -> None:
        await self.chain.remove_finalizer(WORKLOAD, self.object(), 1)

    async def do_append(self) -> None:
        shard = Shard(self.draw.randrange(3))
        sequence = await self.chain.placement_sequence(shard) + 1
        await self.chain.append_placements(shard, sequence, Digest(self.draw.randbytes(32)), 1, Digest(self.draw.randbytes(32)))

    async def do_register(self) -> None:
        index = self.draw.randrange(3)
        await register(self.chains[index], index, status=NodeStatus.PENDING)

    async def do_approve(self) -> None:
        await self.chain.approve_node(identity(self.draw.randrange(3)).peer_id)

    async def do_remove(self) -> None:
        await self.chain.remove_node(identity(self.draw.randrange(3)).peer_id)

    async def do_status(self) -> None:
        status = self.draw.choice([NodeStatus.CORDONED, NodeStatus.ACTIVE, NodeStatus.LEAVING])
        await self.chain.set_node_status(identity(self.draw.randrange(3)).peer_id, status)

    async def do_info(self) -> None:
        index = self.draw.randrange(3)
        info = node_info(self.chain, index, name="same", sequence=self.draw.randrange(9))
        await self.chains[index].publish_node_info(identity(index).peer_id, info)

    async def do_down(self) -> None:
        peer, incarnation = identity(self.draw.randrange(3)).peer_id, self.draw.randrange(1, 9)
        signatures = [await chain.sign_mark_down(peer, incarnation) for chain in self.chains]
        await self.chain.mark_down(peer, incarnation, signatures)

    async def do_up(self) -> None:
        index = self.draw.randrange(3)
        await self.chains[index].mark_up(identity(index).peer_id, self.draw.randrange(1, 12))

    async def do_policy(self) -> None:
        await self.chain.set_policy(self.draw.randbytes(5))

    async def do_epoch(self) -> None:
        epoch = max(self.chain.ledger.state.epochs, default=0)
        if epoch and self.draw.random() < 0.4:
            await self.chain.retire_epoch(Epoch(epoch))
        else:
            await self.chain.publish_epoch(Epoch(epoch + 1), Digest(self.draw.randbytes(32)), FAKE_PARTS)

    async def do_mine(self) -> None:
        for _ in range(self.draw.choice([1, 1, 1, 40])):
            self.chain.ledger.mine()

    async def do_reorg(self) -> None:
        deepest = min(60, len(self.chain.ledger.blocks) - 1)
        if deepest:
            self.chain.ledger.reorg(self.draw.randint(1, deepest))


@pytest.mark.parametrize("_", range(6))
async def test_it_equals_a_fresh_replay(chains: list[FakeChain], tmp_path: Path, _: int) -> None:
    """Random histories with reorgs, followed with stops: the same rows as a replay from the first block."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    history = History(chains, draw)
    chain = chains[0]
    chain.ledger.acl = False
    path = tmp_path / "store.db"
    for _round in range(6):
        projection = Projection(path, chain.cluster)
        async with following(chain, projection):
            for _step in range(draw.randrange(60)):
                await history.step()
                if draw.random() < 0.5:
                    await asyncio.sleep(0)
            await caught_up(chain, projection)
            fresh = await replayed(chain)
            assert content(projection) == content(fresh)
            assert projection.nodes() == fresh.nodes()
            assert sorted(projection.objects(), key=str) == sorted(fresh.objects(), key=str)
            fresh.close()
        projection.close()
        for _step in range(draw.randrange(30)):
            await history.step()
    path.unlink()
    rebuilt = Projection(path, chain.cluster)
    async with following(chain, rebuilt):
        await caught_up(chain, rebuilt)
    fresh = await replayed(chain)
    assert content(rebuilt) == content(fresh)
    rebuilt.close()
    fresh.close()


async def test_objects_live_and_end(chain: FakeChain) -> None:
    which = object_id("default", "hello")
    projection = Projection(None, chain.cluster)
    async with following(chain, projection):
        await chain.apply_object(WORKLOAD, which, Generation(0), b"one", finalizers=1)
        await chain.apply_object(WORKLOAD, which, Generation(1), b"two", finalizers=1)
        await caught_up(chain, projection)
        row = projection.object(WORKLOAD, which)
        assert row is not None
        assert (row.generation, row.envelope, row.deleting, row.owner) == (2, b"two", False, chain.operator)
        assert (row.block, row.block_hash) == (2, chain.ledger.blocks[2].block.hash)
        await chain.delete_object(WORKLOAD, which, Generation(2))
        await caught_up(chain, projection)
        row = projection.object(WORKLOAD, which)
        assert row is not None
        assert (row.envelope, row.deleting) == (b"two", True), "the last envelope holds until the finalizers are gone"
        await chain.remove_finalizer(WORKLOAD, which, 1)
        await caught_up(chain, projection)
        assert projection.object(WORKLOAD, which) is None
        assert projection.objects() == []
    projection.close()


def template_of(projection: Projection, which: ObjectId) -> tuple[int, int, bytes]:
    row = projection.object(WORKLOAD, which)
    assert row is not None
    return row.template_generation, row.template_block, row.template_block_hash


async def test_scaling_and_labels_leave_the_template_s_generation(chain: FakeChain) -> None:
    which = object_id("default", "hello")
    projection = Projection(None, chain.cluster)
    changes = [
        (envelope(1), 1),
        (envelope(3), 1),
        (envelope(3, labels={"a": "b"}), 1),
        (envelope(3, body=1), 4),
        (envelope(1, body=1), 4),
        (envelope(1, body=0), 6),
        (b"unreadable", 7),
        (b"unreadable too", 8),
        (b"unreadable too", 8),
        (envelope(1), 10),
    ]
    async with following(chain, projection):
        for generation, (data, since) in enumerate(changes):
            await chain.apply_object(WORKLOAD, which, Generation(generation), data, finalizers=1)
            await caught_up(chain, projection)
            assert template_of(projection, which) == (since, since, chain.ledger.blocks[since].block.hash)
        await chain.delete_object(WORKLOAD, which, Generation(len(changes)))
        await caught_up(chain, projection)
        assert template_of(projection, which)[0] == 10, "what is being deleted runs until it is gone"
        await chain.remove_finalizer(WORKLOAD, which, 1)
        await chain.apply_object(WORKLOAD, which, Generation(0), envelope(1))
        await caught_up(chain, projection)
        assert template_of(projection, which)[:2] == (12, 13), "the same again after a deletion is a new one"
    projection.close()


async def test_a_reorg_takes_the_template_s_generation_back(chain: FakeChain, tmp_path: Path) -> None:
    which = object_id("default", "hello")
    projection = Projection(tmp_path / "store.db", chain.cluster)
    async with following(chain, projection):
        await chain.apply_object(WORKLOAD, which, Generation(0), envelope(1))
        await chain.apply_object(WORKLOAD, which, Generation(1), envelope(2, body=1))
        await caught_up(chain, projection)
        assert template_of(projection, which)[:2] == (2, 2)
        chain.ledger.reorg(1)
        await caught_up(chain, projection)
        fresh = await replayed(chain)
        assert template_of(projection, which) == template_of(fresh, which)
        fresh.close()
        row = projection.object(WORKLOAD, which)
        assert row is not None
        await chain.apply_object(WORKLOAD, which, row.generation, envelope(2))
        await caught_up(chain, projection)
    before = template_of(projection, which)
    projection.close()
    again = Projection(tmp_path / "store.db", chain.cluster)
    assert template_of(again, which) == before
    fresh = await replayed(chain)
    assert template_of(fresh, which) == before
    fresh.close()
    again.close()


async def test_log_epochs_policy_finality(chain: FakeChain) -> None:
    for sequence in (1, 2):
        await chain.append_placements(Shard(3), sequence, Digest(bytes([sequence]) * 32), 5, Digest(b"d" * 32))
    await chain.append_placements(Shard(4), 1, Digest(b"x" * 32), 1, Digest(b"d" * 32))
    await chain.publish_epoch(Epoch(1), Digest(b"1" * 32), FAKE_PARTS)
    await chain.publish_epoch(Epoch(2), Digest(b"2" * 32), FAKE_PARTS)
    await chain.set_policy(b"policy")
    projection = await replayed(chain)
    assert [(row.sequence, row.count, row.sender, row.block) for row in projection.log(3)] == [
        (1, 5, chain.operator, 1),
        (2, 5, chain.operator, 2),
    ]
    at = projection.log_at(4, 1)
    assert at is not None
    assert at.root == b"x" * 32
    assert projection.log_at(4, 2) is None
    active, following = projection.active_epoch(), projection.next_epoch()
    assert active is not None
    assert following is not None
    assert (active.epoch, following.epoch) == (1, 2)
    await chain.retire_epoch(Epoch(1))
    projection.close()
    projection = await replayed(chain)
    assert [(row.epoch, row.active) for row in projection.epochs()] == [(1, False), (2, True)]
    active = projection.active_epoch()
    assert active is not None
    assert (active.epoch, projection.next_epoch()) == (2, None)
    assert projection.policy() == b"policy"
    tip = len(chain.ledger.blocks) - 1
    await asyncio.sleep(0)
    assert projection.finality("latest") == tip
    assert projection.finality(Finality.SAFE) <= tip - 1
    assert projection.head() == (chain.ledger.state.head.rv, chain.ledger.state.head.accumulator)
    projection.close()


async def test_a_node_is_proven_by_its_own_key_for_its_own_operator(
    chains: list[FakeChain], caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = chains
    await first.register_node(identity(0).peer_id, first.operator)
    # somebody else's key, and the right key for somebody else's account: both are what a squatter can make or copy
    forged = prove_possession(identity(9), second.cluster, second.operator)
    await second.register_node_with_proof(identity(1).peer_id, second.operator, forged)
    copied = prove_possession(identity(2), third.cluster, first.operator)
    await third.register_node_with_proof(identity(2).peer_id, third.operator, copied)
    projection = await replayed(first)
    assert [row.proven for row in projection.nodes()] == [False, False, False]
    assert caplog.text.count("proof of possession") == 2
    await first.prove_node(identity(0).peer_id, prove_possession(identity(0), first.cluster, first.operator))
    await third.prove_node(identity(2).peer_id, prove_possession(identity(2), third.cluster, third.operator))
    projection.close()
    projection = await replayed(first)
    assert [row.proven for row in projection.nodes()] == [True, False, True]
    assert [row.operator for row in projection.nodes()] == [c.operator for c in chains]
    projection.close()


async def test_a_new_registration_begins_anew(chains: list[FakeChain]) -> None:
    first, second, _ = chains
    peer = await register(first, 0, name="node-a")
    await first.remove_node(peer)
    await first.register_node(peer, second.operator)
    projection = await replayed(first)
    row = projection.node(peer)
    assert row is not None
    assert (row.operator, row.status, row.proven, row.info) == (second.operator, "Pending", False, None)
    projection.close()


async def test_node_infos_are_the_peers_own_and_the_newest(chains: list[FakeChain], caplog: pytest.LogCaptureFixture) -> None:
    chain = chains[0]
    peer = await register(chain, 0, name="node-a")
    by_another = encode(sign(identity(1), chain.cluster, NodeInfo(peer=peer, sequence=9, name="evil", addresses=())))
    other_cluster = encode(
        sign(identity(0), type(chain.cluster)(bytes(32)), NodeInfo(peer=peer, sequence=9, name="evil", addresses=()))
    )
    about_another = node_info(chain, 0, name="evil", sequence=9, peer=identity(1).peer_id)
    older = node_info(chain, 0, name="evil", sequence=1)
    for info in (by_another, other_cluster, about_another, older, b"junk", b""):
        await chain.publish_node_info(peer, info)
    projection = await replayed(chain)
    row = projection.node(peer)
    assert row is not None
    assert (row.name, row.labels) == ("node-a", {"zone": "a"})
    assert caplog.text.count("node info of") == 6
    projection.close()
    await chain.publish_node_info(peer, node_info(chain, 0, name="node-b", sequence=2))
    projection = await replayed(chain)
    row = projection.node(peer)
    assert row is not None
    assert row.name == "node-b"
    projection.close()


def told(projection: Projection, number: int, *events: ChainEvent) -> None:
    """One block, straight to the writer."""
    rv = projection.head()[0] + len(events)
    block = Block(number, number.to_bytes(32, "big"), number)
    with projection.batch() as writer:
        apply(BlockEvents(block, events, Head(rv, rv.to_bytes(24, "big"))), writer, projection.cluster)


@pytest.mark.parametrize(("new_operator", "gone_first"), [(0, True), (1, True), (1, False)])
def test_a_registration_that_is_not_the_old_one_inherits_nothing(chain: FakeChain, new_operator: int, gone_first: bool) -> None:
    projection = Projection(None, chain.cluster)
    me = identity(0)
    proof = prove_possession(me, chain.cluster, operator(0))
    told(
        projection,
        1,
        NodeRegistered(rv=1, peer=me.peer_id, operator=operator(0), proof=proof),
        NodeInfoPublished(rv=2, peer=me.peer_id, info=node_info(chain, 0, name="node-a")),
        NodeStatusChanged(rv=3, peer=me.peer_id, status=NodeStatus.ACTIVE),
    )
    if gone_first:
        told(projection, 2, NodeStatusChanged(rv=4, peer=me.peer_id, status=NodeStatus.GONE))
    told(projection, 3, NodeRegistered(rv=5, peer=me.peer_id, operator=operator(new_operator), proof=b""))
    row = projection.node(me.peer_id)
    assert row is not None
    assert (row.operator, row.status, row.proven, row.info) == (operator(new_operator), "Pending", False, None)
    projection.close()


def test_events_of_a_node_that_never_registered_are_left_out(chain: FakeChain, caplog: pytest.LogCaptureFixture) -> None:
    projection = Projection(None, chain.cluster)
    told(projection, 1, NodeStatusChanged(rv=1, peer=identity(0).peer_id, status=NodeStatus.ACTIVE))
    assert projection.nodes() == []
    assert "never registered" in caplog.text
    projection.close()


def test_terms_that_no_block_was_reported_of_have_members_too(chain: FakeChain) -> None:
    """A follower that catches up is told of blocks with events only."""
    projection = Projection(None, chain.cluster)
    me = identity(0)
    proof = prove_possession(me, chain.cluster, operator(0))
    told(
        projection,
        TERM_BLOCKS * 2 + 7,
        NodeRegistered(rv=1, peer=me.peer_id, operator=operator(0), proof=proof),
        NodeStatusChanged(rv=2, peer=me.peer_id, status=NodeStatus.ACTIVE),
    )
    told(projection, TERM_BLOCKS * 6 + 1, NodeStatusChanged(rv=3, peer=me.peer_id, status=NodeStatus.LEAVING))
    told(projection, TERM_BLOCKS * 7)
    members = [projection.term_members(term) for term in range(9)]
    assert members == [(), (), (), *[(me.peer_id,)] * 4, (), ()]
    assert projection.term_seed(3) == projection.term_seed(6) != projection.term_seed(7) != b""
    assert projection.term_seed(2) == b""
    projection.close()


async def test_names_are_unique_and_the_first_keeps_its_own(chains: list[FakeChain]) -> None:
    for index, chain in enumerate(chains):
        await register(chain, index, status=NodeStatus.PENDING, name="node-a")
    projection = await replayed(chains[0])
    names = [row.name for row in projection.nodes()]
    assert names == ["node-a", f"node-a-{identity(1).peer_id.hex()[:8]}", f"node-a-{identity(2).peer_id.hex()[:8]}"]
    projection.close()


async def test_labels_that_somebody_vouches_for_count_while_they_are_those(chains: list[FakeChain]) -> None:
    """The broken twin is the node's own word, which counts where nobody vouches."""
    admin, other, _ = chains
    me = identity(1)
    await other.register_node_with_proof(me.peer_id, other.operator, prove_possession(me, other.cluster, other.operator))
    await admin.approve_node(me.peer_id)

    async def say(sequence: int, **labels: str) -> None:
        info = NodeInfo(
            peer=me.peer_id,
            sequence=sequence,
            name="node-1",
            addresses=("/ip4/192.0.2.1/tcp/4001",),
            labels={HOSTNAME_LABEL: "node-1", **labels},
        )
        await other.publish_node_info(me.peer_id, encode(sign(me, other.cluster, info)))

    async def labels() -> dict[str, str]:
        projection = await replayed(admin)
        node = projection.node(me.peer_id)
        projection.close()
        assert node is not None
        return node.labels

    name = {HOSTNAME_LABEL: "node-1"}
    await say(1, zone="eu")
    assert await labels() == name | {"zone": "eu"}
    await admin.set_node_labels(me.peer_id, labels_digest({"zone": "eu"}))
    assert await labels() == name | {"zone": "eu"}
    await say(2, zone="us")
    assert await labels() == name
    await other.set_node_labels(me.peer_id, labels_digest({"zone": "us"}))
    assert await labels() == name, "an operator's word is not an administrator's"
    await say(3, zone="eu")
    assert await labels() == name | {"zone": "eu"}
    await admin.set_node_labels(me.peer_id, Digest(bytes(32)))
    await say(4, zone="us")
    assert await labels() == name | {"zone": "us"}


async def test_what_the_registry_says_beside_its_objects(chains: list[FakeChain]) -> None:
    """Home nodes, rights, limits, labels and images are the chain's, and a reorg takes them back."""
    admin, owner, other = chains
    space, half = object_id("team", ""), object_id("team", "")[:16]
    peer = await register(admin, 0)
    projection = Projection(None, admin.cluster)
    async with following(admin, projection):
        await owner.apply_object(NAMESPACE, space, Generation(0), b"space")
        await admin.set_decision_limit(bytes(16), 50)
        before = len(admin.ledger.blocks)
        await owner.set_home_peers(half, [peer])
        await owner.set_access(half, other.operator, Right.VIEW)
        await admin.set_decision_limit(half, 5)
        await admin.set_node_labels(peer, Digest(b"l" * 32))
        await admin.set_image_root(Digest(b"r" * 32), Digest(b"i" * 32))
        await admin.grant_role("TEAM", owner.operator)
        await admin.grant_role("TEAM", other.operator)
        await admin.revoke_role("TEAM", owner.operator)
        await admin.commit_image(Digest(b"n" * 32), Digest(b"m" * 32))
        await caught_up(admin, projection)
        assert projection.namespace(half) == NamespaceRow(namespace=half, homes=(peer,), decision_limit=5)
        assert (projection.decision_limit(half), projection.decision_limit(b"x" * 16)) == (5, 50)
        assert projection.rights(half, owner.operator, other.operator) == Right.VIEW
        assert projection.rights(half, other.operator, other.operator) == Right.NONE, "another owner gave none"
        node = projection.node(peer)
        assert node is not None
        assert (node.vouched, node.vouched_by) == (b"l" * 32, admin.operator)
        assert projection.images() == ImagesRow(root=Digest(b"r" * 32), images=Digest(b"i" * 32))
        assert projection.manifest(Digest(b"n" * 32)) == b"m" * 32
        assert projection.roles() == {role_id("TEAM"): [other.operator]}
        full = content(projection)
        again = await replayed(admin)
        assert content(again) == full
        admin.ledger.reorg(len(admin.ledger.blocks) - before)
        await caught_up(admin, projection)
        assert content(projection) == content(await replayed(admin)) != full
        assert (projection.namespace(half).homes, projection.decision_limit(half), projection.images()) == ((), 50, None)
        await owner.set_home_peers(half, [peer])
        await owner.delete_object(NAMESPACE, space, Generation(1))
        await other.apply_object(NAMESPACE, space, Generation(0), b"of somebody else")
        await caught_up(admin, projection)
        assert projection.namespace(half).homes == ()
        await admin.set_image_root(Digest(bytes(32)), Digest(b"i" * 32))
        await caught_up(admin, projection)
        assert projection.images() is None
    projection.close()


async def test_down_marks_come_and_go(chains: list[FakeChain]) -> None:
    peers = []
    for index, chain in enumerate(chains):
        peers.append(await register(chain, index, status=NodeStatus.PENDING))
        await chains[0].approve_node(peers[-1])
    signatures = [await chain.sign_mark_down(peers[2], 4) for chain in chains[:2]]
    await chains[0].mark_down(peers[2], 4, signatures)
    projection = Projection(None, chains[0].cluster)
    async with following(chains[0], projection):
        await caught_up(chains[0], projection)
        assert [row.down_incarnation for row in projection.nodes()] == [None, None, 4]
        await chains[2].mark_up(peers[2], 5)
        await caught_up(chains[0], projection)
        assert [row.down_incarnation for row in projection.nodes()] == [None, None, None]
    projection.close()


async def test_a_term_has_the_members_of_the_block_before_it(chains: list[FakeChain]) -> None:
    """And the same on a node that followed all along and on one that came later."""
    chain, ledger = chains[0], chains[0].ledger
    projection = Projection(None, chain.cluster)

    def mine_to(number: int) -> None:
        while len(ledger.blocks) < number:
            ledger.mine()

    async with following(chain, projection):
        peers = [await register(chains[i], i, status=NodeStatus.PENDING) for i in range(3)]
        await chain.approve_node(peers[0])
        await chain.approve_node(peers[1])
        mine_to(TERM_BLOCKS)
        await caught_up(chain, projection)
        assert projection.finality("latest") == TERM_BLOCKS - 1
        assert projection.term_members(1) == (), "the block before it is there, no block of the term is"
        boundary = ledger.blocks[-1].head
        await chain.approve_node(peers[2])
        await caught_up(chain, projection)
        assert projection.finality("latest") == TERM_BLOCKS
        assert projection.term_members(0) == ()
        assert projection.term_members(1) == tuple(sorted(peers[:2])), "approved in the term's first block: not yet"
        assert projection.term_seed(1) == boundary.accumulator
        assert projection.term_members(2) == ()
        await chain.set_node_status(peers[0], NodeStatus.CORDONED)
        mine_to(4 * TERM_BLOCKS + 2)
        await caught_up(chain, projection)
        assert projection.term_members(1) == tuple(sorted(peers[:2]))
        for term in (2, 3, 4):
            assert projection.term_members(term) == tuple(sorted(peers[1:]))
        assert projection.term_members(5) == ()
        fresh = await replayed(chain)
        assert content(fresh)["terms"] == content(projection)["terms"]
        fresh.close()
    projection.close()


async def test_an_unproven_node_is_no_member(chains: list[FakeChain]) -> None:
    chain = chains[0]
    peer = await register(chain, 0)
    forged = prove_possession(identity(9), chain.cluster, chain.operator)
    await chain.register_node_with_proof(identity(1).peer_id, chain.operator, forged)
    await chain.approve_node(identity(1).peer_id)
    while len(chain.ledger.blocks) <= TERM_BLOCKS:
        chain.ledger.mine()
    projection = await replayed(chain)
    assert projection.term_members(1) == (peer,)
    projection.close()


async def test_a_reorg_deeper_than_the_undo_log_is_told(chain: FakeChain) -> None:
    projection = Projection(None, chain.cluster)
    await chain.apply_object(WORKLOAD, object_id("default", "a"), Generation(0), b"one")
    for _ in range(UNDO_BLOCKS + 10):
        chain.ledger.mine()
    async with following(chain, projection):
        await caught_up(chain, projection)
    before = content(projection)
    with pytest.raises(HeadMismatch) as error, projection.batch() as writer:
        writer.rollback(9)
    assert "store.db" in error.value.hint
    assert content(projection) == before
    with projection.batch() as writer:
        writer.rollback(11)
    assert projection.finality("latest") == 11
    assert projection.cursor().block == 11
    projection.close()


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_a_reorg_in_the_batch_of_what_it_undoes(chain: FakeChain, batches: int) -> None:
    """Then a deeper one: what the first left in place can still be undone."""
    changes: list[Change] = []
    for number in range(1, 5):
        head = Head(number, number.to_bytes(24, "big"))
        event = PolicyChanged(rv=number, policy=bytes([number]))
        changes.append(BlockEvents(Block(number, bytes(32), number), (event,), head))
    changes += [Rollback(3), Rollback(2)]
    projection = Projection(None, chain.cluster)
    for index in range(batches):
        with projection.batch() as writer:
            for change in changes[index * len(changes) // batches : (index + 1) * len(changes) // batches]:
                apply(change, writer, chain.cluster)
    assert (projection.policy(), projection.finality("latest")) == (b"\2", 2)
    for number in (1, 0):
        with projection.batch() as writer:
            apply(Rollback(number), writer, chain.cluster)
        assert projection.finality("latest") == number
        assert projection.policy() == bytes([number] * number)
    assert all(rows == [] for name, rows in content(projection).items() if name in TABLES)
    projection.close()


@pytest.mark.parametrize("batches", [1, 3])
def test_exactly_so_many_blocks_can_be_undone(chain: FakeChain, batches: int) -> None:
    projection = Projection(None, chain.cluster)
    tip = UNDO_BLOCKS + 20
    for index in range(batches):
        with projection.batch() as writer:
            for number in range(index * tip // batches + 1, (index + 1) * tip // batches + 1):
                event = PolicyChanged(rv=number, policy=number.to_bytes(2, "big"))
                head = Head(number, number.to_bytes(24, "big"))
                apply(BlockEvents(Block(number, bytes(32), number), (event,), head), writer, chain.cluster)
    assert len(projection.cursor().known) == UNDO_BLOCKS + 1
    with pytest.raises(HeadMismatch), projection.batch() as writer:
        writer.rollback(tip - UNDO_BLOCKS - 1)
    with projection.batch() as writer:
        writer.rollback(tip - UNDO_BLOCKS)
    assert projection.policy() == (tip - UNDO_BLOCKS).to_bytes(2, "big")
    assert projection.head()[0] == projection.cursor().block == tip - UNDO_BLOCKS
    projection.close()


async def test_an_rpc_that_hides_an_event_stops_the_follower(chain: FakeChain) -> None:
    projection = Projection(None, chain.cluster)
    chain.ledger.hide(2)
    await chain.set_policy(b"1")
    await chain.set_policy(b"2")
    with pytest.raises(HeadMismatch):
        await asyncio.wait_for(follow(chain, projection), 5)
    assert projection.policy() == b"1", "what came before it counts"
    projection.close()


async def test_blocks_that_are_there_go_in_one_transaction_and_new_ones_at_once(chain: FakeChain) -> None:
    for _ in range(BATCH_MAX):
        chain.ledger.mine()
    projection = Projection(None, chain.cluster)
    calls: list[int] = []
    projection.subscribe(lambda: calls.append(projection.finality("latest")))
    async with following(chain, projection):
        await caught_up(chain, projection)
        assert len(calls) <= 6, "four changes a block, at most BATCH_MAX in a transaction"
        calls.clear()
        number = chain.ledger.mine()
        await caught_up(chain, projection)
        assert calls[0] == number
    projection.close()


async def test_a_failed_batch_leaves_nothing(chain: FakeChain, tmp_path: Path) -> None:
    projection = Projection(tmp_path / "store.db", chain.cluster)
    async with following(chain, projection):
        await chain.apply_object(WORKLOAD, object_id("default", "a"), Generation(0), b"one")
        await caught_up(chain, projection)
    before = content(projection)
    pages = projection._database.execute("PRAGMA page_count").fetchone()[0]
    projection._database.execute(f"PRAGMA max_page_count={pages}")
    for number in range(400):
        await chain.apply_object(WORKLOAD, object_id("default", f"b{number}"), Generation(0), bytes(400))
    told: list[int] = []
    projection.subscribe(lambda: told.append(1))
    with pytest.raises(StorageUnavailable):
        await asyncio.wait_for(follow(chain, projection), 5)
    assert content(projection) == before
    assert len(projection.objects()) == 1
    assert told == []
    projection._database.execute("PRAGMA max_page_count=1000000")
    async with following(chain, projection):
        await caught_up(chain, projection)
    fresh = await replayed(chain)
    assert content(projection) == content(fresh)
    fresh.close()
    projection.close()


async def test_a_file_of_another_cluster_is_emptied(chain: FakeChain, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    projection = Projection(path, chain.cluster)
    await chain.apply_object(WORKLOAD, object_id("default", "a"), Generation(0), b"one")
    async with following(chain, projection):
        await caught_up(chain, projection)
    projection.close()
    same = Projection(path, chain.cluster)
    assert len(same.objects()) == 1
    same.close()
    other = Projection(path, type(chain.cluster)(bytes(32)))
    assert other.objects() == []
    assert other.cursor().block == 0
    other.close()


async def test_waiting_for_the_chain(chain: FakeChain) -> None:
    projection = Projection(None, chain.cluster)
    async with following(chain, projection):
        waiting = asyncio.create_task(projection.wait_until(lambda: projection.policy() == b"new", 5))
        await asyncio.sleep(0)
        await chain.set_policy(b"other")
        await asyncio.sleep(0)
        assert not waiting.done()
        await chain.set_policy(b"new")
        await waiting
        with pytest.raises(DeadlineExceeded) as error:
            await projection.wait_until(lambda: False, 0.001)
        assert error.value.hint
        assert projection._subscribers == []
    projection.close()


class Stream:
    """A chain that is nothing but what it tells."""

    def __init__(self, cluster: Any, changes: Callable[[], AsyncIterator[Any]]) -> None:
        self.cluster = cluster
        self.changes = changes

    def follow(self, *, from_block: int, from_head: Head, known: Any = ()) -> AsyncIterator[Any]:
        return self.changes()


async def test_the_error_of_the_chain_is_not_swallowed(chain: FakeChain) -> None:
    async def changes() -> AsyncIterator[BlockEvents]:
        await chain.set_policy(b"1")
        block = chain.ledger.blocks[1]
        yield BlockEvents(block.block, block.events, block.head)
        raise HeadMismatch("so it is")

    projection = Projection(None, chain.cluster)
    with pytest.raises(HeadMismatch, match="so it is"):
        await asyncio.wait_for(follow(Stream(chain.cluster, changes), projection), 5)  # type: ignore[arg-type]
    assert projection.policy() == b"1", "what came with it is written first"
    projection.close()

"""Nodes, members, labels and marks in the projection: who counts from when on, and who never does."""

import pytest

from tests.unit.chain.projected import NAMESPACE, caught_up, content, following, identity, node_info, operator, register, replayed
from veil.chain.fake import FakeChain
from veil.chain.ports import (
    Block,
    BlockEvents,
    ChainEvent,
    Head,
    NodeInfoPublished,
    NodeRegistered,
    NodeStatus,
    NodeStatusChanged,
)
from veil.chain.projector import apply
from veil.chain.records import Right, role_id
from veil.store.projection import Projection
from veil.store.rows import ImagesRow, NamespaceRow
from veil.types import TERM_BLOCKS, Digest, Generation
from veil.wire.codec import encode
from veil.wire.nodes import HOSTNAME_LABEL, NodeInfo, labels_digest, prove_possession
from veil.wire.objects import object_id
from veil.wire.signed import sign


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

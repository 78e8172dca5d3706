"""Nodes, their marks, and what they append to the placement log."""

import asyncio

import pytest

from chain_conformance.setting import (
    PROOF,
    Bench,
    digest,
    join,
    peer,
    replay,
)
from veil.chain.ports import (
    NodeMarkedDown,
    NodeMarkedUp,
    NodeRegistered,
    NodeStatus,
    NodeStatusChanged,
    PlacementsAppended,
)
from veil.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, LimitExceeded, NotFound
from veil.types import Shard
from veil.wire.merkle import proof_of, root_of


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

"""Stakes, payments and disputes."""

from typing import Any

import pytest

from chain_conformance.setting import PROOF, TERMS, Bench, digest, join, peer, replay
from veil.chain.disputes import read_disputes
from veil.chain.ports import (
    DisputeClosed,
    DisputeOpened,
    NodeStatus,
    NodeStatusChanged,
)
from veil.chain.records import DisputeStatus
from veil.errors import Conflict, Forbidden, InvalidInput, LimitExceeded, NotFound
from veil.types import Shard
from veil.wire.merkle import proof_of, root_of


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

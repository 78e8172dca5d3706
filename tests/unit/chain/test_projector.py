"""The projection against a chain that changes its mind: it always equals a fresh replay of what the chain says now."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.chain.projected import WORKLOAD, History, caught_up, content, envelope, following, replayed
from veil.chain.fake import FAKE_PARTS, FakeChain
from veil.chain.ports import (
    BlockEvents,
    Finality,
    Head,
)
from veil.chain.projector import BATCH_MAX, follow
from veil.errors import DeadlineExceeded, HeadMismatch, StorageUnavailable
from veil.store.projection import Projection
from veil.types import Digest, Epoch, Generation, ObjectId, Shard
from veil.wire.objects import object_id


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

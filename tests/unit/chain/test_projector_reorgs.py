"""How far back a reorg may go, and what is undone."""

import pytest

from tests.unit.chain.projected import WORKLOAD, caught_up, content, following
from veil.chain.fake import FakeChain
from veil.chain.ports import (
    Block,
    BlockEvents,
    Head,
    PolicyChanged,
    Rollback,
)
from veil.chain.projector import Change, apply
from veil.errors import HeadMismatch
from veil.store.projection import Projection
from veil.store.tables import TABLES, UNDO_BLOCKS
from veil.types import Generation
from veil.wire.objects import object_id


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

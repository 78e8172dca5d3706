"""The fake does what every Chain must, and its faults are what they say."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chain_conformance import CASES

from veil.chain.fake import FakeChain
from veil.chain.fake_ledger import REORG_MAX_BLOCKS, Ledger
from veil.chain.ports import EMPTY_HEAD, BlockEvents
from veil.errors import ChainUnavailable, HeadMismatch, Refused
from veil.types import Address, Generation
from veil.wire.objects import object_id

pytestmark = pytest.mark.unit
ACCOUNTS = [Address(f"0x{index:040x}") for index in range(1, 5)]
SPACE = object_id("default", "")


class FakeBench:
    def __init__(self) -> None:
        self.ledger = Ledger(ACCOUNTS[0])

    async def client(self, index: int = 0) -> FakeChain:
        return FakeChain(self.ledger, ACCOUNTS[index])

    async def reorg(self, depth: int) -> None:
        self.ledger.reorg(depth)

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.ledger.mine()

    async def advance(self, seconds: int) -> None:
        self.ledger.advance(seconds)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_fake(case: Callable[[Any], Awaitable[None]]) -> None:
    await case(FakeBench())


async def test_a_hidden_event_is_noticed() -> None:
    ledger = Ledger(ACCOUNTS[0])
    chain = FakeChain(ledger, ACCOUNTS[0])
    await chain.apply_object(1, SPACE, Generation(0), b"x")
    ledger.hide(1)
    with pytest.raises(HeadMismatch):
        await anext(chain.follow(from_block=0, from_head=EMPTY_HEAD))


async def test_away_and_paused() -> None:
    ledger = Ledger(ACCOUNTS[0])
    chain = FakeChain(ledger, ACCOUNTS[0])
    ledger.away = True
    with pytest.raises(ChainUnavailable):
        await chain.apply_object(1, SPACE, Generation(0), b"x")
    ledger.away, ledger.paused = False, True
    with pytest.raises(Refused):
        await chain.apply_object(1, SPACE, Generation(0), b"x")
    ledger.paused = False
    await chain.apply_object(1, SPACE, Generation(0), b"x")
    item = await anext(chain.follow(from_block=0, from_head=EMPTY_HEAD))
    assert isinstance(item, BlockEvents)


def test_a_reorg_deeper_than_the_chain_is_refused() -> None:
    ledger = Ledger(ACCOUNTS[0])
    with pytest.raises(ValueError, match="a reorg of"):
        ledger.reorg(REORG_MAX_BLOCKS + 1)

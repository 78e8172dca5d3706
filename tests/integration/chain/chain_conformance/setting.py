"""A registry to try cases on, and what they share: names, a view of what was followed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from veil.chain.ports import (
    EMPTY_HEAD,
    Block,
    BlockEvents,
    ChainEvent,
    Finality,
    Finalized,
    Head,
    Registry,
    Rollback,
)
from veil.chain.records import StakeTerms
from veil.types import Digest, Generation, PeerId
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


async def fill(chain: Registry, count: int) -> None:
    await chain.apply_object(NAMESPACE, SPACE, Generation(0), b"space")
    for index in range(count):
        await chain.apply_object(WORKLOAD, object_id("default", f"w{index}"), Generation(0), b"%d" % index)

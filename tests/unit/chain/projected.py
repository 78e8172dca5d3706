"""A chain that is written to at random, and projections of it that are compared row by row."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from veil.chain.fake import FAKE_PARTS, FakeChain
from veil.chain.ports import (
    NodeStatus,
)
from veil.chain.projector import follow
from veil.errors import VeilError
from veil.identity import Identity
from veil.store.projection import Projection
from veil.store.tables import TABLES
from veil.types import Address, Digest, Epoch, Generation, ObjectId, PeerId, Secret, Shard
from veil.wire.codec import encode
from veil.wire.nodes import NodeInfo, prove_possession
from veil.wire.objects import KINDS, Envelope, encode_envelope, object_id
from veil.wire.signed import sign

WORKLOAD = KINDS["Workload"]

NAMESPACE = KINDS["Namespace"]


def operator(index: int) -> Address:
    return Address("0x" + f"{index + 1:02x}" * 20)


def identity(index: int) -> Identity:
    return Identity(Secret(bytes([index + 1]) * 32))


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

"""Three nodes on a fake chain and a fake mesh, with a key epoch whose encryption is fake; the rest is real."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from veil.api.admission import Admission
from veil.api.canonical import canonical_spec
from veil.api.sealing import EpochKeys
from veil.chain.fake import FAKE_PARTS, FakeChain
from veil.chain.fake_ledger import Ledger
from veil.chain.projector import follow
from veil.fhe.fake import FakeEncryptor
from veil.identity import Identity
from veil.manifest.split import split
from veil.manifest.validate import default, validate_object
from veil.mesh.fake import FakeMesh, FakeNetwork
from veil.store.objects import RV_BLOCK, Obj, ObjectStore
from veil.store.projection import Projection
from veil.types import Address, Digest, Epoch
from veil.wire.codec import decode
from veil.wire.objects import KINDS, Envelope, object_id

EPOCH = Epoch(1)
THRESHOLD = 2
HELLO = object_id("default", "hello")


@dataclass
class Node:
    identity: Identity
    mesh: FakeMesh
    chain: FakeChain
    projection: Projection
    store: ObjectStore
    admission: Admission
    following: asyncio.Task[None] | None = None


@dataclass
class World:
    """All nodes sign as one operator, so that the contract's access control is not in the way."""

    count: int = 3
    epoch: bool = True
    operator: Address = Address("0x" + "11" * 20)
    network: FakeNetwork = field(default_factory=FakeNetwork)
    nodes: list[Node] = field(default_factory=list)

    async def start(self) -> None:
        self.ledger = Ledger(self.operator)
        identities = [Identity.generate() for _ in range(self.count)]
        committee = tuple(identity.peer_id for identity in identities)
        self.keys: EpochKeys | None = EpochKeys(
            epoch=EPOCH, committee=committee, threshold=min(THRESHOLD, self.count), encryptor=FakeEncryptor(EPOCH)
        )
        if not self.epoch:
            self.keys = None
        else:
            await FakeChain(self.ledger, self.operator).publish_epoch(EPOCH, Digest(b"e" * 32), FAKE_PARTS)
        for identity in identities:
            self.nodes.append(self._node(identity))
        for node in self.nodes:
            await node.mesh.start()
            node.mesh.allow(dict.fromkeys(committee, ()))
            node.following = asyncio.create_task(follow(node.chain, node.projection))
        for identity in identities:
            await self.first.chain.register_node_with_proof(identity.peer_id, self.operator, bytes(64))
        await self.settle()
        await self.first.admission.apply(namespace(), None)
        for node in self.nodes:
            node.store.put(namespace())
        await self.settle()

    def _node(self, identity: Identity) -> Node:
        chain, counter = FakeChain(self.ledger, self.operator), itertools.count(1, RV_BLOCK)
        mesh = self.network.mesh(identity.peer_id)
        projection = Projection(None, chain.cluster)
        store = ObjectStore(None, reserve_rv=lambda count: next(counter))
        admission = Admission(
            identity=identity,
            chain=chain,
            mesh=mesh,
            projection=projection,
            store=store,
            keys=lambda: self.keys,
            projection_timeout_s=2.0,
        )
        return Node(identity, mesh, chain, projection, store, admission)

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def others(self) -> list[Node]:
        return self.nodes[1:]

    async def settle(self) -> None:
        """Every node has seen the newest block."""
        for node in self.nodes:
            await node.projection.wait_until(
                lambda node=node: node.projection.cursor().block >= len(self.ledger.blocks) - 1,  # type: ignore[misc]
                2.0,
            )

    async def close(self) -> None:
        for node in self.nodes:
            if node.following is not None:
                node.following.cancel()
                with suppress(asyncio.CancelledError):
                    await node.following
            await node.mesh.close()
            node.store.close()
            node.projection.close()


@asynccontextmanager
async def cluster(count: int = 3, *, epoch: bool = True) -> AsyncIterator[World]:
    world = World(count=count, epoch=epoch)
    try:
        await world.start()
        yield world
    finally:
        await world.close()


def envelope_of(node: Node) -> Envelope:
    """The workload ``hello`` as the chain has it, as this node has read it."""
    row = node.projection.object(KINDS["Workload"], HELLO)
    assert row is not None
    return decode(row.envelope, Envelope)


def namespace() -> Obj:
    return {"apiVersion": "veil.dev/v1alpha1", "kind": "Namespace", "metadata": {"name": "default"}, "spec": {}}


def valid(obj: Obj) -> Obj:
    """As the API gives it to admission."""
    filled = default(validate_object(obj))
    return {**filled, "spec": canonical_spec(split(filled))}

"""One node's stores, a fake chain and a fake mesh, without the loops between them: tests move each part by hand."""

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

from veil.chain.fake import FakeChain
from veil.chain.fake_ledger import Ledger
from veil.identity import Identity, peer_id_text
from veil.mesh.fake import FakeMesh, FakeNetwork
from veil.node.assembler import Assembler
from veil.node.contents import Contents
from veil.node.reports import InstanceReports
from veil.node.view import NodeView
from veil.store.objects import RV_BLOCK, ObjectStore
from veil.store.projection import Projection
from veil.store.rows import BlockRow, LogRow, NamespaceRow, NodeRow, ObjectRow
from veil.store.writer import Writer
from veil.types import Address, Digest, Epoch, Generation, ObjectId, PeerId, Shard
from veil.wire.codec import encode
from veil.wire.nodes import NodeInfo
from veil.wire.objects import KINDS, Body, ContainerResources, Envelope, Resources, SealedPart, object_id
from veil.wire.sealed import make_part, new_content_key

OPERATOR = Address("0x" + "11" * 20)
HELLO = object_id("default", "hello")
FIGURES = Resources(containers={"main": ContainerResources(cpu_milli=250, memory_bytes=64 << 20)})
TEMPLATE = {"containers": [{"name": "main", "image": "busybox"}]}


class LoopClock:
    """The event loop's time, which looptime moves."""

    def now_s(self) -> float:
        return 1_700_000_000.0 + asyncio.get_running_loop().time()

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


class SeededRandom:
    def __init__(self) -> None:
        self._random = random.Random(1)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


@dataclass
class World:
    identity: Identity = field(default_factory=Identity.generate)
    other: Identity = field(default_factory=Identity.generate)
    block: int = 0

    def __post_init__(self) -> None:
        counter = itertools.count(1, RV_BLOCK)
        self.network = FakeNetwork()
        self.ledger = Ledger(OPERATOR)
        self.chain = FakeChain(self.ledger, OPERATOR)
        self.projection = Projection(None, self.chain.cluster)
        self.store = ObjectStore(None, reserve_rv=lambda count: next(counter))
        self.mesh: FakeMesh = self.network.mesh(self.identity.peer_id)
        self.far: FakeMesh = self.network.mesh(self.other.peer_id)
        self.contents = Contents(self.mesh, self.identity)
        self.assembler = Assembler(self.store, self.projection, self.contents, self.mesh)
        self.view = NodeView(self.projection, lambda: None)
        self.reports = InstanceReports(self.store, self.projection, LoopClock())

    async def start(self) -> "World":
        for mesh, peer in ((self.mesh, self.other), (self.far, self.identity)):
            await mesh.start()
            mesh.allow({peer.peer_id: ()})
        return self

    # what the chain says

    def write(self, change: Any) -> None:
        """One more block, with what ``change(writer)`` does."""
        self.block += 1
        with self.projection.batch() as writer:
            writer.begin_block(self.block)
            change(writer)
            writer.end_block(
                BlockRow(number=self.block, hash=b"h" * 32, timestamp_s=self.block, rv=self.block, accumulator=bytes(24))
            )

    def anchor(self, kind: str, of: ObjectId, envelope: bytes, *, generation: int = 1, deleting: bool = False) -> ObjectRow:
        row = ObjectRow(
            kind=KINDS[kind],
            object_id=of,
            generation=Generation(generation),
            owner=OPERATOR,
            envelope=envelope,
            deleting=deleting,
            block=self.block + 1,
            template_generation=Generation(generation),
            template_block=self.block + 1,
        )
        self.write(lambda writer: writer.put_object(row))
        return row

    def forget(self, kind: str, of: ObjectId) -> None:
        self.write(lambda writer: writer.delete_object(KINDS[kind], of))

    def register(
        self,
        identity: Identity,
        *,
        name: str = "",
        status: str = "Active",
        proven: bool = True,
        rv: int = 1,
        journals: tuple[tuple[int, bytes], ...] = (),
    ) -> None:
        info = None
        if name:
            addresses = ("/ip4/10.0.0.1/tcp/1",)
            info = NodeInfo(peer=identity.peer_id, sequence=1, name=name, addresses=addresses, journals=journals)
        row = NodeRow(peer=identity.peer_id, operator=OPERATOR, status=status, proven=proven, info=info, registered_rv=rv)
        self.write(lambda writer: writer.put_node(row))

    def append(self, shard: int, sequence: int, data: Digest) -> None:
        root = Digest(bytes([sequence]) * 32)
        row = LogRow(shard=Shard(shard), sequence=sequence, root=root, count=1, data=data, sender=OPERATOR, block=self.block + 1)

        def change(writer: Writer) -> None:
            writer.append_log(row)

        self.write(change)

    # what users publish

    async def workload(
        self, name: str = "hello", *, at: FakeMesh | None = None, generation: int = 1, replicas: int = 2, homes: Any = None
    ) -> Envelope:
        """A Workload on the chain; its parts are kept at ``at`` (this node when left out)."""
        mesh, of = at or self.mesh, object_id("default", name)
        body = await mesh.put(encode(Body(spec={"template": TEMPLATE})))
        resources = await mesh.put(encode(self.part(of, self.identity.peer_id if homes is None else homes)))
        envelope = Envelope(
            kind="Workload",
            namespace="default",
            name=name,
            uid=of[16:],
            labels={"app": name},
            replicas=replicas,
            policy="BinPack",
            body=body,
            resources=resources,
        )
        self.anchor("Workload", of, encode(envelope), generation=generation)
        return envelope

    def part(self, of: ObjectId, home: PeerId) -> SealedPart:
        key = new_content_key()
        return make_part(
            encode(FIGURES), key, piece="resources", object_id=of, epoch=Epoch(1), threshold=1, shares=(), homes=(home,)
        )

    async def namespace(self, *homes: PeerId, name: str = "default", at: FakeMesh | None = None) -> None:
        body = await (at or self.mesh).put(encode(Body(spec={"homePeers": [peer_id_text(home) for home in homes]})))
        envelope = Envelope(kind="Namespace", namespace="", name=name, uid=b"u" * 16, body=body)
        self.anchor("Namespace", object_id(name, ""), encode(envelope))
        self.homes(*homes, name=name)

    def homes(self, *homes: PeerId, name: str = "default") -> None:
        """What the registry says of a namespace's home nodes."""
        row = NamespaceRow(namespace=object_id(name, "")[:16], homes=homes)
        self.write(lambda writer: writer.put_namespace(row))

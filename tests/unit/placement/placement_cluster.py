"""PlacementService, several times, over the fake mesh and the fake chain, with real projections, journals and signatures."""

import asyncio
import contextlib
import random
from dataclasses import replace

import msgspec
from placement_doubles import GIB, Reports, SimpleCapacity, Workload, identity_of, key_epoch_of, parts_of

from veil.chain.fake import FakeChain
from veil.chain.fake_ledger import Ledger
from veil.chain.projector import follow
from veil.fhe.ports import Figures
from veil.identity import Identity
from veil.mesh.fake import FakeNetwork
from veil.mesh.ports import PeerState
from veil.placement.policies import Traits
from veil.placement.ports import ReplicaKey, Wanted
from veil.placement.service import PlacementService
from veil.placement.settings import DEV
from veil.store.journal import Journal
from veil.store.projection import Projection
from veil.store.transcripts import Transcripts
from veil.types import Address
from veil.wire.codec import decode
from veil.wire.nodes import prove_possession
from veil.wire.objects import DemandEnvelope, Envelope, demand_id, encode_envelope

SETTINGS = replace(DEV, lease_s=8.0)
ADMIN = Address("0x" + "ad" * 20)
NODE = Figures(cpu_milli=2000, memory_bytes=8 * GIB, disk_bytes=64 * GIB, gpu_count=0)
SMALL = Figures(cpu_milli=500, memory_bytes=GIB, disk_bytes=GIB, gpu_count=0)


class LoopClock:
    def now_s(self):
        return 1_700_000_000.0 + asyncio.get_running_loop().time()

    def monotonic_s(self):
        return asyncio.get_running_loop().time()


class SeededRandom:
    def __init__(self, seed):
        self._dice = random.Random(seed)

    def bytes(self, count):
        return self._dice.randbytes(count)


class View:
    """The projection with an epoch and homes."""

    def __init__(self, projection, key_epoch):
        self._projection, self._key_epoch = projection, key_epoch
        self.home_peers = ()

    def __getattr__(self, name):
        return getattr(self._projection, name)

    def key_epoch(self):
        return self._key_epoch

    def profile(self):
        return "default"

    def decisions_per_candidate(self):
        return 10_000

    def decision_limit(self, object_id):
        return self._projection.decision_limit(object_id[:16])

    def homes(self, object_id):
        return self.home_peers


class Member:
    """One node: its journal outlives its service."""

    def __init__(self, cluster, number, tmp_path):
        self.cluster, self.number = cluster, number
        self.identity = identity_of(number, Identity)
        self.peer = self.identity.peer_id
        self.operator = Address("0x" + f"{number + 1:02x}" * 20)
        self.chain = FakeChain(cluster.ledger, self.operator)
        self.journal_path = tmp_path / f"journal-{number}.db"
        self.reports = Reports()
        self.service = None

    async def start(self):
        cluster = self.cluster
        self.journal = Journal(self.journal_path)
        self.projection = Projection(None, self.chain.cluster)
        self.following = asyncio.create_task(follow(self.chain, self.projection))
        head = len(cluster.ledger.blocks) - 1
        await self.projection.wait_until(lambda: self.projection.finality("latest") >= head, 5.0)
        self.mesh = cluster.network.mesh(self.peer)
        self.mesh.allow({peer: () for peer in cluster.peers if peer != self.peer})
        await self.mesh.start()
        clock = LoopClock()
        self.transcripts = Transcripts(self.journal_path.with_suffix(".transcripts"), clock)
        self.capacity = SimpleCapacity(clock, cluster.capacity)
        self.service = PlacementService(
            identity=self.identity,
            cluster=self.chain.cluster,
            mesh=self.mesh,
            chain=self.chain,
            view=View(self.projection, cluster.key_epoch),
            journal=self.journal,
            capacity=self.capacity,
            reports=self.reports,
            clock=clock,
            random=SeededRandom(self.number),
            settings=cluster.settings,
            transcripts=self.transcripts,
            traits=Traits(),
        )
        self.service.set_epoch(parts_of(cluster.key_epoch, self.peer))
        await self.service.start()
        self.controller = asyncio.create_task(self._control())

    async def _control(self):
        """What the controllers do: an Instance object for each replica of the shards coordinated here."""
        while True:
            self.service.set_wanted(
                [
                    Wanted(w.id, w.generation, index, "team", w.name)
                    for w in self.cluster.workloads
                    if self.service.coordinates(w.id)
                    for index in range(w.wanted)
                ]
            )
            for binding in self.service.bindings():
                if binding.state == "superseded":
                    self.service.release((binding.object_id, binding.generation, binding.replica))
            await asyncio.sleep(0.2)

    async def stop(self):
        if self.service is None:
            return
        for task in (self.controller, self.following):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.service.close()
        self.service = None
        self.projection.close()
        self.journal.close()

    async def kill(self):
        """As kill -9: nothing is said; the others notice through SWIM."""
        self.cluster.network.kill(self.peer)
        await self.stop()

    async def revive(self):
        self.cluster.network.revive(self.peer)
        await self.start()
        self.cluster.network.set_state(self.peer, PeerState.ALIVE)

    def held(self):
        bindings = self.service.bindings() if self.service else []
        return [ReplicaKey(b.object_id, b.generation, b.replica) for b in bindings if b.state == "bound"]


class Cluster:
    def __init__(self, tmp_path, *, nodes=3, threshold=2, settings=SETTINGS, capacity=NODE):
        self.ledger = Ledger(ADMIN, acl=False)
        self.network = FakeNetwork()
        self.settings, self.capacity = settings, capacity
        self.workloads = []
        self.members = [Member(self, number, tmp_path) for number in range(nodes)]
        self.peers = [member.peer for member in self.members]
        self.key_epoch = key_epoch_of(self.peers, threshold)

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def start(self):
        admin = FakeChain(self.ledger, ADMIN)
        for member in self.members:
            proof = prove_possession(member.identity, member.chain.cluster, member.operator)
            await member.chain.register_node_with_proof(member.peer, member.operator, proof)
            await admin.approve_node(member.peer)
        for member in self.members:
            await member.start()
        for member in self.members:
            self.network.set_state(member.peer, PeerState.ALIVE)
        self.mining = asyncio.create_task(self._mine())

    async def _mine(self):
        while True:
            await asyncio.sleep(1.0)
            self.ledger.mine()

    async def close(self):
        self.mining.cancel()
        for member in self.members:
            await member.stop()
            await self.network.mesh(member.peer).close()

    async def apply(self, name, replicas, *, figures=SMALL, confidential=False, homes=()):
        """What admission does: blobs on every node, the demand, then the workload."""
        workload = Workload(name, replicas, figures, self.peers, 2, confidential=confidential, homes=homes)
        for member in self.members:
            for content in workload.blobs.values():
                await self.network.mesh(member.peer).put(content)
        chain = self.members[0].chain
        envelope = Envelope(
            kind="Workload",
            namespace="team",
            name=name,
            uid=bytes(16),
            replicas=replicas,
            policy="BinPack",
            body=workload.body,
            resources=workload.resources,
            template=workload.template,
        )
        demand = DemandEnvelope(object_id=workload.id, epoch=1, resources=workload.resources, demand=workload.demand)
        await chain.apply_object(6, demand_id(workload.id, 1), 0, encode_envelope(demand))
        workload.generation = await chain.apply_object(2, workload.id, 0, encode_envelope(envelope))
        workload.wanted = replicas
        self.workloads.append(workload)
        return workload

    async def scale(self, workload, replicas):
        """What admission does of another count: a new generation of the same template."""
        chain = self.members[0].chain
        row = self.members[0].projection.object(2, workload.id)
        envelope = msgspec.structs.replace(decode(row.envelope, Envelope), replicas=replicas)
        await chain.apply_object(2, workload.id, row.generation, encode_envelope(envelope))
        workload.wanted = replicas

    def keys(self, workload):
        return [ReplicaKey(workload.id, workload.generation, index) for index in range(workload.wanted)]

    def holders(self, key):
        return [member.number for member in self.members if key in member.held()]

    def coordinator(self, workload):
        return next(member for member in self.members if member.service and member.service.coordinates(workload.id))

    async def until(self, condition, seconds=60.0):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)

    async def all_bound(self, workload, seconds=60.0):
        await self.until(lambda: all(len(self.holders(key)) == 1 for key in self.keys(workload)), seconds)

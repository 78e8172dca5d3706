"""A node put together and run: what talks to what, in which order things begin, what happens when one ends.

Nothing is decided here. Parts are made, given each other, and kept running; each change anywhere pokes the level-triggered
loops that look at the whole and do what is missing.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from veil.agent.agent import Agent
from veil.agent.capacity import MeasuredCapacity, disk_in_use_bytes, measure_machine
from veil.agent.gpus import PERIOD_S as GPUS_S
from veil.agent.gpus import Gpus
from veil.agent.keys import InstanceKey
from veil.agent.pressure import PERIOD_S as PRESSURE_S
from veil.agent.pressure import Pressures
from veil.agent.volumes import Volumes
from veil.api.admission import Admission
from veil.api.server import ApiServer
from veil.api.tls import server_context
from veil.chain.client import RegistryChain
from veil.chain.keystore import open_signer
from veil.config import NodeSettings
from veil.errors import ConfigInvalid, Forbidden
from veil.identity import Identity, peer_id_text
from veil.mesh.client import LibP2PMesh
from veil.node.allowed_images import AllowedImages
from veil.node.assembler import Assembler
from veil.node.auditing import Auditing
from veil.node.budget import DecryptionBudget
from veil.node.claims import ShareClaims
from veil.node.contents import Contents
from veil.node.controllers import ControllersChild
from veil.node.desired import desired_instances
from veil.node.disk import CHECK_S, Disk
from veil.node.down_marks import CHECK_S as MARKS_S
from veil.node.down_marks import DownMarks
from veil.node.draining import PERIOD_S as DRAIN_S
from veil.node.draining import Draining
from veil.node.endpoint import Endpoint
from veil.node.epoch_facts import facts_of, sealing_keys
from veil.node.epoch_loading import EpochLoader
from veil.node.epochs import EpochKeeper
from veil.node.execs import MeshExecs
from veil.node.following import ChainFollower
from veil.node.health import Health
from veil.node.logs import MeshLogs
from veil.node.loop import LevelLoop
from veil.node.membership import Membership, bootstrap_addresses
from veil.node.own_conditions import NodeConditions
from veil.node.replication import Replication
from veil.node.reports import InstanceReports, rfc3339
from veil.node.runtimes import make_networks, make_runtime
from veil.node.starting import until_available
from veil.node.view import NodeView
from veil.node.viewing import VIEW_S, Viewing
from veil.node.wanted import drop_foreign_instances, visible_to_controllers, wanted_replicas
from veil.placement.policies import Traits
from veil.placement.ports import EpochParts
from veil.placement.service import PlacementService
from veil.placement.settings import PRESETS
from veil.store.journal import Journal
from veil.store.objects import Gone, Obj, ObjectStore
from veil.store.projection import Projection
from veil.store.transcripts import Transcripts
from veil.types import Address, ObjectId, SystemClock, SystemRandom
from veil.wire.nodes import HOSTNAME_LABEL

log = logging.getLogger(__name__)

MESH_PRESETS = {"dev": "local", "lan": "lan", "wan": "wan"}
RESYNC_S = 10.0
HEALTH_S = 1.0
PRUNE_S = 600.0
DEMAND_S = 15.0
COPIES_S = 15.0
"""Admission makes demands and copies; these only complete what it could not, so they are in no hurry and not in its way."""


class Node:
    """One node. :meth:`run` ends when ``stop`` is set."""

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        self.identity = Identity.load(settings.directory / "peer.key")
        said = peer_id_text(self.identity.peer_id)
        if settings.peer_id and settings.peer_id != said:
            raise ConfigInvalid(
                f"VEIL_NODE_PEERID is {settings.peer_id}, the key in {settings.directory / 'peer.key'} is {said}",
                hint="start with the directory of that node, or unset VEIL_NODE_PEERID",
            )
        self._bootstrap = bootstrap_addresses(settings.bootstrap)
        signer = open_signer(
            settings.operator_keystore or settings.directory / "operator.key", passphrase_file=settings.passphrase_file
        )
        self._clock, self._random = SystemClock(), SystemRandom()
        self.journal = Journal(settings.directory / "journal.db")
        self.runtime = make_runtime(settings)
        self.chain = RegistryChain(settings.rpc_urls, Address(settings.contract), signer, deploy_block=settings.contract_block)
        self.endpoint = Endpoint(settings)
        self._loops: list[LevelLoop] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Start, run until ``stop`` is set, end in order. Containers go on. Raises what a part cannot recover from."""
        for start in (self.chain.start, self.runtime.start_driver):
            if not await until_available(start, stop):
                await self.chain.close()
                self.journal.close()
                return
        self._make_parts()
        await self.mesh.start()
        try:
            await self._serve(stop)
        finally:
            await self._close()

    # making

    def _make_parts(self) -> None:
        self._make_state()
        self._make_placement()
        self._make_agent()
        self._make_talk()
        self._make_doors()
        self._make_loops()

    def _make_state(self) -> None:
        """What the node knows: chain, mesh, keys, objects."""
        settings, directory = self.settings, self.settings.directory
        self.projection = Projection(directory / "store.db", self.chain.cluster)
        self.store = ObjectStore(
            directory / "store.db", reserve_rv=lambda count: self.journal.counters.reserve("resource-version", count)
        )
        self.mesh = LibP2PMesh(
            self.identity,
            self.chain.cluster,
            blobs=directory / "blobs",
            listen=(settings.listen,),
            preset=MESH_PRESETS[settings.preset],
            capture=settings.capture,
            mdns=settings.mdns == "yes",
            limits=settings.mesh,
        )
        self.disk = Disk(self.journal, directory)
        self.follower = ChainFollower(self.chain, self.projection, self._clock)
        self._make_keys()
        self.contents = Contents(self.mesh, self.identity)
        self.assembler = Assembler(self.store, self.projection, self.contents, self.mesh)
        self.reports = InstanceReports(self.store, self.projection, self._clock)

    def _make_keys(self) -> None:
        """Key epochs, and which journal's their shares are."""
        self.claims = ShareClaims(self.identity, self.projection, self.journal.id, lambda: self.follower.caught_up)
        loader = EpochLoader(
            identity=self.identity,
            mesh=self.mesh,
            journal=self.journal,
            claims=self.claims,
            public_key_file=self.settings.public_key_file,
            evaluator_threads=self.settings.evaluator_threads,
            on_claim=lambda: self._joining.poke(),
        )
        self.epochs = EpochKeeper(projection=self.projection, loader=loader, on_parts=self._epoch_changed)
        self.view = NodeView(self.projection, lambda: self.epochs.parts.key_epoch if self.epochs.parts else None)
        self.budget = DecryptionBudget(self.journal.rounds, self.view.key_epoch, self.view.decisions_per_candidate)

    def _make_placement(self) -> None:
        """What the node has to offer, and its part in rounds."""
        settings, directory = self.settings, self.settings.directory
        self.pressures = Pressures(self.runtime, self._clock)
        self.gpus = Gpus(self.runtime)
        self.capacity = MeasuredCapacity(
            self._clock,
            directory,
            share=settings.capacity_share,
            measure=lambda path: measure_machine(path, gpu_count=self.gpus.usable_count),
            closed=lambda: bool(self.pressures.active),
            disk_taken=lambda: disk_in_use_bytes(directory) - self.agent.disk_within_requests_bytes,
        )
        self.transcripts = Transcripts(directory / "transcripts", self._clock, retention_s=self.view.transcript_retention_s)
        self.placement = PlacementService(
            identity=self.identity,
            cluster=self.chain.cluster,
            mesh=self.mesh,
            chain=self.chain,
            view=self.view,
            journal=self.journal,
            capacity=self.capacity,
            reports=self.reports,
            clock=self._clock,
            random=self._random,
            settings=replace(PRESETS[settings.preset], finality=settings.finality),
            transcripts=self.transcripts,
            traits=Traits(
                priority=settings.priority,
                cost=settings.cost,
                latencies_ms=dict(settings.latencies_ms),
                quota=settings.quota,
            ),
        )

    def _make_agent(self) -> None:
        """What runs here, and how the node is rid of it."""
        settings, directory = self.settings, self.settings.directory
        self.allowed_images = AllowedImages(self.projection, self.mesh)
        self.agent = Agent(
            self.runtime,
            self.journal,
            self._clock,
            directory / "logs",
            self.placement.status_changed,
            node=settings.name,
            on_gone=self._instance_gone,
            volumes=Volumes(directory / "volumes", host_paths=settings.host_paths),
            networks=make_networks(settings),
            image_policy=self.allowed_images,
            gpus=self.gpus,
        )
        self.draining = Draining(self.placement, self._own_status, self._clock)

    def _make_talk(self) -> None:
        """What members ask each other besides rounds."""
        self.down_marks = DownMarks(
            local=self.placement.local, mesh=self.mesh, chain=self.chain, holds_lease=self.placement.holds_lease
        )
        self.viewing = Viewing(
            mesh=self.mesh,
            projection=self.projection,
            view=self.view,
            contents=self.contents,
            reports=self.reports,
            coordinates=self.placement.coordinates,
            on_keys=lambda: self._assembling.poke(),
        )
        self.auditing = Auditing(
            local=self.placement.local,
            mesh=self.mesh,
            transcripts=self.transcripts,
            bindings=self.placement.bindings,
            verify=self.chain.verify_placement,
        )
        self.logs = MeshLogs(identity=self.identity, mesh=self.mesh, agent=self.agent, view=self.view, random=self._random)
        self.execs = MeshExecs(identity=self.identity, mesh=self.mesh, agent=self.agent, view=self.view, random=self._random)

    def _make_doors(self) -> None:
        """Where others come in, and what they are told."""
        settings, directory = self.settings, self.settings.directory
        self.admission = Admission(
            identity=self.identity,
            chain=self.chain,
            mesh=self.mesh,
            projection=self.projection,
            store=self.store,
            keys=lambda: sealing_keys(self.epochs.parts),
        )
        self.api = ApiServer(self.store, self.admission, self.logs, self.auditing, self, self.execs)
        self.controllers = ControllersChild(self.endpoint.controllers_socket, directory / "controllers.log")
        self.replication = Replication(
            mesh=self.mesh,
            projection=self.projection,
            store=self.store,
            copies=self.admission.copies,
            homes=self.view.homes,
            clock=self._clock,
        )
        self.membership = Membership(
            identity=self.identity,
            name=settings.name,
            chain=self.chain,
            mesh=self.mesh,
            projection=self.projection,
            journal=self.journal,
            addresses=lambda: self.mesh.listen_addresses,
            labels={HOSTNAME_LABEL: settings.name, **dict(settings.labels)},
            taints=dict(settings.taints),
            claims=self.claims,
            bootstrap=self._bootstrap,
        )
        self.health = Health(self.store, self._own_name, self._conditions().all(), self._now, lambda: facts_of(self.epochs.parts))

    def _make_loops(self) -> None:
        self._assembling = self._loop("assemble objects", self.assembler.sync)
        self._joining = self._loop("membership", self.membership.sync)
        self._keying = self._loop("key epoch", self._sync_epochs)
        self._running = self._loop("instances to run", self._sync_agent)
        self._placing = self._loop("instances to place", self._sync_placement)
        self._showing = self._loop("workload status", self._sync_status)
        self._demanding = self._loop("demand for the key epoch", self._complete_demands, DEMAND_S)
        self._copying = self._loop("copies of contents", self._complete_copies, COPIES_S)
        self._loop("health", self._sync_health, HEALTH_S)
        self._loop("old transcripts", self._prune_transcripts, PRUNE_S)
        self._loop("journal's disk", self.disk.sync, CHECK_S)
        self._allowing = self._loop("allowed images", self.allowed_images.sync)
        self._loop("draining", self.draining.sync, DRAIN_S)
        self._loop("down marks", self._sync_marks, MARKS_S)
        self._loop("what is viewed", self._sync_viewing, VIEW_S)
        self._loop("pressure", self.pressures.sync, PRESSURE_S)
        self._loop("GPUs", self.gpus.sync, GPUS_S)

    def _loop(self, name: str, work: Callable[[], Awaitable[None]], period_s: float = RESYNC_S) -> LevelLoop:
        """One that runs with the node."""
        self._loops.append(LevelLoop(name, work, period_s=period_s))
        return self._loops[-1]

    # running

    async def _serve(self, stop: asyncio.Event) -> None:
        certificates = self.endpoint.certificates()
        await self.api.listen_unix(self.endpoint.socket)
        await self.api.listen_controllers(
            self.endpoint.controllers_socket, lambda obj: visible_to_controllers(obj, self.placement.coordinates)
        )
        port = await self._listen(server_context(certificates))
        self._server = self.endpoint.announce(port, certificates)
        self.projection.subscribe(self._chain_changed)
        self.placement.subscribe_bindings(self._running.poke)
        self.placement.subscribe_coordination(self._coordination_changed)
        await self.placement.start()
        await self.agent.start()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=name) for name, work in self._work()]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _listen(self, context: ssl.SSLContext) -> int:
        """The port of the last start is a wish; one that was configured is a must. Raises ConfigInvalid."""
        wanted = self.endpoint.wanted_port()
        try:
            return await self.api.listen_tls(self.endpoint.host, wanted, context, self.endpoint.token())
        except ConfigInvalid as error:
            if wanted == self.endpoint.port:
                raise
            log.warning("%s; taking another port, kubeconfigs have to be written anew", error.message)
            return await self.api.listen_tls(self.endpoint.host, 0, context, self.endpoint.token())

    def _work(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        work: list[tuple[str, Coroutine[Any, Any, None]]] = [(loop.name, loop.run()) for loop in self._loops]
        work += [
            ("follow the chain", self.follower.run()),
            ("catch up", self._catch_up()),
            ("controllers", self.controllers.run()),
            ("mesh changes", self._hear_mesh()),
        ]
        work += [
            (f"watch {kind}", self._watch(kind, loops))
            for kind, loops in (
                ("Instance", (self._placing, self._showing)),
                ("Workload", (self._showing,)),
                ("Namespace", (self._showing,)),
            )
        ]
        return work

    async def _catch_up(self) -> None:
        await self.follower.catch_up()
        for loop in self._loops:
            if loop not in (self._demanding, self._copying):
                loop.poke()

    async def _hear_mesh(self) -> None:
        async for member in self.mesh.changes():
            log.info("%s is %s", peer_id_text(member.peer)[-8:], member.state.value)
            self._assembling.poke()
            self._joining.poke()
            self._copying.poke()

    async def _watch(self, kind: str, loops: tuple[LevelLoop, ...]) -> None:
        """Poke ``loops`` at every change. Who has fallen behind looks at the whole once, and goes on from there."""
        while True:
            for loop in loops:
                loop.poke()
            try:
                async for _ in self.store.watch(kind, self.store.resource_version):
                    for loop in loops:
                        loop.poke()
            except Gone:
                log.info("changes of kind %s came faster than they were read", kind)

    async def _close(self) -> None:
        await self.api.close()
        await self.logs.close()
        await self.execs.close()
        await self.placement.close()
        await self.agent.close()
        await self.epochs.close()
        await self.mesh.close()
        await self.runtime.close()
        await self.chain.close()
        self.store.close()
        self.projection.close()
        self.journal.close()

    # what changes cause

    def _chain_changed(self) -> None:
        for loop in (self._assembling, self._joining, self._keying, self._running, self._allowing):
            loop.poke()

    def _epoch_changed(self, parts: EpochParts | None) -> None:
        self.placement.set_epoch(parts, self.epochs.last_parts)

    def _coordination_changed(self) -> None:
        self.api.reset_watches()
        self._placing.poke()

    def _instance_gone(self, key: InstanceKey) -> None:
        self.placement.release(key)

    async def _sync_epochs(self) -> None:
        """An epoch that has come up needs the workloads' demand; one that has gone ends what was begun in it."""
        before = (self.epochs.next_parts, self.epochs.last_parts)
        try:
            await self.epochs.sync()
        finally:
            if before != (after := (self.epochs.next_parts, self.epochs.last_parts)):
                self.placement.set_epoch(self.epochs.parts, after[1])
                self._demanding.poke()

    async def _sync_agent(self) -> None:
        bindings = self.placement.bindings()
        self.agent.set_desired(desired_instances(bindings, self.projection, caught_up=self.follower.caught_up))

    async def _sync_placement(self) -> None:
        if self.follower.caught_up:
            drop_foreign_instances(self.store, self.placement.coordinates, self._may_show)
            self.reports.drop_unheard(self.placement.coordinates)
        self.placement.set_wanted(wanted_replicas(self.store, self.placement.coordinates))

    async def _sync_marks(self) -> None:
        if self.follower.caught_up:
            await self.down_marks.sync()

    async def _sync_viewing(self) -> None:
        if self.follower.caught_up:
            await self.viewing.sync()

    async def _complete_demands(self) -> None:
        if self.follower.caught_up:
            epochs = [keys for parts in (self.epochs.parts, self.epochs.next_parts) if (keys := sealing_keys(parts))]
            await self.admission.demands.complete(epochs, self.placement.bindings())

    async def _complete_copies(self) -> None:
        if self.follower.caught_up:
            await self.replication.sync()

    async def _sync_status(self) -> None:
        self.reports.refresh_workloads()
        self.reports.events.prune()

    async def _prune_transcripts(self) -> None:
        self.transcripts.prune()

    async def _sync_health(self) -> None:
        await self.health.sync()
        self.endpoint.say(self._server, self._pids())

    # what others ask

    def _may_show(self, of: ObjectId) -> bool:
        """Whether replicas of a workload that another node coordinates are shown here."""
        return self.view.may_be_home(of, self.identity.peer_id) or self.viewing.shows(of)

    def drain(self, node: Obj) -> Obj:
        """See :class:`veil.api.ports.Drainer`. A node is drained by its own people, through its own API."""
        if node["metadata"]["name"] != self._own_name():
            name = node["metadata"]["name"]
            raise Forbidden(f"this is {self._own_name()}, not {name}", hint=f"ask {name} itself: its kubeconfig, or --dir")
        return self.draining.ask()

    def _own_status(self) -> str:
        row = self.projection.node(self.identity.peer_id)
        return row.status if row is not None else ""

    def _own_name(self) -> str:
        """As the registry has it: a name that somebody else registered first has a suffix here."""
        row = self.projection.node(self.identity.peer_id)
        return row.name if row is not None and row.proven else ""

    def _conditions(self) -> NodeConditions:
        return NodeConditions(
            peer=self.identity.peer_id,
            projection=self.projection,
            follower=self.follower,
            endpoints=self.chain.endpoints,
            mesh=self.mesh,
            epochs=self.epochs,
            budget=self.budget,
            disk=self.disk,
            runtime=self.runtime,
            pressures=self.pressures,
            gpus=self.gpus,
            controllers=self.controllers,
        )

    def _now(self) -> str:
        return rfc3339(self._clock.now_s())

    def _pids(self) -> dict[str, int]:
        named = {"meshd": self.mesh.pid or 0, "evald": self.epochs.evaluator_pid, "controllers": self.controllers.pid}
        return {name: pid for name, pid in named.items() if pid}

"""The placement of one node on asyncio: effects of the machines carried out over mesh, chain and evaluator.

All decisions are in :class:`veil.placement.core.Core`, which is synchronous. This file brings it messages, time, changes of the
view and the results of what it asked for, one at a time, and begins what it asks for next.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from veil.chain.ports import Chain
from veil.errors import Conflict, LimitExceeded, VeilError
from veil.identity import Identity
from veil.mesh.ports import Mesh, PeerState
from veil.placement.append import hash_of
from veil.placement.core import Core
from veil.placement.effects import (
    PENDING,
    REFETCH_S,
    RENEW,
    ROUND,
    Append,
    AskRenewal,
    Effect,
    Evaluate,
    Fetch,
    Keep,
    KeepLeaf,
    Send,
)
from veil.placement.local import Local
from veil.placement.policies import Traits
from veil.placement.ports import CapacityPort, ClusterView, EpochParts, Journal, ReplicaKey, ReportPort, Wanted
from veil.placement.ranking import shard_of
from veil.placement.settings import PlacementSettings
from veil.store.journal import Binding
from veil.store.transcripts import Transcripts
from veil.types import Clock, ClusterId, Digest, ObjectId, PeerId, Random, Shard
from veil.wire.codec import decode, encode
from veil.wire.rounds import InstanceStatus, RenewReply

log = logging.getLogger(__name__)

RESEND_S = 0.3
"""Between two attempts to send a message that was not taken."""

ATTEMPT_S = 2.0
"""How long one attempt may take."""

MEMBERS_AGE_S = 0.02
"""How old the answer to "who is gone" may be."""

FETCH_DEADLINE_S = 3.0
PUSH_DEADLINE_S = 2.0


class MeshLiveness:
    """Who is gone, as SWIM sees it; looked up once for all questions of one moment."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._mesh = mesh
        self._clock = clock
        self._asked_s = float("-inf")
        self._here: set[PeerId] = set()

    def gone(self, peer: PeerId) -> bool:
        if (now := self._clock.monotonic_s()) - self._asked_s > MEMBERS_AGE_S:
            self._asked_s = now
            states = (PeerState.DEAD, PeerState.LEFT)
            self._here = {member.peer for member in self._mesh.members() if member.state not in states}
        return peer not in self._here


class PlacementService:
    """One node's part in all rounds. Everything is called from the event loop's thread."""

    def __init__(
        self,
        *,
        identity: Identity,
        cluster: ClusterId,
        mesh: Mesh,
        chain: Chain,
        view: ClusterView,
        journal: Journal,
        capacity: CapacityPort,
        reports: ReportPort,
        clock: Clock,
        random: Random,
        settings: PlacementSettings,
        transcripts: Transcripts,
        traits: Traits,
    ) -> None:
        self._mesh = mesh
        self._transcripts = transcripts
        self._chain = chain
        self._binding_callbacks: list[Callable[[], None]] = []
        self._coordination_callbacks: list[Callable[[], None]] = []
        self._local = Local(
            identity=identity,
            cluster=cluster,
            view=view,
            clock=clock,
            random=random,
            liveness=MeshLiveness(mesh, clock),
            settings=settings,
            traits=traits,
        )
        self._core = Core(self._local, journal, capacity, reports, self._bindings_changed)
        self._view_moved = True
        self._woken = asyncio.Event()
        self._evaluations: asyncio.Queue[Evaluate] = asyncio.Queue()
        self._fetching: set[Digest] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._acting: list[Shard] = []
        self._unsubscribe: Callable[[], None] = lambda: None
        self._closed = False

    async def start(self) -> None:
        """Begin to answer and to act. The mesh has been started."""
        self._mesh.serve(ROUND, self._serve_round)
        self._mesh.serve(RENEW, self._serve_renewal)
        self._mesh.serve(PENDING, self._serve_pending)
        self._unsubscribe = self._local.view.subscribe(self._view_changed)
        for work in (self._turn(), self._evaluate_queued()):
            self._spawn(work)

    async def close(self) -> None:
        """Stop. What is bound stays so."""
        self._unsubscribe()
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def local(self) -> Local:
        """What its machines share; for who audits them."""
        return self._local

    # what the node tells and asks

    def set_epoch(self, parts: EpochParts | None, last: EpochParts | None = None) -> None:
        """Open rounds with ``parts`` from now on (None: with none), and end those that were begun with ``last``."""
        self._local.epoch, self._local.last_epoch = parts, last
        self._view_changed()

    def set_wanted(self, wanted: list[Wanted]) -> None:
        """All replicas with an Instance object here, of the shards coordinated here. Level-triggered."""
        self._core.desk.set_wanted(wanted)
        self._woken.set()

    def bindings(self) -> list[Binding]:
        """What this node has promised (reserved), is to run (bound) and is to stop (superseded)."""
        return self._core.holdings.bindings()

    def release(self, key: tuple[ObjectId, Any, int]) -> None:
        """Nothing of a replica runs here any more."""
        self._perform(self._core.release(ReplicaKey(*key)))

    def status_changed(self, key: tuple[ObjectId, Any, int], status: InstanceStatus) -> None:
        """What the agent says of a replica; it goes out with the next renewal."""
        self._core.renewals.status_changed(ReplicaKey(*key), status)
        self._woken.set()

    def move(self, keys: frozenset[ReplicaKey]) -> None:
        """Exactly these of the bound replicas are to be taken over by other nodes; they run until then. Level-triggered."""
        if keys != self._core.renewals.moving:
            self._core.renewals.move(keys)
            self._woken.set()

    def hindrance(self, key: ReplicaKey) -> str:
        """Why a replica that is to move has not moved: a condition's reason, or empty."""
        return self._core.holdings.hindrance(key)

    def said(self, key: ReplicaKey) -> InstanceStatus | None:
        """What the agent last said of a replica."""
        return self._core.renewals.status_of(key)

    def holds_lease(self, peer: PeerId) -> bool:
        """Whether ``peer`` was heard to hold something, and has not been silent long enough to be counted off."""
        return self._core.leases.holds(peer)

    def coordinates(self, object_id: ObjectId) -> bool:
        """Whether this node acts as the coordinator of the object's shard right now."""
        return self._core.desk.acting.is_acting(shard_of(object_id))

    def subscribe_bindings(self, callback: Callable[[], None]) -> None:
        """Called after every change of :meth:`bindings`."""
        self._binding_callbacks.append(callback)

    def subscribe_coordination(self, callback: Callable[[], None]) -> None:
        """Called when this node begins or ceases to act for a shard."""
        self._coordination_callbacks.append(callback)

    # turns

    def _bindings_changed(self) -> None:
        for callback in self._binding_callbacks:
            callback()

    def _view_changed(self) -> None:
        self._view_moved = True
        self._woken.set()

    async def _turn(self) -> None:
        """Let time pass: at every tick, and at once when something has changed."""
        while True:
            try:
                async with asyncio.timeout(self._local.settings.tick_s):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            moved, self._view_moved = self._view_moved, False
            try:
                self._perform(self._core.look_again(view_changed=moved))
                self._tell_coordination()
            except VeilError as error:
                self._view_moved = True
                log.warning("placement waits: %s: %s", error.reason, error.message)

    def _tell_coordination(self) -> None:
        acting = self._core.desk.acting.acting()
        if acting != self._acting:
            log.info("coordinating shards %s", ", ".join(str(shard) for shard in acting) or "none")
            self._acting = acting
            for callback in self._coordination_callbacks:
                callback()

    async def _serve_round(self, peer: PeerId, payload: bytes) -> bytes:
        self._perform(self._core.receive(peer, payload))
        return b""

    async def _serve_renewal(self, peer: PeerId, payload: bytes) -> bytes:
        reply, effects = self._core.receive_renewal(peer, payload)
        self._perform(effects)
        return encode(reply)

    async def _serve_pending(self, peer: PeerId, payload: bytes) -> bytes:
        self._core.receive_pending(peer, payload)
        return b""

    # effects

    def _perform(self, effects: Iterable[Effect]) -> None:
        if self._closed:
            return
        for effect in effects:
            match effect:
                case Send():
                    self._spawn(self._send(effect))
                case AskRenewal():
                    self._spawn(self._renew(effect))
                case Evaluate():
                    self._evaluations.put_nowait(effect)
                case Fetch() if effect.digest not in self._fetching:
                    self._fetching.add(effect.digest)
                    self._spawn(self._fetch(effect.digest))
                case Append():
                    self._spawn(self._append(effect))
                case Keep() | KeepLeaf():
                    self._keep(effect)
                case _:
                    pass

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.WARNING if isinstance(error, VeilError) else logging.CRITICAL
            log.log(level, "placement: %s", error, exc_info=error)

    async def _send(self, effect: Send) -> None:
        """Until it is taken, or no longer of use. A node talks to itself without the mesh."""
        try:
            payload = encode(effect.message)
        except LimitExceeded as error:
            log.error("a message is not sent: %s", error.message)
            return
        if effect.peer == self._local.peer:
            serve = {ROUND: self._serve_round, PENDING: self._serve_pending}[effect.protocol]
            await serve(effect.peer, payload)
            return
        deadline_s = self._local.now() + effect.deadline_s
        while (left_s := deadline_s - self._local.now()) > 0:
            try:
                await self._mesh.request(effect.peer, effect.protocol, payload, deadline_s=min(ATTEMPT_S, left_s))
                return
            except VeilError as error:
                log.debug("%s to %s: %s", effect.protocol, effect.peer.hex()[:16], error.message)
                await asyncio.sleep(RESEND_S)

    async def _renew(self, effect: AskRenewal) -> None:
        payload = encode(effect.message)
        try:
            if effect.peer == self._local.peer:
                answer = await self._serve_renewal(effect.peer, payload)
            else:
                answer = await self._mesh.request(effect.peer, RENEW, payload, deadline_s=ATTEMPT_S)
            reply = decode(answer, RenewReply)
        except VeilError as error:
            log.debug("a renewal was not answered: %s", error.message)
            return
        self._perform(self._core.on_renew_reply(effect.key, effect.peer, reply))

    async def _evaluate_queued(self) -> None:
        """One at a time: the evaluator uses all cores."""
        while True:
            asked = await self._evaluations.get()
            parts = self._local.parts_of(asked.epoch)
            result = None
            if parts is not None and parts.evaluator is not None:
                try:
                    evaluation = await parts.evaluator.evaluate(asked.circuit, asked.demand, asked.telemetry)
                    result = evaluation.result
                    log.info("round %s evaluated in %.2f s", asked.round.hex()[:8], evaluation.wall_s)
                except VeilError as error:
                    log.warning("round %s was not evaluated: %s", asked.round.hex()[:8], error.message)
            self._perform(self._core.on_evaluated(asked.round, result))

    async def _fetch(self, digest: Digest) -> None:
        content = None
        try:
            content = await self._mesh.get(digest, deadline_s=FETCH_DEADLINE_S)
        except VeilError as error:
            log.info("content %s: %s", digest.hex()[:16], error.message)
            await asyncio.sleep(REFETCH_S)
        finally:
            self._fetching.discard(digest)
        self._perform(self._core.on_content(digest, content))

    async def _append(self, effect: Append) -> None:
        outcome = "unknown"
        try:
            digest = await self._mesh.put(effect.data)
            await self._push(digest, effect.holders)
            await self._chain.append_placements(effect.shard, effect.sequence, effect.root, effect.count, digest)
            outcome = "appended"
        except Conflict as error:
            log.info("append %d of shard %d: %s", effect.sequence, effect.shard, error.message)
            outcome = "conflict"
        except VeilError as error:
            log.warning("append %d of shard %d: %s", effect.sequence, effect.shard, error.message)
        self._perform(self._core.on_append(effect.shard, effect.sequence, outcome))

    def _keep(self, effect: Keep | KeepLeaf) -> None:
        """A transcript that cannot be kept costs an audit and holds no round up."""
        try:
            if isinstance(effect, Keep):
                self._transcripts.keep(effect.round, effect.role, effect.transcript)
            else:
                self._transcripts.keep_leaf(hash_of(effect.bound.leaf), effect.bound)
        except VeilError as error:
            log.warning("a transcript is not kept: %s", error.message)

    async def _push(self, digest: Digest, holders: Iterable[PeerId]) -> None:
        """The leaves to the winners first, so that they find theirs even if this node dies after the append."""
        others = [peer for peer in holders if peer != self._local.peer]
        pushes = (self._mesh.push(digest, peer, deadline_s=PUSH_DEADLINE_S) for peer in others)
        for result in await asyncio.gather(*pushes, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, VeilError):
                raise result

"""Desired Instances in, containers out: the part of a node that starts, restarts and ends things.

Everything is level-triggered. Whatever happens (another desired state, an event of the runtime, a gap in its events, a timer)
only says *which* Instance to look at; what is done follows from what is desired, what the runtime has and what the journal
remembers (:mod:`veil.agent.reconcile`). So a node that was killed adopts what still runs and deals with what ended meanwhile
by doing what it always does.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypedDict

from veil.agent.acting import Acting, RestartTable
from veil.agent.backoff import History, Trouble
from veil.agent.containers import Containers
from veil.agent.evictions import GRACE_S, Eviction, Evictions
from veil.agent.gpus import Gpus
from veil.agent.image_gc import ImageGc
from veil.agent.images import EveryImage, ImagePolicy, Images
from veil.agent.keys import DesiredInstance, InstanceKey, container_id
from veil.agent.logs import Logs
from veil.agent.networks import Networks, RuntimeNetworks
from veil.agent.plans import Plans
from veil.agent.probe_calls import ProbeCalls
from veil.agent.probes import Health
from veil.agent.probing import Probing
from veil.agent.queue import WorkQueue, without_figures
from veil.agent.reconcile import Decision, decide
from veil.agent.spec import InstancePlan, RestartPolicy
from veil.agent.status import (
    evicted,
    instance_status,
    invalid_template,
    runtime_unavailable,
    same,
    terminating,
    without_names,
)
from veil.agent.troubles import Troubles
from veil.agent.volumes import Volumes
from veil.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    RuntimeUnavailable,
    VeilError,
)
from veil.runtime.ports import EventKind, ExecSession, Runtime
from veil.types import Clock, Random, SystemRandom
from veil.wire.rounds import InstanceStatus

log = logging.getLogger(__name__)

RESYNC_S = 30.0
"""How often everything is looked at without a reason: what no event told is repaired within that time."""

PASSES_MAX = 4
"""How often one look decides again after it has acted; what is left then is done in a next look."""

EVENTS_RETRY_S = 0.5
OBSERVE_S = 0.5
"""How exact the times of log lines are."""

ROTATE_S = 10.0


class _Seen(TypedDict):
    histories: Mapping[str, History]
    troubles: Mapping[str, Trouble]
    healths: Mapping[str, Health]
    now_s: float


class AgentJournal(Protocol):
    """The part of the journal that the agent writes."""

    @property
    def restarts(self) -> RestartTable: ...


class Agent:
    """Runs this node's Instances.

    ``on_status`` hears every change of an Instance's status; ``on_gone`` that nothing of an Instance is left. ``node`` is the
    node's name: containers carry it, and those of another name are never touched. Nothing is removed before the first
    :meth:`set_desired`. Without ``networks`` the runtime's containers have whatever network it gives them.
    """

    def __init__(
        self,
        runtime: Runtime,
        journal: AgentJournal,
        clock: Clock,
        log_dir: Path,
        on_status: Callable[[InstanceKey, InstanceStatus], None],
        *,
        node: str,
        on_gone: Callable[[InstanceKey], None] = lambda key: None,
        volumes: Volumes | None = None,
        networks: Networks | RuntimeNetworks | None = None,
        random: Random | None = None,
        image_policy: ImagePolicy | None = None,
        gpus: Gpus | None = None,
    ) -> None:
        self._runtime = runtime
        self._restarts = journal.restarts
        self._clock = clock
        self._on_status = on_status
        self._on_gone = on_gone
        self._logs = Logs(log_dir, clock)
        self._volumes = volumes or Volumes(log_dir.with_name("volumes"))
        self._networks = networks
        self._queue: WorkQueue[InstanceKey | None] = WorkQueue("agent", self._look, random=random or SystemRandom())
        self._images = Images(runtime, clock, self._queue.add, image_policy or EveryImage())
        self._image_gc = ImageGc(runtime, clock, self._wanted_images, self._images.some_removed)
        self._containers = Containers(runtime, node)
        self._plans = Plans(node, self._logs.paths, self._volumes, networks)
        self._probing = Probing(ProbeCalls(runtime), clock, self._queue.add)
        self._evictions = Evictions(
            runtime,
            clock,
            self._logs.paths,
            log_dir.with_name("evicted"),
            plans=self._plans_that_go_on,
            free=self._image_gc.collect,
            wake=self._queue.add,
        )
        self._desired: dict[InstanceKey, DesiredInstance] | None = None
        self._statuses: dict[InstanceKey, InstanceStatus] = {}
        self._troubles = Troubles(clock)
        self._acting = Acting(
            runtime,
            clock,
            containers=self._containers,
            images=self._images,
            logs=self._logs,
            volumes=self._volumes,
            networks=networks,
            gpus=gpus or Gpus(runtime),
            restarts=self._restarts,
            troubles=self._troubles,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin. The runtime's driver has been started; it may be away."""
        await asyncio.to_thread(self._logs.adopt)
        await asyncio.to_thread(self._evictions.adopt)
        self._queue.start()
        self._queue.add(None)
        loop = asyncio.get_running_loop()
        work = {"events": self._hear(), "logs": self._tend_logs(), "images": self._image_gc.run(), "disk": self._evictions.run()}
        self._tasks = [loop.create_task(one, name=f"agent {name}") for name, one in work.items()]

    async def close(self) -> None:
        """Stop looking. Containers go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._queue.close()
        await self._probing.close()
        await self._images.close()

    def set_desired(self, desired: Mapping[InstanceKey, DesiredInstance]) -> None:
        """Exactly these are to run here from now on; every other Instance of this node is stopped and removed."""
        before, self._desired = self._desired, dict(desired)
        if before is None:
            changed = set(self._desired) | self._containers.keys()
            self._queue.add(None)  # to find what was left of those that are not wanted
        else:
            changed = {key for key in before.keys() | self._desired.keys() if before.get(key) != self._desired.get(key)}
        for key in sorted(changed):
            self._queue.add(key)

    @property
    def disk_within_requests_bytes(self) -> int:
        """What the Instances hold of the disk that was promised to them."""
        return self._evictions.within_requests_bytes

    def statuses(self) -> dict[InstanceKey, InstanceStatus]:
        """What was last said of each Instance that is here."""
        return dict(self._statuses)

    async def logs(
        self,
        key: InstanceKey,
        container: str = "",
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: float | None = None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> AsyncIterator[bytes]:
        """What a container of the Instance said: see :meth:`Logs.read`. Its name may be left out when there is one (init
        containers aside). Raises NotFound, InvalidInput."""
        name = self._logs.choose(key.text, container or self._only_container(key))
        pieces = self._logs.read(
            key.text,
            name,
            follow=follow,
            tail_lines=tail_lines,
            since_s=since_s,
            timestamps=timestamps,
            previous=previous,
            alive=lambda: self._goes_on(key),
        )
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def open_exec(self, key: InstanceKey, container: str, command: Sequence[str], *, tty: bool) -> ExecSession:
        """A command in a container of the Instance; its name may be left out when there is one.

        Raises NotFound, InvalidInput, ContainerFailed.
        """
        desired = (self._desired or {}).get(key)
        if desired is None:
            raise NotFound("this node does not run the Instance", hint="it has moved: look again with `veil get instances`")
        listed = desired.spec.get("containers")
        names = [str(one.get("name", "")) for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
        if container not in names and (container or len(names) != 1):
            raise InvalidInput(f"which container? There are {', '.join(sorted(names))}", hint="name one with --container")
        return await self._runtime.open_exec(container_id(key, container or names[0]), command, tty=tty)

    def _only_container(self, key: InstanceKey) -> str:
        """Its name if the template has one besides init containers, or empty."""
        desired = (self._desired or {}).get(key)
        containers = desired.spec.get("containers") if desired is not None and desired.spec.get("initContainers") else None
        return str(containers[0].get("name", "")) if isinstance(containers, list) and len(containers) == 1 else ""

    def _goes_on(self, key: InstanceKey) -> bool:
        status = self._statuses.get(key)
        return key in (self._desired or {}) and (status is None or status.phase not in ("Succeeded", "Failed"))

    def _plans_that_go_on(self) -> dict[InstanceKey, InstancePlan]:
        return {key: plan for key, plan in self._plans.made().items() if self._goes_on(key)}

    def _wanted_images(self) -> list[str]:
        found = []
        for desired in (self._desired or {}).values():
            for kind in ("containers", "initContainers"):
                listed = desired.spec.get(kind)
                found += [str(one.get("image")) for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
        return found

    async def _look(self, key: InstanceKey | None) -> float | None:
        """Bring one Instance closer to what is desired (None: find out which there are). Gives back when to look again."""
        try:
            if key is None:
                return await self._resync()
            if self._desired is None:
                return None
            desired = self._desired.get(key)
            if desired is not None:
                return await self._run(desired)
            await self._remove(key)
            return None
        except (RuntimeUnavailable, DeadlineExceeded) as error:
            if key is None:
                raise
            if key in (self._desired or {}):
                self._publish(key, runtime_unavailable(self._statuses.get(key), self._clock.now_s()))
            if isinstance(error, DeadlineExceeded):
                raise
            self._queue.add_after(None, EVENTS_RETRY_S)  # one key asks until the runtime answers, then all are looked at
            return None

    async def _resync(self) -> float:
        await self._containers.learn()
        on_disk = await asyncio.to_thread(self._on_disk)
        known = self._containers.keys() | (self._desired or {}).keys() | self._statuses.keys()
        for key in known:
            self._queue.add(key)
        if self._desired is not None:
            await self._sweep(on_disk - {key.text for key in known})
        return RESYNC_S

    def _on_disk(self) -> set[str]:
        networks = self._networks.instances() if self._networks is not None else set()
        return self._logs.instances() | self._volumes.instances() | self._evictions.instances() | networks

    async def _sweep(self, left: set[str]) -> None:
        """Remove the files of Instances that are not here any more: an agent was killed between their containers and these."""
        for instance in left:
            if instance not in {key.text for key in self._containers.keys() | (self._desired or {}).keys()}:  # by now
                await self._remove_files(instance)

    async def _remove_files(self, instance: str) -> None:
        self._logs.remove(instance)
        await asyncio.to_thread(self._volumes.remove, instance)
        await asyncio.to_thread(self._evictions.remove, instance)
        if self._networks is not None:
            await self._networks.remove(instance)

    async def _run(self, desired: DesiredInstance) -> float | None:
        try:
            plan = self._plans.of(desired)
        except InvalidInput as error:
            log.warning("%s: %s", desired.key.text, without_figures(error.message))
            self._publish(desired.key, invalid_template(self._clock.now_s()))
            return None
        if (eviction := self._evictions.pending(desired.key)) is not None:
            await self._evict(desired.key, plan, eviction)
        if message := self._evictions.marked(desired.key):
            self._publish(desired.key, evicted(message, self._clock.now_s()))
            return None
        for _ in range(PASSES_MAX):
            decision = await self._decide(desired.key, plan)
            if not decision.actions:
                return self._until(decision)
            if not await self._acting.carry_out(desired.key, plan, decision):
                return self._until(await self._decide(desired.key, plan))
        return 0.0

    async def _evict(self, key: InstanceKey, plan: InstancePlan, eviction: Eviction) -> None:
        """End it and free its disk. It begins anew, init containers first, or where it is to run once is over for good.

        Its restarts are forgotten first and it is marked last: a crash in between ends it once more, or shows it as lost.
        """
        self._probing.forget(key)
        if plan.policy is not RestartPolicy.NEVER:
            self._restarts.forget(key.text)
        for container in await self._containers.of(key, [planned.spec.id for planned in plan.everything]):
            await self._containers.remove(key, container.id, grace_s=GRACE_S)
        self._logs.remove(key.text)
        await asyncio.to_thread(self._volumes.remove, key.text)
        if plan.policy is RestartPolicy.NEVER:
            await asyncio.to_thread(self._evictions.mark, key, eviction)
        pause = self._evictions.done(key, eviction)
        for planned in plan.everything:
            self._troubles.set(key, planned.name, pause)

    def _until(self, decision: Decision) -> float | None:
        return None if decision.wake_s is None else max(0.0, decision.wake_s - self._clock.now_s())

    async def _decide(self, key: InstanceKey, plan: InstancePlan) -> Decision:
        """What is to be done now; the status is what can be seen on the way."""
        actual = await self._containers.of(key, [planned.spec.id for planned in plan.everything])
        seen: _Seen = {
            "histories": {planned.name: self._acting.history(key, planned.name) for planned in plan.everything},
            "troubles": self._troubles.of(key),
            "healths": self._probing.watch(key, plan.containers, actual),
            "now_s": self._clock.now_s(),
        }
        self._publish(key, instance_status(plan, actual, pulling=self._images.pulling, **seen))
        return decide(plan, actual, **seen)

    async def _remove(self, key: InstanceKey) -> None:
        """Stop what there is of an Instance, then forget it (its restarts, too: should it come back, it begins anew)."""
        self._plans.forget(key)
        self._images.forget(key)
        actual = await self._containers.of(key)
        if not actual and key not in self._statuses:
            return
        self._probing.forget(key)
        self._evictions.forget(key)
        self._restarts.forget(key.text)  # first: a crash on the way must not leave restarts to the next of that name
        if actual:
            self._publish(key, terminating(self._statuses.get(key), self._clock.now_s()))
            gone = decide(None, actual, histories={}, troubles={}, healths={}, now_s=self._clock.now_s())
            removals = [self._containers.remove(key, action.id, grace_s=action.grace_s) for action in gone.actions]
            for failure in await asyncio.gather(*removals, return_exceptions=True):
                if failure is not None:
                    raise failure
        if not self._containers.listed:
            return
        self._troubles.forget(key)
        await self._remove_files(key.text)
        self._statuses.pop(key, None)
        if key not in (self._desired or {}):
            self._on_gone(key)

    def _publish(self, key: InstanceKey, status: InstanceStatus) -> None:
        desired = (self._desired or {}).get(key)
        if desired is None or not desired.public:
            status = without_names(status)
        before = self._statuses.get(key)
        self._statuses[key] = status
        if not same(before, status):
            self._on_status(key, status)

    async def _hear(self) -> None:
        """Events only say where to look; after a gap everything is looked at. Who starts things here knows of it already."""
        while True:
            try:
                async for event in self._runtime.events():
                    if event.kind is EventKind.RESYNC:
                        self._queue.add(None)
                    elif event.kind is not EventKind.STARTED and (key := self._containers.happened(event.id)) is not None:
                        self._queue.add(key)
            except VeilError as error:
                log.warning("events of the runtime: %s: %s", error.reason, without_figures(error.message))
            await asyncio.sleep(EVENTS_RETRY_S)

    async def _tend_logs(self) -> None:
        rotate_s = 0.0
        while True:
            try:
                if self._clock.monotonic_s() >= rotate_s:
                    await asyncio.to_thread(self._logs.rotate)
                    rotate_s = self._clock.monotonic_s() + ROTATE_S
                await asyncio.to_thread(self._logs.observe, self._clock.now_s())
            except OSError as error:
                log.warning("log files cannot be tended: %s", error.strerror)
            await asyncio.sleep(OBSERVE_S)

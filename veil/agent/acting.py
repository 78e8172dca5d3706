"""What was decided for an Instance, done: containers made and started with all they need, or the trouble that prevents it.

Nothing is decided here (:mod:`veil.agent.reconcile`). What fails is remembered as its container's trouble, and a later look
goes on.
"""

import asyncio
import logging
from functools import partial
from typing import Protocol

from veil.agent.backoff import History, first_start, restarted
from veil.agent.containers import Containers
from veil.agent.gpus import Gpus
from veil.agent.images import Images, ImageState
from veil.agent.keys import InstanceKey
from veil.agent.logs import Logs
from veil.agent.networks import Network, Networks, RuntimeNetworks
from veil.agent.reconcile import Action, Decision, Verb
from veil.agent.spec import InstancePlan, Planned
from veil.agent.status import GPU_UNAVAILABLE, NETWORK_UNAVAILABLE, VOLUME_UNAVAILABLE
from veil.agent.troubles import Troubles
from veil.agent.volumes import Volumes
from veil.errors import Conflict, ContainerFailed, Forbidden, ImageUnavailable, NotFound, Unavailable, VeilError
from veil.runtime.credentials import Login
from veil.runtime.ports import ContainerSpec, Runtime
from veil.runtime.reference import parse_reference
from veil.store.journal import RestartRow
from veil.types import Clock

log = logging.getLogger(__name__)

STARTS_AT_ONCE = 8
"""Creations and starts in the runtime at a time: more only makes each slower (facts: 16 a second on two cores, 8 wide)."""

DISK_NEEDED_BYTES = 1 << 20
"""Free, for what a runtime writes to start a container; below it a failed start is the disk's fault."""


class RestartTable(Protocol):
    """The journal's memory of restarts, by instance and container."""

    def get(self, instance: str, container: str) -> RestartRow: ...

    def put(self, instance: str, container: str, row: RestartRow) -> None: ...

    def forget(self, instance: str) -> None: ...


class Acting:
    """Carries decisions out for one agent."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        *,
        containers: Containers,
        images: Images,
        logs: Logs,
        volumes: Volumes,
        networks: Networks | RuntimeNetworks | None,
        gpus: Gpus,
        restarts: RestartTable,
        troubles: Troubles,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._containers = containers
        self._images = images
        self._logs = logs
        self._volumes = volumes
        self._networks = networks
        self._gpus = gpus
        self._restarts = restarts
        self._troubles = troubles
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)

    async def carry_out(self, key: InstanceKey, plan: InstancePlan, decision: Decision) -> bool:
        """Act in order. False when something could not be done now: a later look goes on with it."""
        stuck: set[str] = set()
        for action in decision.actions:
            if action.container in stuck:
                continue
            try:
                if not await self._act(key, plan, action):
                    stuck.add(action.container)
            except (NotFound, Unavailable):
                raise
            except (VeilError, OSError) as error:
                stuck.add(action.container)
                self._troubles.failed(key, action.container, error, disk_full=await self._is_disk_full(error))
        return not stuck

    async def _act(self, key: InstanceKey, plan: InstancePlan, action: Action) -> bool:
        if action.verb is Verb.REMOVE:
            await self._containers.remove(key, action.id, grace_s=action.grace_s)
            return True
        if action.verb is Verb.STOP:
            await self._containers.stop(action.id, grace_s=action.grace_s)
            return True
        (planned,) = [planned for planned in plan.everything if planned.name == action.container]
        if plan.volumes and not await self._volumes_ready(key, plan, planned.name):
            return False
        if plan.network and not await self._network_ready(key, plan.network, planned.name):
            return False
        image = planned.spec.image
        login = plan.logins.find(parse_reference(image).registry)
        if action.verb is Verb.CREATE:
            if self._images.ensure(image, key, login) is not ImageState.PRESENT:
                return self._wait_for_image(key, planned, login)
            self._logs.prepare(key.text, planned.name)
            return await self._make(key, planned)
        if not self._images.may_start(image, key, login):
            return self._wait_for_image(key, planned, login)
        self._logs.prepare(key.text, planned.name)  # the sweep of an Instance that went may have met the one that came back
        self._put_log_aside(key, action)
        self._remember_start(key, action)
        async with self._starts:
            await self._containers.start(action.id)
        self._troubles.over(key, planned.name)
        return True

    def _wait_for_image(self, key: InstanceKey, planned: Planned, login: Login | None) -> bool:
        """Until it is here, and allowed."""
        if (trouble := self._images.trouble(planned.spec.image, login)) is not None:
            self._troubles.set(key, planned.name, trouble)
        return False

    async def _is_disk_full(self, error: VeilError | OSError) -> bool:
        """What a full disk breaks does not always say so: runc cannot write its state, and says nothing more."""
        if not isinstance(error, ContainerFailed):
            return False
        try:
            disk = await self._runtime.disk()
        except VeilError:
            return False
        return disk.total_bytes - disk.used_bytes < DISK_NEEDED_BYTES

    async def _volumes_ready(self, key: InstanceKey, plan: InstancePlan, container: str) -> bool:
        try:
            await asyncio.to_thread(self._volumes.prepare, key.text, plan.volumes, plan.memory_bytes)
        except (Forbidden, NotFound) as error:
            self._troubles.refused(key, container, VOLUME_UNAVAILABLE, error)
            return False
        return True

    async def _network_ready(self, key: InstanceKey, network: Network, container: str) -> bool:
        try:
            if self._networks is not None:
                await self._networks.prepare(network)
        except (Conflict, ContainerFailed, NotFound) as error:
            log.warning("%s: network: %s", key.text, error.message)
            self._troubles.refused(key, container, NETWORK_UNAVAILABLE, error)
            return False
        return True

    async def _make(self, key: InstanceKey, planned: Planned) -> bool:
        if not planned.gpu_count:
            await self._create(key, planned.spec)
            return True
        try:
            await self._gpus.give(planned.spec, planned.gpu_count, partial(self._create, key))
        except (Conflict, NotFound) as error:
            self._troubles.refused(key, planned.name, GPU_UNAVAILABLE, error)
            return False
        return True

    async def _create(self, key: InstanceKey, spec: ContainerSpec) -> None:
        try:
            async with self._starts:
                await self._containers.create(key, spec)
        except ImageUnavailable:
            self._images.missing(spec.image)
            raise

    def _remember_start(self, key: InstanceKey, action: Action) -> None:
        """Before the start: a crash in between may count one start too many, never one too few."""
        history, now_s = self.history(key, action.container), self._clock.now_s()
        if action.verb is Verb.RESTART:
            history = restarted(history, ended_s=action.ended_s, now_s=now_s)
        else:
            history = first_start(history, now_s)
        self._restarts.put(key.text, action.container, RestartRow(history.count, history.last_s, history.backoff_s))

    def _put_log_aside(self, key: InstanceKey, action: Action) -> None:
        """Once for each run: a start that is tried again because it failed, or because nobody knows of it, has no output yet."""
        started_s = self.history(key, action.container).last_s
        if action.verb is Verb.RESTART and not started_s >= action.ended_s > 0:
            self._logs.put_aside(key.text, action.container)

    def history(self, key: InstanceKey, container: str) -> History:
        row = self._restarts.get(key.text, container)
        return History(count=row.count, last_s=row.last_s, backoff_s=row.backoff_s)

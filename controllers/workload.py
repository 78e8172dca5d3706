"""Workload → Instances: makes and removes Instance objects until they are what the Workload asks for.

What is to be done is decided by :func:`veil.rollout.plan.plan`; here are only the reasons to look again: an event of a
Workload, an event of one of its Instances that can change the plan, and a sweep over everything now and then, which also
finds what no event told (a watch that was cut, an attempt that failed for good) and Instances whose Workload is gone.

Status is not written here: the node computes a Workload's status from its Instances.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import kopf
from tenacity import retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.asyncio import AsyncRetrying

from veil.client.kinds import GROUP, INSTANCES, VERSION, WORKLOADS, Obj, Resource
from veil.errors import AlreadyExists, Conflict, NotFound, VeilError
from veil.rollout.instance import desired_of, new_instance, observed_of
from veil.rollout.names import LABEL_WORKLOAD
from veil.rollout.plan import plan

log = logging.getLogger(__name__)

SWEEP_S = 10.0
ORPHAN_GRACE_S = 5.0
"""An Instance without a Workload goes after so long: a node that has just started may not have read the Workload yet. One
whose Workload was seen to be deleted goes at once."""

FIRST_SWEEP_S = ORPHAN_GRACE_S + 0.5
"""When what was found without a Workload at the start has waited long enough."""

ATTEMPTS_MAX = 6
RETRY_MAX_S = 2.0


class Key(NamedTuple):
    """A Workload by name."""

    namespace: str
    name: str


class Api(Protocol):
    """What is asked of the node's API (:class:`veil.client.api.ApiClient`)."""

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Obj | None: ...

    async def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> Obj: ...

    async def create(self, resource: Resource, obj: Obj, namespace: str = "") -> Obj: ...

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "") -> Obj: ...


class Reconciler:
    """Brings Workloads to rest, each by itself: never two looks at one at once, and one more look after changes during one."""

    def __init__(self, api: Api, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._now_s = now_s
        self._locks: dict[Key, asyncio.Lock] = {}
        self._next: set[Key] = set()
        self._deleted: set[Key] = set()
        self._missing_s: dict[Key, float] = {}

    def deleted(self, key: Key) -> None:
        """The Workload was seen to be deleted."""
        self._deleted.add(key)

    def exists(self, key: Key) -> None:
        """The Workload was seen."""
        self._deleted.discard(key)

    async def reconcile(self, key: Key) -> None:
        """Do what is to be done now for one Workload. Failures are tried again a few times, then left to the next sweep."""
        if key in self._next:
            return
        self._next.add(key)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            self._next.discard(key)
            try:
                async for attempt in _attempts():
                    with attempt:
                        await self._look(key)
            except VeilError as error:
                log.warning("workload %s/%s: %s: %s", key.namespace, key.name, error.reason, error.message)
        if key not in self._next and not lock.locked():
            self._locks.pop(key, None)

    async def sweep(self) -> None:
        """Look at every Workload that is not at rest, and at Instances without one. Raises what the API raises."""
        workloads = {_key_of(obj): obj for obj in (await self._api.list(WORKLOADS))["items"]}
        instances: dict[Key, list[Obj]] = {key: [] for key in workloads}
        for obj in (await self._api.list(INSTANCES))["items"]:
            instances.setdefault(_owner_of(obj), []).append(obj)
        for key in self._missing_s.keys() - (instances.keys() - workloads.keys()):
            del self._missing_s[key]
        restless = [
            key
            for key, of_key in instances.items()
            if key not in workloads or plan(desired_of(workloads[key]), [observed_of(obj) for obj in of_key])
        ]
        await asyncio.gather(*(self.reconcile(key) for key in restless))

    async def _look(self, key: Key) -> None:
        workload = await self._api.find(WORKLOADS, key.name, key.namespace)
        found = await self._api.list(INSTANCES, key.namespace, labels=f"{LABEL_WORKLOAD}={key.name}")
        instances: list[Obj] = found["items"]
        if workload is None:
            await self._orphaned(key, instances)
            return
        self._missing_s.pop(key, None)
        step = plan(desired_of(workload), [observed_of(obj) for obj in instances])
        uids = {obj["metadata"]["name"]: str(obj["metadata"].get("uid", "")) for obj in instances}
        for name in step.remove:
            await self._remove(key, name, uids[name])
        for generation, replica in step.create:
            with contextlib.suppress(AlreadyExists):
                await self._api.create(INSTANCES, new_instance(workload, generation, replica), key.namespace)
        if step:
            log.info("workload %s/%s: %d made, %d removed", key.namespace, key.name, len(step.create), len(step.remove))

    async def _orphaned(self, key: Key, instances: list[Obj]) -> None:
        if instances and key not in self._deleted:
            since_s = self._missing_s.setdefault(key, self._now_s())
            if self._now_s() - since_s < ORPHAN_GRACE_S:
                return
        for obj in instances:
            await self._remove(key, obj["metadata"]["name"], str(obj["metadata"].get("uid", "")))
        self._missing_s.pop(key, None)
        self._deleted.discard(key)

    async def _remove(self, key: Key, name: str, uid: str) -> None:
        """Gone already, or another object under the same name by now: nothing to remove."""
        with contextlib.suppress(NotFound, Conflict):
            await self._api.delete(INSTANCES, name, key.namespace, uid=uid)


def _attempts() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, VeilError) and error.retryable),
        stop=stop_after_attempt(ATTEMPTS_MAX),
        wait=wait_random_exponential(multiplier=0.05, max=RETRY_MAX_S),
        reraise=True,
    )


def _key_of(workload: Obj) -> Key:
    return Key(workload["metadata"]["namespace"], workload["metadata"]["name"])


def _owner_of(instance: Obj) -> Key:
    return Key(instance["metadata"]["namespace"], instance["spec"]["workload"])


class Watcher:
    """Which events are a reason to look: renewals change a status every few seconds and the plan hardly ever."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._facts: dict[tuple[str, str, str], Any] = {}

    async def workload(self, obj: Obj, *, gone: bool) -> None:
        key = _key_of(obj)
        metadata = obj["metadata"]
        facts = (metadata.get("uid"), metadata.get("generation"), "deletionTimestamp" in metadata, desired_of(obj))
        if gone:
            self._reconciler.deleted(key)
        else:
            self._reconciler.exists(key)
        if self._changed("Workload", obj, facts, gone):
            await self._reconciler.reconcile(key)

    async def instance(self, obj: Obj, *, gone: bool) -> None:
        if self._changed("Instance", obj, (obj["metadata"].get("uid"), observed_of(obj)), gone):
            await self._reconciler.reconcile(_owner_of(obj))

    def _changed(self, kind: str, obj: Obj, facts: Any, gone: bool) -> bool:
        name = (kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
        if gone:
            self._facts.pop(name, None)
            return True
        before, self._facts[name] = self._facts.get(name), facts
        return bool(before != facts)


async def _sweep_for_ever(reconciler: Reconciler) -> None:
    pause_s = FIRST_SWEEP_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = SWEEP_S
        try:
            await reconciler.sweep()
        except VeilError as error:
            log.warning("sweep: %s: %s", error.reason, error.message)


def _end_process(task: asyncio.Task[None]) -> None:
    """A sweep that ended by an error nobody foresaw ends the process: its parent starts a new one."""
    if not task.cancelled() and task.exception() is not None:
        log.error("the sweep of workloads has failed", exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)


@kopf.on.startup()
async def begin(memo: kopf.Memo, **_: Any) -> None:
    """One reconciler for all events. ``memo.client`` comes from ``connection.py``, which is loaded first."""
    reconciler = Reconciler(memo.client)
    memo.workload_watcher = Watcher(reconciler)
    memo.workload_sweep = asyncio.create_task(_sweep_for_ever(reconciler), name="sweep of workloads")
    memo.workload_sweep.add_done_callback(_end_process)


@kopf.on.cleanup()
async def end(memo: kopf.Memo, **_: Any) -> None:
    memo.workload_sweep.cancel()


@kopf.on.event(GROUP, VERSION, WORKLOADS.plural)
async def workload_event(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    await memo.workload_watcher.workload(event["object"], gone=event["type"] == "DELETED")


@kopf.on.event(GROUP, VERSION, INSTANCES.plural)
async def instance_event(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    await memo.workload_watcher.instance(event["object"], gone=event["type"] == "DELETED")

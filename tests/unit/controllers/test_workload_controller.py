"""The Workload controller against an API in memory: it comes to rest, alone per Workload, whatever fails on the way."""

import asyncio
import importlib.util
import random
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from veil.client.kinds import Resource
from veil.errors import AlreadyExists, Conflict, NodeUnavailable, NotFound

pytestmark = pytest.mark.looptime

Obj = dict[str, Any]


def load() -> ModuleType:
    """By path, as kopf does."""
    path = Path(__file__).parents[3] / "controllers" / "workload.py"
    spec = importlib.util.spec_from_file_location("workload_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


controller = load()
KEY = controller.Key("shop", "web")


class MemoryApi:
    """Workloads and Instances; every call takes a moment, fails on demand and is counted."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Obj] = {}
        self.calls: list[str] = []
        self.failures = 0
        self.changing: dict[str, int] = {}
        self.overlaps = 0
        self._uids = 0

    async def _enter(self, verb: str) -> None:
        self.calls.append(verb)
        await asyncio.sleep(0.01)
        if self.failures > 0:
            self.failures -= 1
            raise NodeUnavailable("the node is away")

    def put(self, kind: str, obj: Obj) -> Obj:
        self._uids += 1
        obj = deepcopy(obj)
        obj["metadata"]["uid"] = f"uid-{self._uids}"
        self.objects[kind, obj["metadata"]["namespace"], obj["metadata"]["name"]] = obj
        return obj

    def workload(self, replicas: int = 2, generation: int = 1, name: str = "web", **metadata: Any) -> None:
        given = {"name": name, "namespace": "shop", "generation": generation, **metadata}
        self.put("Workload", {"kind": "Workload", "metadata": given, "spec": {"replicas": replicas}})

    def instances(self, name: str = "web") -> set[str]:
        return {
            obj["metadata"]["name"]
            for (kind, _, _), obj in self.objects.items()
            if kind == "Instance" and obj["spec"]["workload"] == name
        }

    def ready(self) -> None:
        for (kind, _, _), obj in self.objects.items():
            if kind == "Instance":
                obj["status"] = {"phase": "Running", "ready": True}

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Obj | None:
        await self._enter("find")
        return deepcopy(self.objects.get((resource.kind, namespace, name)))

    async def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> Obj:
        await self._enter(f"list {resource.kind}")
        key, _, value = labels.partition("=")
        return {
            "items": [
                deepcopy(obj)
                for (kind, of, _), obj in self.objects.items()
                if kind == resource.kind and namespace in ("", of) and (not key or obj["metadata"]["labels"].get(key) == value)
            ]
        }

    async def create(self, resource: Resource, obj: Obj, namespace: str = "") -> Obj:
        await self._changing(obj["spec"]["workload"], "create")
        if (resource.kind, namespace, obj["metadata"]["name"]) in self.objects:
            raise AlreadyExists("there already")
        return self.put(resource.kind, obj)

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "") -> Obj:
        await self._changing(name.rsplit("-", 2)[0], "delete")
        live = self.objects.get((resource.kind, namespace, name))
        if live is None:
            raise NotFound("gone")
        if uid != live["metadata"]["uid"]:
            raise Conflict("another one")
        return self.objects.pop((resource.kind, namespace, name))

    async def _changing(self, workload: str, verb: str) -> None:
        self.changing[workload] = self.changing.get(workload, 0) + 1
        self.overlaps += self.changing[workload] > 1
        try:
            await self._enter(verb)
        finally:
            self.changing[workload] -= 1


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


@pytest.fixture
def reconciler(api: MemoryApi) -> Any:
    return controller.Reconciler(api, now_s=lambda: asyncio.get_running_loop().time())


async def test_created_scaled_and_deleted(api: MemoryApi, reconciler: Any) -> None:
    api.workload(2)
    await reconciler.reconcile(KEY)
    assert api.instances() == {"web-1-0", "web-1-1"}
    api.ready()
    api.workload(1)
    await reconciler.reconcile(KEY)
    assert api.instances() == {"web-1-0"}
    del api.objects["Workload", "shop", "web"]
    reconciler.deleted(KEY)
    await reconciler.reconcile(KEY)
    assert api.instances() == set()


async def test_a_new_generation_rolls(api: MemoryApi, reconciler: Any) -> None:
    api.workload(1)
    await reconciler.reconcile(KEY)
    api.ready()
    api.workload(1, 2)
    await reconciler.reconcile(KEY)
    assert api.instances() == {"web-1-0", "web-2-0"}
    api.ready()
    await reconciler.reconcile(KEY)
    assert api.instances() == {"web-2-0"}


async def test_scaling_leaves_the_instances_of_the_template(api: MemoryApi, reconciler: Any) -> None:
    watcher = controller.Watcher(reconciler)
    uids = set()
    for generation, replicas in enumerate((1, 3, 2, 1), start=4):
        api.workload(replicas, generation, annotations={"veil.dev/template-generation": "4"})
        await watcher.workload(api.objects["Workload", "shop", "web"], gone=False)
        api.ready()
        assert api.instances() == {f"web-4-{replica}" for replica in range(replicas)}
        uids.add(api.objects["Instance", "shop", "web-4-0"]["metadata"]["uid"])
    assert len(uids) == 1
    api.workload(1, 7, annotations={"veil.dev/template-generation": "7"})
    await watcher.workload(api.objects["Workload", "shop", "web"], gone=False)
    assert api.instances() == {"web-4-0", "web-7-0"}


async def test_a_workload_that_is_being_deleted_loses_its_instances(api: MemoryApi, reconciler: Any) -> None:
    api.workload(2)
    await reconciler.reconcile(KEY)
    api.workload(2, deletionTimestamp="2026-01-01T00:00:00Z")
    await reconciler.reconcile(KEY)
    assert api.instances() == set()


async def test_instances_of_a_workload_not_read_yet_are_kept_for_a_while(api: MemoryApi, reconciler: Any) -> None:
    api.workload(1)
    await reconciler.reconcile(KEY)
    workload = api.objects.pop(("Workload", "shop", "web"))
    await reconciler.sweep()
    api.objects["Workload", "shop", "web"] = workload
    await asyncio.sleep(controller.ORPHAN_GRACE_S + 1)
    await reconciler.sweep()
    await reconciler.reconcile(KEY)
    assert api.instances() == {"web-1-0"}
    del api.objects["Workload", "shop", "web"]
    await reconciler.sweep()
    assert api.instances() == {"web-1-0"}
    await asyncio.sleep(controller.ORPHAN_GRACE_S)
    await reconciler.sweep()
    assert api.instances() == set()


async def test_the_sweep_repairs_what_no_event_told(api: MemoryApi, reconciler: Any) -> None:
    for number in range(5):
        api.workload(2, name=f"w{number}")
    await reconciler.sweep()
    assert all(len(api.instances(f"w{number}")) == 2 for number in range(5))
    api.calls.clear()
    await reconciler.sweep()
    assert api.calls == ["list Workload", "list Instance"]


async def test_failures_are_tried_again(api: MemoryApi, reconciler: Any) -> None:
    api.workload(3)
    api.failures = 4
    await reconciler.reconcile(KEY)
    assert len(api.instances()) == 3


async def test_failures_are_given_up_after_a_while_and_left_to_the_sweep(api: MemoryApi, reconciler: Any) -> None:
    api.workload(3)
    api.failures = 1000
    await reconciler.reconcile(KEY)
    assert api.calls.count("find") == controller.ATTEMPTS_MAX
    api.failures = 0
    await reconciler.sweep()
    assert len(api.instances()) == 3


async def test_one_workload_is_never_changed_twice_at_once_and_bursts_collapse(api: MemoryApi, reconciler: Any) -> None:
    api.workload(5)
    await asyncio.gather(*(reconciler.reconcile(KEY) for _ in range(50)))
    assert (len(api.instances()), api.overlaps) == (5, 0)
    assert api.calls.count("find") <= 2
    assert reconciler._locks == {}


async def test_a_twin_without_the_lock_is_caught(api: MemoryApi, reconciler: Any) -> None:
    api.workload(5)
    await asyncio.gather(*(reconciler._look(KEY) for _ in range(3)))
    assert api.overlaps > 0


async def test_only_changes_that_matter_are_a_reason_to_look(api: MemoryApi, reconciler: Any) -> None:
    watcher = controller.Watcher(reconciler)
    api.workload(1)
    workload = api.objects["Workload", "shop", "web"]
    await watcher.workload(workload, gone=False)
    made = api.objects["Instance", "shop", "web-1-0"]
    await watcher.instance(made, gone=False)
    api.calls.clear()
    for second in range(20):
        await watcher.instance({**made, "status": {"observedAt": str(second)}}, gone=False)
        await watcher.workload({**workload, "status": {"readyReplicas": second}}, gone=False)
    assert api.calls == []
    await watcher.instance({**made, "status": {"phase": "Running", "ready": True}}, gone=False)
    assert api.calls.count("find") == 1
    del api.objects["Instance", "shop", "web-1-0"]
    await watcher.instance(made, gone=True)
    assert api.instances() == {"web-1-0"}
    del api.objects["Workload", "shop", "web"]
    await watcher.workload(workload, gone=True)
    assert api.instances() == set()


@pytest.mark.parametrize("seed", range(5))
async def test_random_changes_come_to_rest(api: MemoryApi, reconciler: Any, seed: int) -> None:
    chance = random.Random(seed)
    generations = dict.fromkeys(["a", "b", "c"], 0)
    for _ in range(40):
        name = chance.choice(sorted(generations))
        generations[name] += 1
        if chance.random() < 0.2:
            api.objects.pop(("Workload", "shop", name), None)
        else:
            api.workload(chance.randrange(5), generations[name], name)
        api.failures = chance.choice([0, 0, 0, 2, 9])
        await reconciler.reconcile(controller.Key("shop", name))
        if chance.random() < 0.5:
            api.ready()
    api.failures = 0
    for _ in range(30):
        api.ready()
        await reconciler.sweep()
        await asyncio.sleep(1)
    for name in generations:
        workload = api.objects.get(("Workload", "shop", name))
        wanted = workload["spec"]["replicas"] if workload else 0
        generation = workload["metadata"]["generation"] if workload else 0
        assert api.instances(name) == {f"{name}-{generation}-{replica}" for replica in range(wanted)}

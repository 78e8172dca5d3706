"""The object store: versions that never go back, watches that miss nothing or say so, a file that may be lost."""

import asyncio
import random
import sqlite3
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from veil.errors import NotFound
from veil.store.objects import RV_BLOCK, WATCH_WINDOW_EVENTS, Gone, ObjectStore, WatchEvent


class Reserver:
    """The journal's counter, without a journal."""

    def __init__(self) -> None:
        self.value = 0
        self.calls = 0

    def __call__(self, count: int) -> int:
        first = self.value + 1
        self.value += count
        self.calls += 1
        return first


def obj(name: str, kind: str = "Workload", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "veil.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def memory() -> ObjectStore:
    return ObjectStore(None, reserve_rv=Reserver())


async def take(store: ObjectStore, kind: str, since: int, number: int) -> list[WatchEvent]:
    events = []
    async with asyncio.timeout(1):
        async for event in store.watch(kind, since):
            events.append(event)
            if len(events) == number:
                break
    return events


def test_put_sets_what_is_missing_and_keeps_it() -> None:
    store = memory()
    first = store.put(obj("a", replicas=1))
    assert first["metadata"]["uid"]
    assert first["metadata"]["creationTimestamp"].endswith("Z")
    second = store.put(obj("a", replicas=2))
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["metadata"]["creationTimestamp"] == first["metadata"]["creationTimestamp"]
    assert int(second["metadata"]["resourceVersion"]) == store.resource_version > int(first["metadata"]["resourceVersion"])


def test_put_copies() -> None:
    store = memory()
    given = obj("a", items=[1])
    stored = store.put(given)
    given["spec"]["items"].append(2)
    assert store.get("Workload", "default", "a")["spec"]["items"] == [1]
    assert stored is store.get("Workload", "default", "a")


async def test_putting_the_same_again_is_no_event() -> None:
    store = memory()
    start = store.resource_version
    stored = store.put(obj("a", replicas=1))
    assert store.put(stored) is stored
    assert store.put(obj("a", replicas=1)) is stored
    old_version = {**stored, "metadata": {**stored["metadata"], "resourceVersion": "1"}}
    assert store.put(old_version) is stored
    store.put(obj("a", replicas=2))
    assert [e.type for e in await take(store, "Workload", start, 2)] == ["ADDED", "MODIFIED"]


def test_list_is_sorted_and_filtered() -> None:
    store = memory()
    for name, namespace in (("b", "x"), ("a", "y"), ("a", "x")):
        store.put(obj(name, namespace=namespace))
    store.put({"apiVersion": "veil.dev/v1alpha1", "kind": "Node", "metadata": {"name": "n"}})
    names = [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in store.list("Workload")]
    assert names == [("x", "a"), ("x", "b"), ("y", "a")]
    assert [o["metadata"]["name"] for o in store.list("Workload", "x")] == ["a", "b"]
    assert len(store.list("Node")) == 1
    assert store.list("Instance") == []


def test_get_and_delete() -> None:
    store = memory()
    stored = store.put(obj("a"))
    gone = store.delete("Workload", "default", "a")
    assert gone is not None
    assert int(gone["metadata"]["resourceVersion"]) == store.resource_version > int(stored["metadata"]["resourceVersion"])
    assert stored["metadata"]["resourceVersion"] != gone["metadata"]["resourceVersion"], "what was handed out does not change"
    assert store.delete("Workload", "default", "a") is None
    with pytest.raises(NotFound) as error:
        store.get("Workload", "default", "a")
    assert "default" in error.value.message


async def test_a_watch_goes_on_from_any_version_in_the_window() -> None:
    store = memory()
    versions = [store.resource_version]
    for index in range(5):
        store.put(obj("a", index=index))
        versions.append(store.resource_version)
        store.put(obj("other", kind="Instance", index=index))
    for start, version in enumerate(versions[:-1]):
        events = await take(store, "Workload", version, 5 - start)
        assert [e.object["spec"]["index"] for e in events] == list(range(start, 5))
        assert [e.rv for e in events] == sorted(e.rv for e in events)


async def test_a_waiting_watch_is_woken_by_its_kind() -> None:
    store = memory()
    waiting = asyncio.create_task(take(store, "Workload", store.resource_version, 2))
    await asyncio.sleep(0)
    store.put(obj("i", kind="Instance"))
    store.put(obj("a"))
    await asyncio.sleep(0)
    store.delete("Workload", "default", "a")
    assert [e.type for e in await waiting] == ["ADDED", "DELETED"]


@pytest.mark.parametrize("steps", range(5))
async def test_no_moment_is_too_early_to_be_woken(steps: int) -> None:
    store = memory()
    waiting = asyncio.create_task(take(store, "Workload", store.resource_version, 1))
    for _ in range(steps):
        await asyncio.sleep(0)
    store.put(obj("a"))
    assert len(await waiting) == 1


async def test_many_watchers_see_the_same_history() -> None:
    """Each replays what the store holds at the end, whatever it was doing meanwhile."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    store = memory()

    async def mirror() -> dict[str, Any]:
        seen: dict[str, Any] = {o["metadata"]["name"]: o for o in store.list("Workload")}
        async for event in store.watch("Workload", store.resource_version):
            name = event.object["metadata"]["name"]
            if name == "end":
                return seen
            if event.type == "DELETED":
                assert seen.pop(name, None) is not None
            else:
                assert (name in seen) == (event.type == "MODIFIED")
                seen[name] = event.object
            for _ in range(draw.randrange(3)):
                await asyncio.sleep(0)
        raise AssertionError

    mirrors = []
    for step in range(300):
        if step % 60 == 0:
            mirrors.append(asyncio.create_task(mirror()))
        name = f"w{draw.randrange(8)}"
        if draw.random() < 0.3:
            store.delete("Workload", "default", name)
        else:
            store.put(obj(name, value=draw.randrange(3)))
        if draw.random() < 0.5:
            await asyncio.sleep(0)
    final = {o["metadata"]["name"]: o for o in store.list("Workload")}
    store.put(obj("end"))
    assert await asyncio.gather(*mirrors) == [final] * len(mirrors)


async def test_a_watch_from_outside_is_gone_at_once() -> None:
    store = memory()
    for version in (store.resource_version - 1, store.resource_version + 1, 0):
        with pytest.raises(Gone):
            store.watch("Workload", version)


async def test_a_reader_that_falls_behind_is_told() -> None:
    store = memory()
    start = store.resource_version
    stream = store.watch("Workload", start)
    store.put(obj("first"))
    assert (await anext(stream)).object["metadata"]["name"] == "first"
    for index in range(WATCH_WINDOW_EVENTS + 1):
        store.put(obj("a", index=index))
    with pytest.raises(Gone):
        await anext(stream)
    with pytest.raises(Gone):
        store.watch("Workload", start)
    quiet = store.watch("Instance", start)
    store.put(obj("i", kind="Instance"))
    assert (await anext(quiet)).rv == store.resource_version, "another kind's events push nothing out"


def test_versions_rise_over_restarts_and_without_the_file(tmp_path: Path) -> None:
    reserve = Reserver()
    path = tmp_path / "store.db"
    store = ObjectStore(path, reserve_rv=reserve)
    for index in range(RV_BLOCK + 5):
        store.put(obj("a", index=index))
    assert reserve.calls == 2
    last = store.resource_version
    store.close()

    again = ObjectStore(path, reserve_rv=reserve)
    assert again.get("Workload", "default", "a")["spec"]["index"] == RV_BLOCK + 4
    assert again.resource_version > last
    with pytest.raises(Gone):
        again.watch("Workload", last)
    again.put(obj("a", index="new"))
    last = again.resource_version
    again.close()

    path.unlink()
    fresh = ObjectStore(path, reserve_rv=reserve)
    assert fresh.list("Workload") == []
    assert fresh.resource_version > last
    fresh.close()


def test_everything_comes_back_after_a_restart(tmp_path: Path) -> None:
    reserve = Reserver()
    store = ObjectStore(tmp_path / "store.db", reserve_rv=reserve)
    with store.batch():
        for index in range(50):
            store.put(obj(f"w{index}", index=index))
        store.delete("Workload", "default", "w7")
    store.put(obj("w8", index="changed"))
    before = store.list("Workload")
    store.close()
    again = ObjectStore(tmp_path / "store.db", reserve_rv=reserve)
    assert again.list("Workload") == before
    assert len(before) == 49
    again.close()


def test_a_full_disk_stops_nobody_and_is_caught_up_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reserve = Reserver()
    path = tmp_path / "store.db"
    store = ObjectStore(path, reserve_rv=reserve)
    store.put(obj("a"))
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count={pages}")
    for index in count():
        store.put(obj(f"big{index}", text="x" * 3000))
        if store._behind:
            break
        assert index < 100
    store.delete("Workload", "default", "a")
    store.put(obj("after"))
    assert store.get("Workload", "default", "after")
    assert [r.message for r in caplog.records if "takes no writes" in r.message] != []
    assert len([r for r in caplog.records if "takes no writes" in r.message]) == 1, "said once"
    store._database.execute("PRAGMA max_page_count=1000000")
    store.put(obj("room"))
    before = store.list("Workload")
    store.close()
    again = ObjectStore(path, reserve_rv=reserve)
    assert again.list("Workload") == before
    again.close()


@pytest.mark.parametrize(
    "damage", [b"this is no database, not at all, whatever you try" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_damaged_file_is_rebuilt(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(damage)
    store = ObjectStore(path, reserve_rv=Reserver())
    store.put(obj("a"))
    assert "rebuilt" in caplog.text
    store.close()


def test_a_file_of_another_version_is_rebuilt(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=99")
        database.execute("CREATE TABLE api_objects (other TEXT)")
    database.close()
    store = ObjectStore(path, reserve_rv=Reserver())
    store.put(obj("a"))
    store.close()

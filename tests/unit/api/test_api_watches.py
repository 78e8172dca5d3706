"""Watches: what a client is told, in which order, and how a watch ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from veil.api import watches
from veil.api.fake import FakeNode, a_workload, an_instance
from veil.api.kinds import INSTANCE
from veil.api.selectors import selector
from veil.api.watches import Watch
from veil.client.answers import Change
from veil.client.kinds import INSTANCES, WORKLOADS
from veil.client.requests import Call
from veil.errors import Conflict, InvalidInput


class Listener:
    """A watch without HTTP."""

    def __init__(self, node: FakeNode, query: Mapping[str, str], hidden: set[str] | None = None) -> None:
        match = selector(labels=query.get("labelSelector", ""))
        unseen = hidden if hidden is not None else set()
        self.closing, self.reset = asyncio.Event(), asyncio.Event()
        watch = Watch(node.store, INSTANCE, lambda o: match(o) and o["metadata"]["name"] not in unseen, lambda o: o, query)
        self._lines = watch.lines(self.closing, self.reset)

    async def next(self, count: int = 1) -> list[tuple[str, str]]:
        """The type and name (or code) of the next ``count`` events."""
        events: list[tuple[str, str]] = []
        while len(events) < count:
            for line in (await anext(self._lines)).splitlines():
                event = msgspec.json.decode(line)
                obj = event["object"]
                events.append((event["type"], str(obj.get("code") or obj["metadata"].get("name", ""))))
        return events

    async def ended(self) -> bool:
        async with asyncio.timeout(2):
            return await anext(self._lines, None) is None

    async def quiet(self) -> bool:
        """Whether nothing comes although everything had time to."""
        for _ in range(20):
            await asyncio.sleep(0)
        return True


def labelled(name: str, **labels: str) -> Any:
    obj = an_instance(name)
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


async def test_without_a_version_what_is_there_comes_first(served: FakeNode) -> None:
    served.store.put(an_instance("a-1-0"))
    listener = Listener(served, {})
    assert await listener.next() == [("ADDED", "a-1-0")]
    served.store.put(an_instance("a-1-1"))
    served.store.put(an_instance("a-1-0", "Failed"))
    served.store.delete("Instance", "default", "a-1-1")
    assert await listener.next(3) == [("ADDED", "a-1-1"), ("MODIFIED", "a-1-0"), ("DELETED", "a-1-1")]


async def test_from_a_version_only_what_came_after_it(served: FakeNode) -> None:
    served.store.put(an_instance("a-1-0"))
    version = served.store.resource_version
    served.store.put(an_instance("a-1-1"))
    listener = Listener(served, {"resourceVersion": str(version)})
    assert await listener.next() == [("ADDED", "a-1-1")]


@pytest.mark.parametrize("version", ["999999999", "1"])
async def test_a_version_that_is_unknown_or_forgotten_is_gone(served: FakeNode, version: str) -> None:
    served.store._opened_rv = 2
    listener = Listener(served, {"resourceVersion": version})
    assert await listener.next() == [("ERROR", "410")]
    assert await listener.ended()


@pytest.mark.parametrize("query", [{"resourceVersion": "x"}, {"resourceVersion": "-1"}, {"timeoutSeconds": "soon"}])
async def test_nonsense_is_refused(served: FakeNode, query: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        Listener(served, query)


async def test_objects_that_begin_and_stop_to_match_are_added_and_deleted(served: FakeNode) -> None:
    served.store.put(labelled("a-1-0", app="web"))
    served.store.put(labelled("b-1-0", app="db"))
    version = str(served.store.resource_version)
    listener = Listener(served, {"labelSelector": "app=web", "resourceVersion": version})
    first = asyncio.ensure_future(listener.next(3))
    await asyncio.sleep(0)
    served.store.put(labelled("a-1-0", app="db"))
    served.store.put(labelled("b-1-0", app="web"))
    served.store.put(labelled("b-1-0", app="web", more="1"))
    assert await first == [("DELETED", "a-1-0"), ("ADDED", "b-1-0"), ("MODIFIED", "b-1-0")]


async def test_bookmarks_never_run_ahead_of_events(served: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "BOOKMARK_PERIOD_S", 0.002)

    def busy(obj: Any) -> bool:
        """Matches everything, while bookmarks fall due and other objects change."""
        time.sleep(0.003)
        return True

    watch = Watch(served.store, INSTANCE, busy, lambda o: o, {"allowWatchBookmarks": "true"})
    lines = watch.lines(asyncio.Event(), asyncio.Event())

    async def write() -> None:
        for number in range(30):
            served.store.put(an_instance(f"a-1-{number % 3}", restarts=number))
            await asyncio.sleep(0.004 * (number % 3))

    writing = asyncio.create_task(write())
    bookmarked, kinds = 0, []
    async with asyncio.timeout(5):
        async for line in lines:
            event = msgspec.json.decode(line)
            version = int(event["object"]["metadata"]["resourceVersion"])
            kinds.append(event["type"])
            if event["type"] == "BOOKMARK":
                bookmarked = version
            else:
                assert version > bookmarked, "a client that goes on from the bookmark would never see this event"
            if writing.done() and version == served.store.resource_version:
                break
    assert {"BOOKMARK", "MODIFIED"} <= set(kinds)


async def test_initial_events_end_with_a_bookmark(served: FakeNode) -> None:
    served.store.put(an_instance("a-1-0"))
    listener = Listener(served, {"sendInitialEvents": "true", "allowWatchBookmarks": "true"})
    assert await listener.next(2) == [("ADDED", "a-1-0"), ("BOOKMARK", "")]


async def test_a_watch_ends_after_its_time_and_when_the_server_closes(served: FakeNode) -> None:
    timed = Listener(served, {"timeoutSeconds": "1"})
    closed = Listener(served, {})
    ending = asyncio.ensure_future(closed.ended())
    await asyncio.sleep(0.01)
    closed.closing.set()
    assert await ending
    assert await timed.ended()


async def test_a_change_of_charge_reports_the_lost_as_deleted_and_ends_with_410(served: FakeNode) -> None:
    hidden: set[str] = set()
    served.store.put(an_instance("a-1-0"))
    served.store.put(an_instance("b-1-0"))
    listener = Listener(served, {}, hidden)
    assert len(await listener.next(2)) == 2
    rest = asyncio.ensure_future(listener.next(2))
    await asyncio.sleep(0)
    hidden.add("a-1-0")
    listener.reset.set()
    assert await rest == [("DELETED", "a-1-0"), ("ERROR", "410")]
    assert await listener.ended()


async def test_a_reader_that_fell_behind_too_far_is_told_to_list_again(served: FakeNode) -> None:
    listener = Listener(served, {})
    first = asyncio.ensure_future(listener.next())
    await asyncio.sleep(0)
    served.store.put(an_instance("a-1-0"))
    await first
    with served.store.batch():
        for number in range(5000):
            served.store.put(an_instance("a-1-0", restarts=number + 1))
    seen = await listener.next()
    while seen[-1][0] != "ERROR":
        seen = await listener.next()
    assert seen[-1] == ("ERROR", "410")


async def changes(stream: AsyncIterator[Change], count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async for change in stream:
        found.append((change.type, change.object["metadata"]["name"]))
        if len(found) == count:
            break
    return found


async def test_watches_over_http_reach_both_doors_and_end_with_the_server(served: FakeNode) -> None:
    async with served.client() as client, served.client(controllers=True) as controllers:
        listed = await client.list(WORKLOADS)
        since = listed["metadata"]["resourceVersion"]
        one = asyncio.create_task(changes(client.watch(WORKLOADS, since=since), 2))
        other = asyncio.create_task(changes(controllers.watch(WORKLOADS, "default"), 2))
        await asyncio.sleep(0.05)
        await client.create(WORKLOADS, a_workload(), "default")
        await client.delete(WORKLOADS, "hello", "default")
        assert await one == await other == [("ADDED", "hello"), ("DELETED", "hello")]
        last = asyncio.create_task(changes(client.watch(INSTANCES), 1))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(3):
            await served.server.close()
            assert await last == []


async def test_a_watch_of_an_old_version_is_a_conflict_for_the_client(served: FakeNode) -> None:
    async with served.client() as client:
        with pytest.raises(Conflict):
            await changes(client.watch(WORKLOADS, since="999999"), 1)


async def test_tables_can_be_watched(served: FakeNode) -> None:
    served.store.put(an_instance("a-1-0"))
    call = Call(
        method="GET",
        path=INSTANCES.path("default"),
        query={"watch": "True", "timeoutSeconds": "1"},
        accept="application/json;as=Table;v=v1;g=meta.k8s.io",
    )
    async with served.client() as client:
        event = await client.send(call)
    assert (event["object"]["kind"], event["object"]["rows"][0]["cells"][0]) == ("Table", "a-1-0")

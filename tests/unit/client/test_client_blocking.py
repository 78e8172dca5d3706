"""The blocking client against a real server: watches that go on, connections that end, pieces of log."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from veil.api import watches
from veil.api.fake import FakeNode, a_workload, an_instance
from veil.client import blocking
from veil.client.blocking import BlockingClient, unix_config
from veil.client.kinds import INSTANCES, WORKLOADS
from veil.errors import ChainUnavailable, DeadlineExceeded, NodeUnavailable, NotFound

T = TypeVar("T")


async def with_client(served: FakeNode, work: Callable[[BlockingClient], T]) -> T:
    def run() -> T:
        with BlockingClient(unix_config(served.socket)) as client:
            return work(client)

    return await asyncio.to_thread(run)


async def test_the_verbs(served: FakeNode) -> None:
    def work(client: BlockingClient) -> None:
        assert client.find(WORKLOADS, "hello", "default") is None
        client.create(WORKLOADS, a_workload(), "default")
        client.patch(WORKLOADS, "hello", {"spec": {"replicas": 4}}, "default")
        assert client.get(WORKLOADS, "hello", "default")["spec"]["replicas"] == 4
        assert client.list(WORKLOADS, table=True)["kind"] == "Table"
        client.delete(WORKLOADS, "hello", "default")
        with pytest.raises(NotFound):
            client.get(WORKLOADS, "hello", "default")
        assert client.version()["major"] == "1"

    await with_client(served, work)


async def test_a_write_is_never_sent_twice(served: FakeNode) -> None:
    served.writer.faults.append(ChainUnavailable("away", hint="wait"))

    def work(client: BlockingClient) -> None:
        with pytest.raises(ChainUnavailable, match="away"):
            client.create(WORKLOADS, a_workload(), "default")

    await with_client(served, work)
    assert served.writer.applied == []


async def test_a_watch_goes_on_after_the_server_ended_it(served: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "WATCH_DEFAULT_S", 0.05)
    monkeypatch.setattr(blocking, "RECONNECT_PAUSE_S", 0.01)

    def work(client: BlockingClient) -> list[tuple[str, str]]:
        seen = []
        for change in client.watch(INSTANCES, "default"):
            seen.append((change.type, change.object["metadata"]["name"]))
            if len(seen) == 2:
                return seen
        return seen

    watching = asyncio.create_task(with_client(served, work))
    served.store.put(an_instance("a-1-0"))
    await asyncio.sleep(0.2)
    served.store.put(an_instance("a-1-1"))
    assert await watching == [("ADDED", "a-1-0"), ("ADDED", "a-1-1")]


async def test_a_watch_with_a_deadline_ends_with_it(served: FakeNode) -> None:
    def work(client: BlockingClient) -> float:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            for _ in client.watch(INSTANCES, "default", timeout_s=0.3):
                pass
        return time.monotonic() - start

    assert await with_client(served, work) < 3


async def test_logs_come_in_pieces(served: FakeNode) -> None:
    served.store.put(an_instance())
    served.logs.lines["hello-1-0"] = [b"a\n", b"b\n"]
    assert await with_client(served, lambda client: b"".join(client.logs(INSTANCES, "hello-1-0", "default"))) == b"a\nb\n"


async def test_a_server_that_is_away_is_named(served: FakeNode) -> None:
    await served.server.close()

    def work(client: BlockingClient) -> None:
        with pytest.raises(NodeUnavailable, match=r"unix://.*does not answer") as caught:
            client.list(WORKLOADS)
        assert "veil dev status" in caught.value.hint

    await with_client(served, work)

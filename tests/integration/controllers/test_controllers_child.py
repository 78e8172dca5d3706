"""The real child process with kopf against a real API over its unix socket."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from veil.api.fake import FakeNode, a_workload
from veil.api.server import ApiServer
from veil.client.kinds import INSTANCES, WORKLOADS
from veil.errors import Forbidden

LAUNCH = Path(__file__).parents[3] / "controllers" / "launch.py"


class Child:
    """A node's API and its controllers."""

    def __init__(self, directory: Path) -> None:
        self.node = FakeNode(directory)
        self.directory = directory
        self.process: asyncio.subprocess.Process | None = None
        self.heartbeat = directory / "heartbeat"

    async def start(self) -> None:
        with (self.directory / "controllers.log").open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(LAUNCH),
                "--socket",
                str(self.node.controllers_socket),
                "--heartbeat",
                str(self.heartbeat),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def end(self) -> int:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(10):
            return await self.process.wait()

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    @property
    def log(self) -> str:
        return (self.directory / "controllers.log").read_text()

    def instances(self, workload: str = "hello") -> set[str]:
        return {obj["metadata"]["name"] for obj in self.node.store.list("Instance") if obj["spec"]["workload"] == workload}

    def all_ready(self) -> None:
        for obj in self.node.store.list("Instance"):
            self.node.store.put({**obj, "status": {"phase": "Running", "ready": True}})

    async def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> float:
        began_s = time.monotonic()
        while not condition():
            if time.monotonic() - began_s > timeout_s:
                raise AssertionError(f"not within {timeout_s} s; {self.instances()}\n{self.log}")
            await asyncio.sleep(0.01)
        return time.monotonic() - began_s


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    made = Child(tmp_path)
    await made.node.start()
    await made.start()
    yield made
    if made.process is not None and made.process.returncode is None:
        with contextlib.suppress(TimeoutError):
            await made.end()
        if made.process.returncode is None:
            await made.kill()
    await made.node.close()


async def test_created_scaled_rolled_and_deleted(child: Child) -> None:
    async with child.node.client() as client:
        await client.create(WORKLOADS, a_workload(replicas=2), "default")
        await child.until(lambda: child.instances() == {"hello-1-0", "hello-1-1"})
        child.all_ready()

        await client.patch(WORKLOADS, "hello", {"spec": {"replicas": 3}}, "default")
        await roll(child, {"hello-2-0", "hello-2-1", "hello-2-2"})
        await client.patch(WORKLOADS, "hello", {"spec": {"replicas": 1}}, "default")
        await roll(child, {"hello-3-0"})

        metadata = (await client.get(WORKLOADS, "hello", "default"))["metadata"]
        assert "finalizers" not in metadata
        assert not metadata.get("annotations")

        await client.delete(WORKLOADS, "hello", "default")
        await child.until(lambda: child.instances() == set(), 3)


async def roll(child: Child, expected: set[str]) -> None:
    """What is made becomes ready, one after another, as on a cluster."""

    def step() -> bool:
        if child.instances() == expected:
            return True
        if any(not obj.get("status", {}).get("ready") for obj in child.node.store.list("Instance")):
            child.all_ready()
        return False

    await child.until(step)


async def test_the_reaction_is_fast_once_it_watches(child: Child) -> None:
    async with child.node.client() as client:
        await client.create(WORKLOADS, a_workload("first", replicas=1), "default")
        await child.until(lambda: child.instances("first"))
        await client.create(WORKLOADS, a_workload("second", replicas=10), "default")
        assert await child.until(lambda: len(child.instances("second")) == 10) < 1.0


async def test_an_instance_removed_behind_its_back_comes_back(child: Child) -> None:
    async with child.node.client() as client, child.node.client(controllers=True) as theirs:
        await client.create(WORKLOADS, a_workload(replicas=2), "default")
        await child.until(lambda: len(child.instances()) == 2)
        await theirs.delete(INSTANCES, "hello-1-0", "default")
        await child.until(lambda: len(child.instances()) == 2, 3)
        with pytest.raises(Forbidden):
            await client.delete(INSTANCES, "hello-1-0", "default")


async def test_what_happened_while_it_was_dead_is_caught_up(child: Child) -> None:
    async with child.node.client() as client:
        for name in ("stays", "goes"):
            await client.create(WORKLOADS, a_workload(name, replicas=2), "default")
            await child.until(lambda name=name: len(child.instances(name)) == 2)
        await child.kill()
        await client.delete(WORKLOADS, "goes", "default")
        await client.create(WORKLOADS, a_workload("new", replicas=1), "default")
        await child.start()
        await child.until(lambda: child.instances("new") == {"new-1-0"})
        await child.until(lambda: child.instances("goes") == set(), 30)
        assert len(child.instances("stays")) == 2


async def test_objects_that_come_into_its_charge_are_served(child: Child) -> None:
    child.node.hidden.add("hello")
    async with child.node.client() as client:
        await client.create(WORKLOADS, a_workload("first", replicas=1), "default")
        await client.create(WORKLOADS, a_workload(replicas=1), "default")
        await child.until(lambda: child.instances("first"))
        assert child.instances() == set()
        child.node.hidden.clear()
        child.node.server.reset_watches()
        await child.until(lambda: child.instances() == {"hello-1-0"}, 5)


async def test_the_api_goes_away_and_comes_back(child: Child) -> None:
    async with child.node.client() as client:
        await client.create(WORKLOADS, a_workload("first", replicas=1), "default")
        await child.until(lambda: child.instances("first"))
    await child.node.server.close()
    await asyncio.sleep(0.5)
    node = child.node
    node.server = ApiServer(node.store, node.writer, node.logs, node.auditor, node.drainer, node.execs)
    await child.node.server.listen_unix(child.node.socket)
    await child.node.server.listen_controllers(child.node.controllers_socket, lambda obj: True)
    async with child.node.client() as client:
        await client.create(WORKLOADS, a_workload(replicas=1), "default")
        await child.until(lambda: child.instances() == {"hello-1-0"})


async def test_it_ends_with_its_parent(child: Child) -> None:
    async with child.node.client() as client:
        await client.create(WORKLOADS, a_workload(replicas=1), "default")
        await child.until(lambda: child.instances())
    began_s = time.monotonic()
    assert await child.end() == 0, child.log
    assert time.monotonic() - began_s < 5


async def test_it_ends_with_its_parent_however_early(child: Child) -> None:
    await child.until(child.heartbeat.exists)
    began_s = time.monotonic()
    await child.end()
    assert time.monotonic() - began_s < 5


async def test_it_ends_with_its_parent_when_the_api_is_gone_too(child: Child) -> None:
    async with child.node.client() as client:
        await client.create(WORKLOADS, a_workload(replicas=1), "default")
        await child.until(lambda: child.instances())
    await child.node.server.close()
    began_s = time.monotonic()
    await child.end()
    assert time.monotonic() - began_s < 5


async def test_sigterm_ends_it(child: Child) -> None:
    await child.until(child.heartbeat.exists)
    assert child.process is not None
    os.kill(child.process.pid, signal.SIGTERM)
    async with asyncio.timeout(5):
        await child.process.wait()


async def test_the_heartbeat_beats(child: Child) -> None:
    await child.until(child.heartbeat.exists)
    first = child.heartbeat.stat().st_mtime
    await child.until(lambda: child.heartbeat.stat().st_mtime > first, 5)

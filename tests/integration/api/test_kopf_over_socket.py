"""A real kopf operator over the controllers' socket: it sees creations, changes and deletions, and only what is its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import kopf
import pytest

from veil.api.fake import FakeNode, a_workload
from veil.client.kinds import WORKLOADS

GROUP = ("veil.dev", "v1alpha1", "workloads")


class Operator:
    """kopf in a thread with a loop of its own, as it replaces what it finds in ours."""

    def __init__(self, socket: str) -> None:
        self.seen: list[tuple[str, str]] = []
        self._socket = socket
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def start(self) -> None:
        self._thread.start()
        assert await asyncio.to_thread(self._ready.wait, 10)

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 10)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(self._socket, limit=0))
            return kopf.AiohttpSession(server="http://veil", aiohttp_session=session, default_namespace="default")

        @kopf.on.startup(registry=registry)
        def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
            settings.posting.enabled = False
            settings.scanning.disabled = True
            settings.watching.reconnect_backoff = 0.01

        @kopf.on.create(*GROUP, registry=registry)
        async def created(name: str, patch: kopf.Patch, **_: Any) -> None:
            self.seen.append(("create", name))
            patch.status["observedGeneration"] = 1

        @kopf.on.update(*GROUP, registry=registry)
        async def updated(name: str, spec: kopf.Spec, **_: Any) -> None:
            self.seen.append(("update", f"{name}={spec['replicas']}"))

        @kopf.on.event(*GROUP, registry=registry)
        async def event(type: str | None, name: str, **_: Any) -> None:
            if type == "DELETED":
                self.seen.append(("gone", name))

        await kopf.operator(registry=registry, clusterwide=True, standalone=True, stop_flag=self._stop, ready_flag=self._ready)


@pytest.fixture
async def operator(served: FakeNode) -> AsyncIterator[Operator]:
    running = Operator(str(served.controllers_socket))
    await running.start()
    yield running
    await running.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.02)


async def test_the_operator_sees_create_update_and_delete_and_writes_status(served: FakeNode, operator: Operator) -> None:
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload(), "default")
        await until(lambda: ("create", "hello") in operator.seen)
        await until(lambda: "status" in served.store.get("Workload", "default", "hello"))
        assert served.store.get("Workload", "default", "hello")["status"]["observedGeneration"] == 1
        await client.patch(WORKLOADS, "hello", {"spec": {"replicas": 5}}, "default")
        await until(lambda: ("update", "hello=5") in operator.seen)
        await client.delete(WORKLOADS, "hello", "default")
        await until(lambda: ("gone", "hello") in operator.seen)
    assert len(served.writer.applied) == 2, "kopf's notes do not go to the chain"


async def test_a_change_of_charge_takes_objects_away_and_gives_others(served: FakeNode, operator: Operator) -> None:
    served.hidden.add("later")
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload(), "default")
        await client.create(WORKLOADS, a_workload("later"), "default")
        await until(lambda: ("create", "hello") in operator.seen)
        await until(lambda: "status" in served.store.get("Workload", "default", "hello"))
        assert ("create", "later") not in operator.seen
        served.hidden = served.hidden - {"later"} | {"hello"}
        served.server.reset_watches()
        await until(lambda: {("create", "later"), ("gone", "hello")} <= set(operator.seen))

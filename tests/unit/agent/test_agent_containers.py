"""What the runtime said serves one look, unless something happened since: no end is overlooked, and nothing is asked twice."""

import asyncio
from typing import Any

import pytest

from veil.agent.containers import Containers
from veil.agent.keys import DesiredInstance, InstanceKey, container_id, container_labels
from veil.runtime.fake import FakeMachine, FakeRuntime
from veil.runtime.ports import Container, ContainerSpec, ContainerState
from veil.types import Generation, ObjectId

pytestmark = pytest.mark.looptime

KEY = InstanceKey(ObjectId(bytes(32)), Generation(1), 0)
ID = container_id(KEY, "main")


class Clock:
    def now_s(self) -> float:
        return 1_700_000_000.0

    def monotonic_s(self) -> float:
        return 0.0


class Ending(FakeRuntime):
    """Its container ends between what the runtime saw and the answer's arrival."""

    ends_in = ""
    containers: Containers

    async def start(self, id: str) -> Container:
        return self._late("start", await super().start(id))

    async def list(self) -> list[Container]:
        seen = await super().list()
        return [self._late("list", view) for view in seen]

    def _late(self, operation: str, seen: Container) -> Container:
        if self.ends_in == operation:
            self.machine.finish(seen.id, 3)
            self.containers.happened(seen.id)
        return seen


@pytest.fixture
async def runtime(tmp_path: Any) -> Ending:
    runtime = Ending(FakeMachine(Clock()))
    runtime.containers = Containers(runtime, "n1")
    await runtime.pull("i")
    labels = container_labels(KEY, "main", node="n1", grace_s=0, spec_digest="d")
    await runtime.containers.learn()
    await runtime.containers.create(
        KEY, ContainerSpec(id=ID, image="i", stdout=tmp_path / "o", stderr=tmp_path / "e", labels=labels)
    )
    return runtime


async def states(runtime: Ending) -> list[ContainerState]:
    return [view.state for view in await runtime.containers.of(KEY)]


async def test_what_was_said_serves_one_look(runtime: Ending) -> None:
    await runtime.containers.start(ID)
    for asked in (0, 1, 2):
        assert await states(runtime) == [ContainerState.RUNNING]
        assert sum(call == ("state", ID) for call in runtime.machine.calls) == asked
    await runtime.containers.learn()
    await states(runtime)
    assert sum(call == ("state", ID) for call in runtime.machine.calls) == 2


@pytest.mark.parametrize("ends_in", ["start", "list"])
async def test_an_end_that_comes_before_the_answer_is_seen(runtime: Ending, ends_in: str) -> None:
    runtime.ends_in = ends_in
    await runtime.containers.start(ID)
    if ends_in == "list":
        await runtime.containers.learn()
    assert await states(runtime) == [ContainerState.EXITED]


async def test_an_end_after_the_answer_is_seen(runtime: Ending) -> None:
    await runtime.containers.start(ID)
    runtime.machine.finish(ID, 3)
    assert runtime.containers.happened(ID) == KEY
    assert await states(runtime) == [ContainerState.EXITED]
    await runtime.containers.remove(KEY, ID, grace_s=0)
    assert await states(runtime) == []


async def test_a_listing_from_before_a_start_does_not_hide_it(runtime: Ending) -> None:
    listing = await FakeRuntime.list(runtime)
    learning = asyncio.create_task(runtime.containers.learn())
    runtime.list = lambda: _later(listing)  # type: ignore[assignment,method-assign]
    await asyncio.sleep(0.1)
    await runtime.containers.start(ID)
    await learning
    assert await states(runtime) == [ContainerState.RUNNING]


async def _later(listing: list[Container]) -> list[Container]:
    await asyncio.sleep(1)
    return listing


async def test_a_look_at_everything_is_one_listing(host: Any) -> None:
    instances: list[DesiredInstance] = [host.instance(number) for number in range(1, 21)]
    host.want(*instances)
    await host.until(lambda: len(host.running()) == 20)
    host.machine.calls.clear()
    await asyncio.sleep(300)
    assert host.count("list") >= 5
    assert host.count("state") == 0

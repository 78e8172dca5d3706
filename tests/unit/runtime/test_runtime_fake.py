"""The levers of the fake runtime: each fault does what it says, and nothing else."""

from pathlib import Path

import pytest

from veil.errors import ContainerFailed, ImageUnavailable, RuntimeUnavailable
from veil.runtime.fake import Behaviour, FakeMachine, FakeRuntime
from veil.runtime.ports import ContainerSpec, ContainerState, EventKind, Runtime, RuntimeEvent


class Clock:
    def __init__(self) -> None:
        self.time_s = 100.0

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine(Clock())


def spec(tmp_path: Path, id: str = "a", *command: str) -> ContainerSpec:
    return ContainerSpec(id=id, image="i", command=command, stdout=tmp_path / f"{id}.out", stderr=tmp_path / f"{id}.err")


async def started(runtime: Runtime, wanted: ContainerSpec) -> None:
    await runtime.pull(wanted.image)
    await runtime.create(wanted)
    await runtime.start(wanted.id)


async def test_fault_hits_once_and_changes_nothing(machine: FakeMachine, tmp_path: Path) -> None:
    runtime: Runtime = FakeRuntime(machine)
    await runtime.pull("i")
    machine.fail_next("create", ContainerFailed("disk full"))
    with pytest.raises(ContainerFailed, match="disk full"):
        await runtime.create(spec(tmp_path))
    assert await runtime.list() == []
    assert (await runtime.create(spec(tmp_path))).state is ContainerState.CREATED


async def test_away_loses_events_and_back_brings_a_resync(machine: FakeMachine, tmp_path: Path) -> None:
    runtime = FakeRuntime(machine)
    await started(runtime, spec(tmp_path))
    events = runtime.events()
    assert (await anext(events)).kind is EventKind.RESYNC
    machine.away()
    with pytest.raises(RuntimeUnavailable):
        await runtime.list()
    machine.finish("a", 3)
    machine.back()
    assert await anext(events) == RuntimeEvent(kind=EventKind.RESYNC)
    assert (await runtime.state("a")).exit_code == 3


async def test_losing_events_is_silent(machine: FakeMachine, tmp_path: Path) -> None:
    runtime = FakeRuntime(machine)
    await started(runtime, spec(tmp_path))
    events = runtime.events()
    await anext(events)
    machine.losing_events = True
    machine.finish("a", 1)
    machine.losing_events = False
    await runtime.start("a")
    assert await anext(events) == RuntimeEvent(kind=EventKind.STARTED, id="a")


async def test_times_come_from_the_clock(machine: FakeMachine, tmp_path: Path) -> None:
    runtime = FakeRuntime(machine)
    await started(runtime, spec(tmp_path))
    machine.clock.time_s = 107.0  # type: ignore[attr-defined]
    machine.finish("a", 0)
    view = await runtime.state("a")
    assert (view.started_s, view.finished_s) == (100.0, 107.0)


async def test_kill_follows_an_ignored_sigterm(machine: FakeMachine, tmp_path: Path) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    runtime = FakeRuntime(machine, sleep=sleep)
    machine.behaviours["deaf",] = Behaviour(on_sigterm=None)
    await started(runtime, spec(tmp_path, "a", "deaf"))
    assert (await runtime.stop("a", grace_s=9)).exit_code == 137
    assert machine.signals == [("a", "TERM"), ("a", "KILL")]
    assert slept == [9]


async def test_an_unseen_end_is_unknown(machine: FakeMachine, tmp_path: Path) -> None:
    runtime = FakeRuntime(machine)
    await started(runtime, spec(tmp_path))
    machine.forget_end("a")
    view = await runtime.state("a")
    assert (view.state, view.exit_code) == (ContainerState.UNKNOWN, None)


async def test_oom_is_announced_before_the_exit(machine: FakeMachine, tmp_path: Path) -> None:
    runtime = FakeRuntime(machine)
    await started(runtime, spec(tmp_path))
    events = runtime.events()
    await anext(events)
    machine.oom("a")
    assert [(await anext(events)).kind, (await anext(events)).kind] == [EventKind.OOM, EventKind.EXITED]


async def test_missing_image(machine: FakeMachine) -> None:
    machine.missing_images.add("gone")
    with pytest.raises(ImageUnavailable):
        await FakeRuntime(machine).pull("gone")

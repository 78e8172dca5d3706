"""When a machine runs out of something, and what follows from it. Pure, or virtual time."""

from pathlib import Path
from typing import Any

import pytest

from veil.agent.capacity import NOTHING, MeasuredCapacity
from veil.agent.pressure import (
    DISK_FREE_MIN_BYTES,
    HOLD_S,
    MEMORY_FREE_MIN_BYTES,
    Pressure,
    Pressures,
    Reading,
    pressures,
    read_machine,
)
from veil.errors import ContainerFailed, RuntimeUnavailable
from veil.fhe.ports import Figures
from veil.runtime.fake import FakeMachine, FakeRuntime
from veil.runtime.ports import Disk

GIB = 1 << 30


def reading(**facts: Any) -> Reading:
    plain = {"disk": Disk(total_bytes=100 * GIB, used_bytes=10 * GIB), "memory_free_bytes": GIB, "pids": 100, "pids_max": 1000}
    return Reading(**plain | facts)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, set()),
        ({"disk": Disk(total_bytes=100 * GIB, used_bytes=95 * GIB + 1)}, {Pressure.DISK}),
        ({"disk": Disk(total_bytes=100 * GIB, used_bytes=100 * GIB - DISK_FREE_MIN_BYTES)}, set()),
        ({"disk": Disk(total_bytes=10 * GIB, used_bytes=9 * GIB)}, set()),
        ({"disk": Disk(total_bytes=10 * GIB, used_bytes=9 * GIB + 1)}, {Pressure.DISK}),
        ({"memory_free_bytes": MEMORY_FREE_MIN_BYTES - 1}, {Pressure.MEMORY}),
        ({"pids": 901}, {Pressure.PIDS}),
        ({"pids": 901, "memory_free_bytes": 0}, {Pressure.PIDS, Pressure.MEMORY}),
    ],
)
def test_the_marks(facts: dict[str, Any], found: set[Pressure]) -> None:
    assert pressures(reading(**facts)) == found


class HandClock:
    def __init__(self) -> None:
        self.s = 0.0

    def now_s(self) -> float:
        return self.s

    def monotonic_s(self) -> float:
        return self.s


async def test_a_pressure_closes_the_node_until_it_has_been_over_for_a_while(tmp_path: Path) -> None:
    clock, free = HandClock(), [0]
    machine = FakeMachine(clock)
    watch = Pressures(FakeRuntime(machine), clock, lambda disk: reading(disk=disk, memory_free_bytes=free[0]))
    capacity = MeasuredCapacity(
        clock,
        tmp_path,
        reserve=NOTHING,
        measure=lambda path: Figures(cpu_milli=1000, memory_bytes=GIB, disk_bytes=GIB, gpu_count=0),
        closed=lambda: bool(watch.active),
    )
    assert capacity.free().cpu_milli == 1000
    await watch.sync()
    assert (watch.active, capacity.free()) == ({Pressure.MEMORY}, NOTHING)
    assert not capacity.reserve("a", Figures(cpu_milli=1, memory_bytes=0, disk_bytes=0, gpu_count=0), 10)
    assert capacity.total().cpu_milli == 1000
    free[0] = GIB
    clock.s = HOLD_S - 1
    await watch.sync()
    assert watch.active
    clock.s = HOLD_S + 1
    await watch.sync()
    assert not watch.active
    assert capacity.free().cpu_milli == 1000


async def test_a_runtime_that_is_away_says_nothing_of_the_disk() -> None:
    clock = HandClock()
    machine = FakeMachine(clock)
    watch = Pressures(FakeRuntime(machine), clock, lambda disk: reading(disk=disk))
    machine.disk_used_bytes = 99 * GIB
    await watch.sync()
    machine.fail_next("disk", RuntimeUnavailable("away"))
    await watch.sync()
    assert watch.active == {Pressure.DISK}


def test_this_machine_can_be_read() -> None:
    found = read_machine(Disk(total_bytes=1, used_bytes=0))
    assert 0 < found.pids < found.pids_max
    assert found.memory_free_bytes > 0


@pytest.mark.looptime
@pytest.mark.parametrize("operation", ["create", "start"])
async def test_a_full_disk_is_no_fault_of_the_container(host: Any, operation: str) -> None:
    host.machine.fail_next(operation, ContainerFailed("write /x: no space left on device: unknown"), times=2)
    host.want(host.instance())
    await host.until(lambda: host.status().reason == "DiskPressure")
    assert host.status().message == "container main waits: the node's disk is full"
    await host.until(lambda: host.status().phase == "Running", 60)
    assert host.status().restarts == 0


@pytest.mark.looptime
async def test_a_full_disk_is_found_where_the_runtime_does_not_say_so(host: Any) -> None:
    host.machine.fail_next("start", ContainerFailed("unable to store init state: %!w(<nil>)"), times=2)
    host.machine.disk_used_bytes = host.machine.disk_total_bytes - 1000
    host.want(host.instance())
    await host.until(lambda: host.status().reason == "DiskPressure")
    host.machine.disk_used_bytes = 0
    await host.until(lambda: host.status().reason == "ContainerError", 60)
    await host.until(lambda: host.status().phase == "Running", 60)

"""Images are removed when the disk is full, in the kubelet's order; fake runtime, virtual time."""

import asyncio
from typing import Any

import pytest

from veil.agent.image_gc import HIGH_PERCENT, LOW_PERCENT, MIN_AGE_S, PERIOD_S, percent
from veil.errors import ContainerFailed, RuntimeUnavailable
from veil.runtime.fake import FakeRuntime
from veil.runtime.ports import Disk

pytestmark = pytest.mark.looptime

GIB = 1 << 30


def wanting(host: Any, number: int) -> Any:
    return host.instance(number, containers=[{"name": "main", "image": f"app:{number}", "command": ["serve"]}])


async def used_one_after_the_other(host: Any, count: int) -> None:
    """Images app:1 to app:count, of which only the last is used in the end."""
    await host.restart_agent()  # the fixture's was started in real time
    for number in range(1, count + 1):
        host.want(wanting(host, number))
        await host.until(lambda number=number: host.status(number).phase == "Running", 60)
        await asyncio.sleep(PERIOD_S)


def names(host: Any) -> set[str]:
    return set(host.machine.images)


async def test_the_longest_unused_go_until_there_is_room(host: Any) -> None:
    await used_one_after_the_other(host, 5)
    assert names(host) == {f"app:{number}" for number in range(1, 6)}
    host.machine.disk_used_bytes = 88 * GIB  # each image is 5 GiB of 100
    await asyncio.sleep(PERIOD_S + 1)
    assert names(host) == {"app:3", "app:4", "app:5"}
    assert host.machine.disk_used_bytes == 78 * GIB
    assert host.running() == {host.id(5)}


async def test_below_the_mark_nothing_goes(host: Any) -> None:
    await used_one_after_the_other(host, 3)
    host.machine.disk_used_bytes = HIGH_PERCENT * GIB - 1
    await asyncio.sleep(2 * PERIOD_S)
    assert len(names(host)) == 3


async def test_what_is_used_imported_or_new_stays_however_full_it_is(host: Any) -> None:
    await used_one_after_the_other(host, 2)
    host.machine.images["veil.dev/imported:1"] = "sha256:00"
    host.machine.disk_used_bytes = 99 * GIB
    await FakeRuntime(host.machine).pull("new:1")
    await host.agent._image_gc.collect()
    assert names(host) == {"app:2", "veil.dev/imported:1", "new:1"}
    await asyncio.sleep(MIN_AGE_S)
    await host.agent._image_gc.collect()
    assert names(host) == {"app:2", "veil.dev/imported:1"}


async def test_an_image_that_went_is_fetched_again_when_it_is_wanted(host: Any) -> None:
    await used_one_after_the_other(host, 2)
    host.machine.disk_used_bytes = 86 * GIB
    await asyncio.sleep(PERIOD_S)
    assert names(host) == {"app:2"}
    host.want(wanting(host, 1))
    await host.until(lambda: host.status(1).phase == "Running")


@pytest.mark.parametrize("error", [RuntimeUnavailable("away"), ContainerFailed("in use")])
async def test_a_failure_is_no_end_of_it(host: Any, error: Exception) -> None:
    await used_one_after_the_other(host, 2)
    host.machine.disk_used_bytes = 86 * GIB
    host.machine.fail_next("remove_image", error)
    await asyncio.sleep(PERIOD_S)
    assert len(names(host)) == 2
    await asyncio.sleep(PERIOD_S)
    assert names(host) == {"app:2"}


def test_the_marks_are_the_kubelets() -> None:
    assert (HIGH_PERCENT, LOW_PERCENT) == (85, 80)
    assert percent(Disk(total_bytes=0, used_bytes=0)) == 0

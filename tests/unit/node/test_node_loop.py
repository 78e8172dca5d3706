"""The level-triggered loop in virtual time."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from veil.errors import MeshUnavailable
from veil.node.loop import RETRY_MAX_S, LevelLoop

pytestmark = pytest.mark.looptime


async def running(
    work: Callable[[], Awaitable[None]], drive: Callable[[LevelLoop], Awaitable[None]], period_s: float = 1e6
) -> None:
    loop = LevelLoop("test", work, period_s=period_s)
    task = asyncio.create_task(loop.run())
    await drive(loop)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_it_runs_at_once_and_coalesces_pokes_into_one_more_run_that_never_overlaps() -> None:
    starts: list[float] = []
    busy = 0

    async def work() -> None:
        nonlocal busy
        assert busy == 0, "two at once"
        busy += 1
        starts.append(now())
        await asyncio.sleep(10)
        busy -= 1

    async def drive(loop: LevelLoop) -> None:
        await asyncio.sleep(1)
        for _ in range(5):
            loop.poke()
            await asyncio.sleep(1)
        await asyncio.sleep(100)

    await running(work, drive)
    assert starts == [0, 10]


async def test_without_a_poke_it_runs_every_period() -> None:
    starts: list[float] = []

    async def work() -> None:
        starts.append(now())

    await running(work, lambda loop: asyncio.sleep(35), period_s=10)
    assert starts == [0, 10, 20, 30]


async def test_a_failure_is_tried_again_with_growing_bounded_pauses_and_a_success_resets_them() -> None:
    starts: list[float] = []
    failing = True

    async def work() -> None:
        starts.append(now())
        if failing:
            raise MeshUnavailable("away")

    async def drive(loop: LevelLoop) -> None:
        nonlocal failing
        await asyncio.sleep(100)
        failing = False
        await asyncio.sleep(20)
        starts.clear()
        failing = True
        loop.poke()
        await asyncio.sleep(0.5)

    pauses: list[float] = []

    async def watched(loop: LevelLoop) -> None:
        await asyncio.sleep(100)
        pauses.extend(later - earlier for earlier, later in itertools.pairwise(starts))

    await running(work, watched)
    assert 0.16 <= pauses[0] <= 0.24
    assert max(pauses) <= RETRY_MAX_S * 1.2 + 1e-6
    assert pauses[-1] >= RETRY_MAX_S * 0.8 - 1e-6
    starts.clear()
    await running(work, drive)
    assert 0.16 <= starts[1] - starts[0] <= 0.24


async def test_an_error_nobody_foresaw_ends_it() -> None:
    async def work() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await LevelLoop("test", work).run()

"""The work queue's promises, and that the tests see a queue that breaks them."""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from veil.agent.queue import RETRY_FIRST_S, RETRY_JITTER, RETRY_MAX_S, WorkQueue, without_figures
from veil.errors import RuntimeUnavailable

pytestmark = pytest.mark.looptime

Handle = Callable[[str], Awaitable[float | None]]


class FixedRandom:
    """``value`` of 0 makes every pause the shortest, of 255 the longest."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def bytes(self, count: int) -> bytes:
        return bytes([self.value]) * count


class Record:
    """A handler that takes its time and notes what it saw."""

    def __init__(self, takes_s: float = 0.05) -> None:
        self.takes_s = takes_s
        self.runs: list[tuple[float, str]] = []
        self.overlaps = 0
        self.peak = 0
        self._running: Counter[str] = Counter()

    async def __call__(self, key: str) -> float | None:
        self.runs.append((asyncio.get_running_loop().time(), key))
        self.overlaps += self._running[key] > 0
        self._running[key] += 1
        self.peak = max(self.peak, self._running.total())
        await asyncio.sleep(self.takes_s)
        self._running[key] -= 1
        return None


class Unserialised(WorkQueue[str]):
    """A broken twin: forgets what is running."""

    def add(self, key: str) -> None:
        self._waiting.append(key)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._open and self._waiting:
            key = self._waiting.popleft()
            self._running.setdefault(key, asyncio.get_running_loop().create_task(self._forgetful(key)))

    async def _forgetful(self, key: str) -> None:
        self._running.pop(key)
        await self._handle(key)


class Undeduplicated(WorkQueue[str]):
    """A broken twin: what is added ten times is handled ten times."""

    def add(self, key: str) -> None:
        self._dirty.discard(key)
        super().add(key)


class Forgetful(WorkQueue[str]):
    """A broken twin: what happens while a key is handled is lost."""

    def add(self, key: str) -> None:
        if key not in self._running:
            super().add(key)


async def check_promises(kind: type[WorkQueue[str]]) -> None:
    record = Record()
    queue = kind("test", record, random=FixedRandom(), parallel=4)
    for _ in range(10):
        queue.add("a")
    queue.start()
    await asyncio.sleep(0.02)
    for _ in range(5):
        queue.add("a")
    await asyncio.sleep(1)
    await queue.close()
    assert record.overlaps == 0, "one key was handled twice at once"
    assert len(record.runs) == 2, "handled once for all adds before, once for all adds during"


async def test_dedup_and_serialisation() -> None:
    await check_promises(WorkQueue)


@pytest.mark.parametrize("twin", [Unserialised, Undeduplicated, Forgetful])
async def test_broken_twins_are_caught(twin: type[WorkQueue[str]]) -> None:
    with pytest.raises(AssertionError):
        await check_promises(twin)


async def test_other_keys_run_at_the_same_time_within_the_bound() -> None:
    record = Record()
    queue = WorkQueue("test", record, random=FixedRandom(), parallel=4)
    queue.start()
    for number in range(20):
        queue.add(str(number))
    await asyncio.sleep(1)
    await queue.close()
    assert (record.peak, len(record.runs)) == (4, 20)
    assert record.runs[-1][0] == pytest.approx(0.2, abs=0.01)


async def run_handler(handle: Handle, during_s: float, random: Any) -> WorkQueue[str]:
    queue = WorkQueue("test", handle, random=random)
    queue.start()
    queue.add("a")
    await asyncio.sleep(during_s)
    await queue.close()
    return queue


@pytest.mark.parametrize(("value", "factor"), [(0, 1 - RETRY_JITTER), (255, 1 + RETRY_JITTER)])
@pytest.mark.parametrize("error", [RuntimeUnavailable("away"), KeyError("a bug"), OSError("disk")])
async def test_failures_come_back_later_and_later(value: int, factor: float, error: Exception) -> None:
    times: list[float] = []

    async def fails(key: str) -> float | None:
        times.append(asyncio.get_running_loop().time())
        raise error

    await run_handler(fails, 200, FixedRandom(value))
    pauses = [after - before for before, after in itertools.pairwise(times)]
    expected = [min(RETRY_MAX_S, RETRY_FIRST_S * 2**n) * factor for n in range(len(pauses))]
    assert pauses == pytest.approx(expected, abs=0.02)
    assert len(pauses) > 10


async def test_success_forgets_the_failures() -> None:
    times: list[float] = []

    async def every_third_works(key: str) -> float | None:
        times.append(asyncio.get_running_loop().time())
        if len(times) % 3:
            raise RuntimeUnavailable("away")
        return 1.0

    await run_handler(every_third_works, 5, FixedRandom())
    pauses = [round(after - before, 2) for before, after in itertools.pairwise(times)]
    assert pauses[:6] == [0.08, 0.16, 1.0, 0.08, 0.16, 1.0]


async def test_an_add_overtakes_a_timer_and_a_later_timer_replaces_it() -> None:
    record = Record(0.0)
    queue = WorkQueue("test", record, random=FixedRandom())
    queue.start()
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("b", 5)
    queue.add("b")
    await asyncio.sleep(20)
    await queue.close()
    assert [(round(at), key) for at, key in record.runs] == [(0, "b"), (5, "a")]


async def test_one_bad_key_does_not_stop_the_others() -> None:
    seen: deque[str] = deque()

    async def handle(key: str) -> float | None:
        if key == "bad":
            raise ZeroDivisionError
        seen.append(key)
        return None

    queue = WorkQueue("test", handle, random=FixedRandom(), parallel=1)
    queue.start()
    for key in ("bad", "x", "bad", "y"):
        queue.add(key)
    await asyncio.sleep(1)
    await queue.close()
    assert list(seen) == ["x", "y"]


async def test_close_cancels_and_handles_nothing_more() -> None:
    record = Record(takes_s=100)
    queue = WorkQueue("test", record, random=FixedRandom())
    queue.start()
    queue.add("a")
    queue.add_after("b", 1)
    await asyncio.sleep(0.5)
    await queue.close()
    queue.add("c")
    await asyncio.sleep(10)
    assert [key for _, key in record.runs] == ["a"]
    assert not queue._running


def test_figures_are_masked() -> None:
    assert without_figures("limit 4096 MiB on cpu2") == "limit #### MiB on cpu#"

"""A level-triggered work queue, as in Kubernetes' controllers.

What is queued is a key, never an event: however many things happen to a key while it waits, it is handled once; what happens
while it is handled has it handled once more afterwards; it is never handled twice at once. Handlers look at the whole state of
their key, so a lost event costs time until the next look and nothing else.

Time is the event loop's (``call_later``): a test runs it in virtual time with a loop whose clock it moves.
"""

import asyncio
import logging
import traceback
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from veil.errors import VeilError
from veil.types import Random

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 30.0
RETRY_JITTER = 0.2
"""Pauses are this fraction longer or shorter, so that what failed together does not come back together."""

PARALLEL = 256
"""Keys handled at once. Most of a handler's time is waiting: for a grace period, for the runtime."""


class WorkQueue(Generic[K]):
    """Calls ``handle(key)`` for every key added. What it returns is when to look again (seconds), or None.

    An exception is a failed attempt: the key comes back after a pause that doubles up to RETRY_MAX_S until an attempt succeeds,
    or at once when it is added again. Whatever the exception, other keys are not disturbed.
    """

    def __init__(
        self, name: str, handle: Callable[[K], Awaitable[float | None]], *, random: Random, parallel: int = PARALLEL
    ) -> None:
        self.name = name
        self._handle = handle
        self._random = random
        self._parallel = parallel
        self._waiting: deque[K] = deque()
        self._dirty: set[K] = set()
        self._running: dict[K, asyncio.Task[None]] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: Counter[K] = Counter()
        self._open = False

    def start(self) -> None:
        """Begin handling; keys may have been added before."""
        self._open = True
        self._dispatch()

    async def close(self) -> None:
        """Stop handling: running handlers are cancelled and waited for; nothing is handled afterwards."""
        self._open = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def add(self, key: K) -> None:
        """Look at ``key`` now, or right after the look that is going on."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._running:
            self._waiting.append(key)
            self._dispatch()

    def add_after(self, key: K, delay_s: float) -> None:
        """Look at ``key`` in ``delay_s`` unless it is looked at before; a later call replaces an earlier one."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if key not in self._dirty:
            self._timers[key] = asyncio.get_running_loop().call_later(max(0.0, delay_s), self._fire, key)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs (timers may be set)."""
        return not self._waiting and not self._running

    def _fire(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _dispatch(self) -> None:
        while self._open and self._waiting and len(self._running) < self._parallel:
            key = self._waiting.popleft()
            self._dirty.discard(key)
            self._running[key] = asyncio.get_running_loop().create_task(self._work(key), name=f"{self.name} {key}")

    async def _work(self, key: K) -> None:
        pause_s: float | None = None
        try:
            pause_s = await self._handle(key)
            self._failures.pop(key, None)
        except VeilError as error:
            pause_s = self._failed(key, f"{error.reason}: {without_figures(error.message)}")
        except Exception as error:  # noqa: BLE001 - one key's fault must not stop the others; logged, and tried again
            where = traceback.extract_tb(error.__traceback__)[-1]
            pause_s = self._failed(key, f"{type(error).__name__} at {where.name}")
        finally:
            del self._running[key]
            if key in self._dirty:
                self._waiting.append(key)
            elif pause_s is not None and self._open:
                self.add_after(key, pause_s)
            self._dispatch()

    def _failed(self, key: K, why: str) -> float:
        self._failures[key] += 1
        count = self._failures[key]
        log.warning("%s: %s failed %d times: %s", self.name, getattr(key, "text", key), count, why)
        spread = int.from_bytes(self._random.bytes(2), "big") / 0xFFFF * 2 - 1
        return min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(count - 1, 16)) * (1 + RETRY_JITTER * spread)


def without_figures(text: str) -> str:
    """``text`` with every digit masked: a runtime's words may quote limits, which are demand and stay out of the log."""
    return "".join("#" if character.isdigit() else character for character in text)

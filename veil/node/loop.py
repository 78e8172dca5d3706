"""A level-triggered loop: run again after every change, never twice at once, and again later when it failed."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from veil.errors import VeilError

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 10.0


class LevelLoop:
    """Calls ``work`` after :meth:`poke`, and every ``period_s`` without one.

    ``work`` looks at the whole state and does what is missing. Changes during a run cause one more run. A VeilError is logged
    and tried again with exponential back-off and jitter; any other exception ends the loop and the node with it.
    """

    def __init__(self, name: str, work: Callable[[], Awaitable[None]], *, period_s: float = 30.0) -> None:
        self.name = name
        self._work = work
        self._period_s = period_s
        self._dirty = asyncio.Event()
        self._dirty.set()

    def poke(self) -> None:
        """Something changed."""
        self._dirty.set()

    async def run(self) -> None:
        """Never ends by itself."""
        failures = 0
        while True:
            await self._wait(self._period_s)
            self._dirty.clear()
            try:
                await self._work()
                failures = 0
            except VeilError as error:
                failures += 1
                log.warning("%s: %s: %s (failed %d times)", self.name, error.reason, error.message, failures)
                backoff_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(failures - 1, 16))
                await asyncio.sleep(backoff_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
                self._dirty.set()

    async def _wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._dirty.wait()
        except TimeoutError:
            return

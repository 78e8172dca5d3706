"""Waiting for what is away when a node starts: it outlives its chain and its runtime, and need not start after them."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_random_exponential

from veil.errors import ChainUnavailable, RuntimeUnavailable

log = logging.getLogger(__name__)

START_RETRY_MAX_S = 5.0


async def until_available(start: Callable[[], Coroutine[Any, Any, None]], stop: asyncio.Event) -> bool:
    """Begin with ``start`` until it does not raise that something is away. False when ``stop`` was set meanwhile."""
    starting = asyncio.create_task(_start_again(start))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return False
        starting.result()
        return True
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


async def _start_again(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type((ChainUnavailable, RuntimeUnavailable)),
        wait=wait_random_exponential(multiplier=0.2, max=START_RETRY_MAX_S),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    ):
        with attempt:
            await start()

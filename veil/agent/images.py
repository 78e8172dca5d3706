"""Images on their way: one pull for each image however many Instances wait for it, and the pauses after failures.

Nobody waits here: an Instance asks, is told *not yet*, and is looked at again when the pull is over. So an Instance that is
deleted meanwhile does not hang in somebody else's download.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum

from veil.agent.backoff import Trouble, again
from veil.agent.keys import InstanceKey
from veil.agent.queue import without_figures
from veil.agent.status import IMAGE_PULL
from veil.errors import DigestMismatch, ImageUnavailable, RuntimeUnavailable, VeilError
from veil.runtime.ports import Runtime
from veil.types import Clock

log = logging.getLogger(__name__)

PRESENT_FOR_S = 60.0
"""For how long a pull is not repeated. An image that is removed within that time is noticed when a container is created."""

PULLS_AT_ONCE = 3


class ImageState(StrEnum):
    PRESENT = "present"
    PULLING = "pulling"
    FAILED = "failed"


class Images:
    """Which images are here. ``wake`` is called with every Instance that waited when its pull is over."""

    def __init__(self, runtime: Runtime, clock: Clock, wake: Callable[[InstanceKey], None]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._wake = wake
        self._present_s: dict[str, float] = {}
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, set[InstanceKey]] = {}
        self._troubles: dict[str, Trouble] = {}
        self._slots = asyncio.Semaphore(PULLS_AT_ONCE)

    def ensure(self, image: str, key: InstanceKey) -> ImageState:
        """Have it pulled if need be. FAILED: :meth:`trouble` says why and until when it is not tried again."""
        since_s = self._present_s.get(image)
        if since_s is not None and self._clock.monotonic_s() - since_s < PRESENT_FOR_S:
            return ImageState.PRESENT
        trouble = self._troubles.get(image)
        if image not in self._pulls:
            if trouble is not None and trouble.until_s > self._clock.now_s():
                return ImageState.FAILED
            self._pulls[image] = asyncio.get_running_loop().create_task(self._pull(image), name=f"pull {image}")
        self._waiting.setdefault(image, set()).add(key)
        return ImageState.PULLING

    def trouble(self, image: str) -> Trouble | None:
        """Why it is not here, from the first failure until a pull succeeds."""
        return self._troubles.get(image)

    @property
    def pulling(self) -> frozenset[str]:
        return frozenset(self._pulls)

    def missing(self, image: str) -> None:
        """It was thought present and is not."""
        self._present_s.pop(image, None)

    def some_removed(self) -> None:
        """Nothing is thought present any more: those that are cost a look each."""
        self._present_s.clear()

    async def close(self) -> None:
        pulls = list(self._pulls.values())
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)

    async def _pull(self, image: str) -> None:
        try:
            async with self._slots:
                await self._runtime.pull(image)
            self._present_s[image] = self._clock.monotonic_s()
            self._troubles.pop(image, None)
        except RuntimeUnavailable:
            log.debug("image %s: the runtime does not answer", image)  # who waits finds out, and when it is back
        except VeilError as error:
            log.warning("image %s: %s: %s", image, error.reason, without_figures(error.message))
            own_words = isinstance(error, (ImageUnavailable, DigestMismatch))
            told = error.message if own_words else f"image {image} cannot be fetched: {error.reason}"
            before = self._troubles.get(image)
            self._troubles[image] = again(before, reason=IMAGE_PULL, message=told, now_s=self._clock.now_s())
        finally:
            del self._pulls[image]
            for key in self._waiting.pop(image, ()):
                self._wake(key)

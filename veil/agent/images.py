"""Images on their way: one pull for each image however many Instances wait for it, and the pauses after failures.

Nobody waits here: an Instance asks, is told *not yet*, and is looked at again when the pull is over. So an Instance that is
deleted meanwhile does not hang in somebody else's download.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from veil.agent.backoff import Trouble, again
from veil.agent.keys import InstanceKey
from veil.agent.queue import without_figures
from veil.agent.status import IMAGE_PULL
from veil.errors import DigestMismatch, ImageUnavailable, RuntimeUnavailable, VeilError
from veil.runtime.credentials import Login
from veil.runtime.ports import Runtime
from veil.types import Clock

log = logging.getLogger(__name__)

PRESENT_FOR_S = 60.0
"""For how long a pull is not repeated. An image that is removed within that time is noticed when a container is created."""

PULLS_AT_ONCE = 3

REFUSED_FOR_S = 5.0
"""How soon an image that may not run is looked at again: the registry's word may have changed."""


class Refusal(NamedTuple):
    """Why an image may not run: a reason of :mod:`veil.agent.status`, and words that quote the image at most."""

    reason: str
    message: str


class ImagePolicy(Protocol):
    """Which images the cluster allows."""

    @property
    def restricts(self) -> bool:
        """Whether any image may be refused at all."""
        ...

    def refusal(self, image: str, manifest: str) -> Refusal | None:
        """None if ``image`` may run; ``manifest`` (``sha256:…``, empty where there are no images) is what it is here."""
        ...


class EveryImage:
    """No restriction."""

    restricts = False

    def refusal(self, image: str, manifest: str) -> Refusal | None:
        return None


class _Wanted(NamedTuple):
    image: str
    login: Login | None


class ImageState(StrEnum):
    PRESENT = "present"
    PULLING = "pulling"
    FAILED = "failed"


class Images:
    """Which images are here. ``wake`` is called with every Instance that waited when its pull is over.

    What is here for one login is not here for another: whether it may have the image, the registry says.
    """

    def __init__(self, runtime: Runtime, clock: Clock, wake: Callable[[InstanceKey], None], policy: ImagePolicy) -> None:
        self._runtime = runtime
        self._policy = policy
        self._clock = clock
        self._wake = wake
        self._present: dict[_Wanted, tuple[float, str]] = {}
        """Since when, and the manifest that it stands for."""
        self._pulls: dict[_Wanted, asyncio.Task[None]] = {}
        self._waiting: dict[_Wanted, set[InstanceKey]] = {}
        self._away: dict[InstanceKey, RuntimeUnavailable] = {}
        """Those for whom the runtime did not answer, until they are told."""
        self._troubles: dict[_Wanted, Trouble] = {}
        self._slots = asyncio.Semaphore(PULLS_AT_ONCE)

    def ensure(self, image: str, key: InstanceKey, login: Login | None = None) -> ImageState:
        """Have it pulled if need be, with the Instance's own ``login`` if it has one.

        FAILED: :meth:`trouble` says why and until when it is not tried again. What the cluster does not allow is FAILED too,
        once it is here and its manifest known. Raises RuntimeUnavailable when the runtime did not answer while ``key`` waited.
        """
        if (away := self._away.pop(key, None)) is not None:
            raise away
        wanted = _Wanted(image, login)
        since_s, manifest = self._present.get(wanted, (None, ""))
        if since_s is not None and self._clock.monotonic_s() - since_s < PRESENT_FOR_S:
            return self._judged(wanted, manifest)
        trouble = self._troubles.get(wanted)
        if wanted not in self._pulls:
            if trouble is not None and trouble.holds(self._clock.now_s()):
                return ImageState.FAILED
            self._pulls[wanted] = asyncio.get_running_loop().create_task(self._pull(wanted), name=f"pull {image}")
        self._waiting.setdefault(wanted, set()).add(key)
        return ImageState.PULLING

    def may_start(self, image: str, key: InstanceKey, login: Login | None = None) -> bool:
        """Whether a container of ``image`` that is there may be started; false also while that is not known yet."""
        return not self._policy.restricts or self.ensure(image, key, login) is ImageState.PRESENT

    def _judged(self, wanted: _Wanted, manifest: str) -> ImageState:
        refusal = self._policy.refusal(wanted.image, manifest)
        if refusal is None:
            self._troubles.pop(wanted, None)
            return ImageState.PRESENT
        if wanted not in self._troubles:
            log.warning("image %s may not run: %s", wanted.image, refusal.reason)
        until_s = self._clock.now_s() + REFUSED_FOR_S
        self._troubles[wanted] = Trouble(reason=refusal.reason, message=refusal.message, attempts=1, until_s=until_s)
        return ImageState.FAILED

    def trouble(self, image: str, login: Login | None = None) -> Trouble | None:
        """Why it is not here, from the first failure until a pull succeeds; None also while it is on its way."""
        wanted = _Wanted(image, login)
        return None if wanted in self._pulls else self._troubles.get(wanted)

    @property
    def pulling(self) -> frozenset[str]:
        return frozenset(wanted.image for wanted in self._pulls)

    def forget(self, key: InstanceKey) -> None:
        """It is not to be run any more."""
        self._away.pop(key, None)

    def missing(self, image: str) -> None:
        """It was thought present and is not."""
        self._present = {wanted: what for wanted, what in self._present.items() if wanted.image != image}

    def some_removed(self) -> None:
        """Nothing is thought present any more: those that are cost a look each."""
        self._present.clear()

    async def close(self) -> None:
        pulls = list(self._pulls.values())
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)

    async def _pull(self, wanted: _Wanted) -> None:
        image = wanted.image
        try:
            async with self._slots:
                manifest = await self._runtime.pull(image, wanted.login)
            self._present[wanted] = (self._clock.monotonic_s(), manifest)
            self._troubles.pop(wanted, None)
        except RuntimeUnavailable as error:
            log.debug("image %s: the runtime does not answer", image)
            self._away |= dict.fromkeys(self._waiting.get(wanted, ()), error)
        except VeilError as error:
            log.warning("image %s: %s: %s", image, error.reason, without_figures(error.message))
            own_words = isinstance(error, (ImageUnavailable, DigestMismatch))
            told = error.message if own_words else f"image {image} cannot be fetched: {error.reason}"
            before = self._troubles.get(wanted)
            self._troubles[wanted] = again(before, reason=IMAGE_PULL, message=told, now_s=self._clock.now_s())
        finally:
            del self._pulls[wanted]
            for key in self._waiting.pop(wanted, ()):
                self._wake(key)

"""Removing images that nobody uses when the runtime's disk fills up. The figures are the kubelet's.

From 85 % on, the images that were not used for the longest time go, one after the other, until 80 % is reached. Only images that
were pulled can go: one that was imported from a file could not be fetched again. What has been here for less than two minutes
stays, because its container may be on the way.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable

from veil.errors import RuntimeUnavailable, VeilError
from veil.runtime.ports import Disk, Image, Runtime
from veil.runtime.reference import parse_reference
from veil.types import Clock

log = logging.getLogger(__name__)

HIGH_PERCENT = 85
LOW_PERCENT = 80
MIN_AGE_S = 120.0
PERIOD_S = 300.0


class ImageGc:
    """``wanted``: the images of what is to run here. ``removed`` is called when images went."""

    def __init__(self, runtime: Runtime, clock: Clock, wanted: Callable[[], Iterable[str]], removed: Callable[[], None]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._wanted = wanted
        self._removed = removed
        self._used_s: dict[str, float] = {}
        """When each image was last seen used, or first seen."""

    async def run(self) -> None:
        """Collect again and again; never ends by itself."""
        while True:
            try:
                await self.collect()
            except RuntimeUnavailable:
                log.debug("images: the runtime does not answer")
            except VeilError as error:
                log.warning("images cannot be collected: %s", error.reason)
            await asyncio.sleep(PERIOD_S)

    async def collect(self) -> int:
        """Look once, and remove what has to go; gives back how many. Raises VeilError."""
        images = await self._runtime.images()
        used = _full(container.image for container in await self._runtime.list()) | _full(self._wanted())
        now_s = self._clock.monotonic_s()
        self._used_s = {image.name: now_s if image.name in used else self._used_s.get(image.name, now_s) for image in images}
        count = 0
        if percent(await self._runtime.disk()) < HIGH_PERCENT:
            return count
        for image in candidates(images, used, self._used_s, now_s):
            await self._runtime.remove_image(image.name)
            self._removed()
            log.info("image %s removed: the disk is full", image.name)
            count += 1
            if percent(await self._runtime.disk()) <= LOW_PERCENT:
                return count
        log.warning("the disk of containers is full, and no image is left that could be removed")
        return count


def candidates(images: Iterable[Image], used: Collection[str], used_s: dict[str, float], now_s: float) -> list[Image]:
    """What may go, the longest unused first. Pure."""
    unused = [image for image in images if image.pulled and image.name not in used and now_s - used_s[image.name] >= MIN_AGE_S]
    return sorted(unused, key=lambda image: (used_s[image.name], image.name))


def percent(disk: Disk) -> float:
    return 100 * disk.used_bytes / disk.total_bytes if disk.total_bytes else 0.0


def _full(names: Iterable[str]) -> set[str]:
    """As the runtime names them. What is no image's name is nobody's image."""
    found = set()
    for name in names:
        try:
            found.add(str(parse_reference(name)))
        except VeilError:
            continue
    return found

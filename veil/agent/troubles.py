"""What went wrong with which container, until it goes right."""

import errno
import logging
import os

from veil.agent.backoff import Trouble, again
from veil.agent.keys import InstanceKey
from veil.agent.queue import without_figures
from veil.agent.status import CONTAINER_ERROR, DISK_PRESSURE, IMAGE_PULL
from veil.errors import ImageUnavailable, VeilError
from veil.types import Clock

log = logging.getLogger(__name__)


def _disk_is_full(error: VeilError | OSError) -> bool:
    """containerd has no code of its own for it."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return os.strerror(errno.ENOSPC).lower() in error.message.lower()


class Troubles:
    """Failures of attempts, by Instance and container; each further one makes the pause longer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_key: dict[InstanceKey, dict[str, Trouble]] = {}

    def of(self, key: InstanceKey) -> dict[str, Trouble]:
        return dict(self._by_key.get(key, {}))

    def set(self, key: InstanceKey, container: str, trouble: Trouble) -> None:
        self._by_key.setdefault(key, {})[container] = trouble

    def failed(self, key: InstanceKey, container: str, error: VeilError | OSError, *, disk_full: bool = False) -> None:
        """One more attempt failed (``disk_full``: on a full disk, whatever it says).

        The runtime's words go to the log, without figures; the status has words of its own.
        """
        if isinstance(error, VeilError):
            reason, words = error.reason, error.message
        else:
            reason, words = type(error).__name__, error.strerror or ""
        log.warning("%s: container %s: %s: %s", key.text, container, reason, without_figures(words))
        image = isinstance(error, ImageUnavailable)
        message = (
            f"the image of container {container} is not there" if image else f"container {container} cannot be run: {reason}"
        )
        before = self._by_key.get(key, {}).get(container)
        shown = IMAGE_PULL if image else CONTAINER_ERROR
        if disk_full or _disk_is_full(error):
            shown, message = DISK_PRESSURE, f"container {container} waits: the node's disk is full"
        self.set(key, container, again(before, reason=shown, message=message, now_s=self._clock.now_s()))

    def refused(self, key: InstanceKey, container: str, reason: str, error: VeilError) -> None:
        """One more attempt failed for a reason that is told in our own words."""
        before = self._by_key.get(key, {}).get(container)
        self.set(key, container, again(before, reason=reason, message=error.message, now_s=self._clock.now_s()))

    def over(self, key: InstanceKey, container: str) -> None:
        """It went right."""
        self._by_key.get(key, {}).pop(container, None)

    def forget(self, key: InstanceKey) -> None:
        self._by_key.pop(key, None)

"""What this machine has, and what of it is promised. The figures never leave the process that measured them.

Promises are exact and are made by one process, so two rounds can never be promised the same room. A promise made for an offer
ends by itself; one whose leaf is appended stays until its Instance is gone.
"""

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import psutil

from veil.fhe.ports import Figures
from veil.types import Clock

SYSTEM_RESERVE = Figures(cpu_milli=100, memory_bytes=256 << 20, disk_bytes=1 << 30, gpu_count=0)
"""What the machine keeps for itself and the node's own processes."""

NOTHING = Figures(cpu_milli=0, memory_bytes=0, disk_bytes=0, gpu_count=0)

EXPIRED_MAX = 1000
"""How many expired promises are remembered, in case one is confirmed late."""

_CGROUP_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(slots=True)
class _Promise:
    figures: Figures
    expires_s: float | None
    """Monotonic; None = confirmed."""


class MeasuredCapacity:
    """This node's capacity: ``share`` of the machine (several nodes on one machine) less ``reserve``, and who was promised what.

    ``path`` lies on the disk that containers use. ``measure`` gives what the machine has now. ``closed``: offer nothing.
    ``disk_taken``: the bytes of the whole disk that are in use and were promised to nobody.
    """

    def __init__(
        self,
        clock: Clock,
        path: Path,
        *,
        share: float = 1.0,
        reserve: Figures = SYSTEM_RESERVE,
        measure: Callable[[Path], Figures] | None = None,
        closed: Callable[[], bool] = lambda: False,
        disk_taken: Callable[[], int] = lambda: 0,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError("share is over 0 and at most 1")
        self._clock = clock
        self._path = path
        self._share = share
        self._reserve = reserve
        self._measure = measure or measure_machine
        self._closed = closed
        self._disk_taken = disk_taken
        self._promises: dict[Hashable, _Promise] = {}
        self._expired: dict[Hashable, _Promise] = {}

    def total(self) -> Figures:
        """This node's share of the machine."""
        whole = self._measure(self._path)
        return _map(lambda name: int(getattr(whole, name) * self._share))

    def free(self) -> Figures:
        """total − reserve − promised − what else is on the disk, never below 0; nothing while closed to anything new."""
        self._expire()
        if self._closed():
            return NOTHING
        total = self.total()
        on_disk = replace(NOTHING, disk_bytes=int(self._disk_taken() * self._share))
        taken = [self._reserve, on_disk, *(promise.figures for promise in self._promises.values())]
        return _map(lambda name: max(0, int(getattr(total, name) - sum(getattr(figures, name) for figures in taken))))

    def reserve(self, key: Hashable, figures: Figures, ttl_s: float) -> bool:
        """Promise ``figures`` to ``key`` for ``ttl_s``. False, and nothing changes, when they are not free.

        Repeating it for a key replaces its promise; a confirmed one stays confirmed.
        """
        self._expire()
        self._expired.pop(key, None)
        before = self._promises.pop(key, None)
        free = self.free()
        if any(getattr(figures, field.name) > getattr(free, field.name) for field in fields(Figures)):
            if before is not None:
                self._promises[key] = before
            return False
        confirmed = before is not None and before.expires_s is None
        self._promises[key] = _Promise(figures, None if confirmed else self._clock.monotonic_s() + ttl_s)
        return True

    def confirm(self, key: Hashable) -> None:
        """Keep the promise until it is released, also one that has expired: what is bound here counts, whether it fits or not."""
        if (promise := self._promises.get(key) or self._expired.pop(key, None)) is not None:
            promise.expires_s = None
            self._promises[key] = promise

    def restore(self, key: Hashable, figures: Figures) -> None:
        """After a restart: what was promised before is so again, until it is released, whether it fits or not."""
        self._promises[key] = _Promise(figures, None)

    def release(self, key: Hashable) -> None:
        """The room is free again. Unknown keys are fine."""
        self._promises.pop(key, None)
        self._expired.pop(key, None)

    def _expire(self) -> None:
        now_s = self._clock.monotonic_s()
        for key, promise in list(self._promises.items()):
            if promise.expires_s is not None and promise.expires_s <= now_s:
                self._expired[key] = self._promises.pop(key)
        while len(self._expired) > EXPIRED_MAX:
            del self._expired[next(iter(self._expired))]


def measure_machine(path: Path, *, gpu_count: int = 0) -> Figures:
    """What this process may use of the machine: affinity and memory cgroup count, not only the hardware."""
    return Figures(
        cpu_milli=len(os.sched_getaffinity(0)) * 1000,
        memory_bytes=min([psutil.virtual_memory().total, *_cgroup_limits()]),
        disk_bytes=psutil.disk_usage(str(path)).total,
        gpu_count=gpu_count,
    )


def disk_in_use_bytes(path: Path) -> int:
    """What is not free for this process to use: taken, or kept back by the file system."""
    usage = psutil.disk_usage(str(path))
    return usage.total - usage.free


def _cgroup_limits() -> list[int]:
    texts = [path.read_text().strip() for path in _CGROUP_MEMORY if path.is_file()]
    return [int(text) for text in texts if text.isdecimal()]


def _map(value: Callable[[str], int]) -> Figures:
    return Figures(
        cpu_milli=value("cpu_milli"),
        memory_bytes=value("memory_bytes"),
        disk_bytes=value("disk_bytes"),
        gpu_count=value("gpu_count"),
    )

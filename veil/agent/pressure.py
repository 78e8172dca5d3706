"""Whether this machine runs out of disk, memory or process ids: then it says so, and offers no room to anything new.

What runs goes on, but for Instances that hold more of a short disk than they asked for (:mod:`veil.agent.evictions`). As with
the kubelet, a pressure is held for five minutes after it was last seen, so that a node at the edge does not come and go.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from veil.errors import VeilError
from veil.runtime.ports import Disk, Runtime
from veil.types import Clock

log = logging.getLogger(__name__)

PERIOD_S = 10.0
HOLD_S = 300.0

DISK_FREE_MIN_PERCENT = 10
DISK_FREE_MIN_BYTES = 5 << 30
"""Both: a tenth of a large disk is plenty."""

MEMORY_FREE_MIN_BYTES = 100 << 20
PIDS_USED_MAX_PERCENT = 90


class Pressure(StrEnum):
    """The values are Kubernetes' words."""

    DISK = "DiskPressure"
    MEMORY = "MemoryPressure"
    PIDS = "PidPressure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the machine has left; ``disk`` is that of images and containers."""

    disk: Disk
    memory_free_bytes: int
    pids: int
    pids_max: int


def pressures(reading: Reading) -> frozenset[Pressure]:
    """What is running out. Pure."""
    found = set()
    if is_short(reading.disk):
        found.add(Pressure.DISK)
    if reading.memory_free_bytes < MEMORY_FREE_MIN_BYTES:
        found.add(Pressure.MEMORY)
    if reading.pids * 100 > reading.pids_max * PIDS_USED_MAX_PERCENT:
        found.add(Pressure.PIDS)
    return frozenset(found)


def is_short(disk: Disk) -> bool:
    """Whether a disk runs out. Pure."""
    free_bytes = disk.total_bytes - disk.used_bytes
    return free_bytes < DISK_FREE_MIN_BYTES and free_bytes * 100 < disk.total_bytes * DISK_FREE_MIN_PERCENT


class Pressures:
    """Level-triggered: :meth:`sync` looks, :attr:`active` is what was found in the last HOLD_S."""

    def __init__(self, runtime: Runtime, clock: Clock, machine: Callable[[Disk], Reading] | None = None) -> None:
        self._runtime = runtime
        self._clock = clock
        self._machine = machine or read_machine
        self._seen_s: dict[Pressure, float] = {}

    async def sync(self) -> None:
        """A runtime that does not answer changes nothing."""
        try:
            disk = await self._runtime.disk()
        except VeilError as error:
            log.debug("the runtime's disk cannot be looked at: %s", error.reason)
            return
        for pressure in pressures(self._machine(disk)):
            if pressure not in self.active:
                log.warning("%s: nothing new is placed here", pressure)
            self._seen_s[pressure] = self._clock.monotonic_s()

    @property
    def active(self) -> frozenset[Pressure]:
        now_s = self._clock.monotonic_s()
        return frozenset(pressure for pressure, seen_s in self._seen_s.items() if now_s - seen_s < HOLD_S)


def read_machine(disk: Disk) -> Reading:
    """What the kernel says now (proc(5): the fourth figure of loadavg counts threads, which is what the limits are of)."""
    threads = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    limits = [int(Path("/proc/sys/kernel", name).read_text()) for name in ("pid_max", "threads-max")]
    return Reading(disk=disk, memory_free_bytes=psutil.virtual_memory().available, pids=threads, pids_max=min(limits))

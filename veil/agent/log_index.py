"""When what is in a log file arrived: an index of offset and time beside the file.

The runtime writes the log itself and knows no times. The agent looks at the file's size again and again, and notes how far it
went at which time. So a line's time is right to within the pause between two looks; what was written while no agent ran has the
time at which the next one looked first.

A record is 16 bytes, big-endian: the offset up to which the file went, and microseconds since 1970. A last one that a crash
cut off is dropped.
"""

import contextlib
import os
import struct
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

_RECORD = struct.Struct(">QQ")
SUFFIX = ".times"


class Arrival(NamedTuple):
    """Everything before ``end`` that no earlier Arrival has was there at ``time_s``."""

    end: int
    time_s: float


def index_path(log: Path) -> Path:
    return log.with_name(log.name + SUFFIX)


class LogIndex:
    """The writer's side, for one log file."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._index = index_path(log)
        arrivals = load(log)
        self._end = arrivals[-1].end if arrivals else 0

    def observe(self, now_s: float) -> None:
        """Note what has come. A file that became shorter was cut, and begins anew. No file is as good as an empty one."""
        try:
            size = os.stat(self._log).st_size
        except FileNotFoundError:
            size = 0
        if size < self._end:
            self.cut()
        if size > self._end:
            with self._index.open("ab") as file:
                file.truncate(file.tell() - file.tell() % _RECORD.size)
                file.write(_RECORD.pack(size, int(now_s * 1e6)))
            self._end = size

    def cut(self) -> None:
        """The log was cut to nothing."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self._index, 0)
        self._end = 0


def load(log: Path) -> list[Arrival]:
    """What is noted of a log file, in its order."""
    try:
        data = index_path(log).read_bytes()
    except FileNotFoundError:
        return []
    whole = data[: len(data) - len(data) % _RECORD.size]
    return [Arrival(end, micros / 1e6) for end, micros in _RECORD.iter_unpack(whole)]


def arrived_s(arrivals: list[Arrival], offset: int, otherwise_s: float) -> float:
    """When the byte at ``offset`` arrived; ``otherwise_s`` for one that nothing is noted of."""
    position = bisect_right(arrivals, offset, key=lambda arrival: arrival.end)
    return arrivals[position].time_s if position < len(arrivals) else otherwise_s


def offset_since(arrivals: list[Arrival], oldest_s: float, otherwise: int) -> int:
    """Where the first begins that arrived at ``oldest_s`` or later; ``otherwise`` when there is none.

    The clock may have been set back in between: the first such one counts, so that nothing new is left out.
    """
    before = 0
    for arrival in arrivals:
        if arrival.time_s >= oldest_s:
            return before
        before = arrival.end
    return otherwise

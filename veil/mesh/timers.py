"""A queue of things to do at a time, for a state machine that is told the time."""

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[float], None]
"""Is given the present time."""


class Timers:
    """Ordered by time, then by when they were set. Nothing is ever cancelled: an action checks whether it still applies."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action]] = []
        self._count = itertools.count()

    def at(self, time_s: float, action: Action) -> None:
        heapq.heappush(self._heap, (time_s, next(self._count), action))

    def next_s(self) -> float | None:
        """When the next action is due."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_s: float) -> Action | None:
        """The earliest action that is due, taken off the queue."""
        if self._heap and self._heap[0][0] <= now_s:
            return heapq.heappop(self._heap)[2]
        return None

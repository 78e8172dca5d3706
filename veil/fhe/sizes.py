"""Which sizes of a resource an epoch tells apart: round figures, about as far apart as quadratic spacing would have them.

People ask for round figures and buy machines of round figures, so a list of sizes that lacks them rounds nearly everything;
quadratic spacing has fine steps where small ones are needed and loses least where figures are not round.
"""

from functools import cache
from heapq import heappop, heappush
from math import isqrt

GIB = 1 << 30

_ROUND_CPU_MILLI = (5, 10, 25, 50, 100, 250, 500, *(1000 << power for power in range(40)))
_POWERS_OF_TWO = tuple(1 << power for power in range(60))

ROUND: dict[str, tuple[int, ...]] = {
    "cpu_milli": _ROUND_CPU_MILLI,
    "memory_bytes": _POWERS_OF_TWO,
    "disk_bytes": _POWERS_OF_TWO,
    "gpu_count": _POWERS_OF_TWO,
}
"""By resource, ascending: a figure is rounder the larger the last of these is of which it is a multiple."""


@cache
def round_sizes(name: str, maximum: int, count: int) -> tuple[int, ...]:
    """``count`` sizes from 0 to ``maximum``, or every whole figure where there are not so many.

    One size after the other goes into the gap that quadratic spacing finds widest (by the difference of square roots), at the
    roundest figure of that gap's middle half. Integers only: every machine makes the same list.
    """
    sizes, gaps = [0, maximum], [_gap(0, maximum)]
    while len(sizes) < min(count, maximum + 1):
        _, low, high = heappop(gaps)
        size = _roundest(ROUND[name], low, high)
        sizes.append(size)
        for gap in (_gap(low, size), _gap(size, high)):
            heappush(gaps, gap)
    return tuple(sorted(sizes))


def _gap(low: int, high: int) -> tuple[int, int, int]:
    """The widest comes first in a heap, by the difference of square roots, times 2^30; last those with nothing between."""
    return isqrt(low << 60) - isqrt(high << 60) if high - low > 1 else 1, low, high


def _roundest(steps: tuple[int, ...], low: int, high: int) -> int:
    """The figure between that is a multiple of the largest step, the one nearest to the middle of the square roots."""
    near, far = isqrt(low << 60), isqrt(high << 60)
    first, middle, last = (((near * (4 - part) + far * part) // 4) ** 2 >> 60 for part in (1, 2, 3))
    first, last = max(first, low + 1), min(last, high - 1)
    for step in reversed(steps):
        below, above = middle // step * step, -(-middle // step) * step
        found = [figure for figure in (below, above) if first <= figure <= last]
        if found:
            return min(found, key=lambda figure: abs(figure - middle))
    return min(max(middle, low + 1), high - 1)

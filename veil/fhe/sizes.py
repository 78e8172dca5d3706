"""Which sizes of a resource an epoch tells apart: round figures, as far apart as squares, of disk as fourth powers.

People ask for round figures and buy machines of round figures, so a list of sizes that lacks them rounds nearly everything;
quadratic spacing has fine steps where small ones are needed and loses least where figures are not round. A disk has few sizes and
needs small ones among them.
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

    One size after the other goes into the gap that is widest by the difference of roots (square, of disk fourth), at the roundest
    figure of that gap's middle half. Integers only: every machine makes the same list.
    """
    times = 2 if name == "disk_bytes" else 1
    sizes, gaps = [0, maximum], [_gap(times, 0, maximum)]
    while len(sizes) < min(count, maximum + 1):
        _, low, high = heappop(gaps)
        size = _roundest(ROUND[name], times, low, high)
        sizes.append(size)
        for gap in (_gap(times, low, size), _gap(times, size, high)):
            heappush(gaps, gap)
    return tuple(sorted(sizes))


def _root(figure: int, times: int) -> int:
    """The square root, so many times, and times 2^30."""
    scaled = figure << (30 << times)
    for _ in range(times):
        scaled = isqrt(scaled)
    return scaled


def _power(root: int, times: int) -> int:
    """The figure whose root it is, rounded down."""
    for _ in range(times):
        root *= root
    return root >> (30 << times)


def _gap(times: int, low: int, high: int) -> tuple[int, int, int]:
    """The widest comes first in a heap; last those with nothing between."""
    return _root(low, times) - _root(high, times) if high - low > 1 else 1, low, high


def _roundest(steps: tuple[int, ...], times: int, low: int, high: int) -> int:
    """The figure between that is a multiple of the largest step, the one nearest to the middle of the roots."""
    near, far = _root(low, times), _root(high, times)
    first, middle, last = (_power((near * (4 - part) + far * part) // 4, times) for part in (1, 2, 3))
    first, last = max(first, low + 1), min(last, high - 1)
    for step in reversed(steps):
        below, above = middle // step * step, -(-middle // step) * step
        found = [figure for figure in (below, above) if first <= figure <= last]
        if found:
            return min(found, key=lambda figure: abs(figure - middle))
    return min(max(middle, low + 1), high - 1)

"""What the bits of an opened result mean: the places of candidates, best first, in the order in which they are offered work.

A result's length tells the places of its circuit, which may be more than there are candidates.
"""

from collections.abc import Sequence

from veil.fhe.circuits.spec import CANDIDATES_MAX, CLASSES_MIN, PAIRS_MAX, CircuitSpec, rank_bits
from veil.fhe.material import Shape

_RANKED = {CircuitSpec("default", "rank", places).result_bits: places for places in range(2, PAIRS_MAX + 1)} | {
    CircuitSpec("default", "rank", places).result_bits: places for places in range(CLASSES_MIN, CANDIDATES_MAX + 1)
}
"""Places of a rank by its result's length."""


def order_of(shape: Shape, bits: Sequence[int], candidates: int) -> list[int]:
    """Places (from 0) best first; none when no candidate fits, or when ``bits`` are no result for so many candidates.

    ``choose``: every candidate that is marked, by position. ``rank``: every candidate that fits, by rank.
    """
    if shape == "choose":
        if len(bits) <= candidates or bits[-1] != 0:
            return []
        return [place for place in range(candidates) if bits[place] == 1]
    places = _RANKED.get(len(bits), 0)
    if places < max(1, candidates):
        return []
    planes = [bits[start : start + places] for start in range(0, len(bits), places)]
    misfits, ranks = planes[-1], planes[: rank_bits(places)]
    fitting = [place for place in range(candidates) if misfits[place] == 0]
    if places <= PAIRS_MAX:
        return sorted(fitting, key=lambda place: sum(plane[place] << digit for digit, plane in enumerate(ranks)))
    return sorted(fitting, key=lambda place: next((index for index, plane in enumerate(ranks) if plane[place]), len(ranks)))

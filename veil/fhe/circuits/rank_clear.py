"""What the shape ``rank`` means, in clear."""

from collections.abc import Sequence

from veil.fhe.circuits.spec import PAIRS_MAX, RANK_MINIMA, rank_bits
from veil.fhe.encoding import INFEASIBLE_LEVEL

FAR = INFEASIBLE_LEVEL + 1


def rank(scores: Sequence[int]) -> list[int]:
    """The digits of all ranks from the lowest, or each class's marks; then a bit for each candidate that does not fit."""
    parts = _by_pairs(scores) if len(scores) <= PAIRS_MAX else _by_classes(scores)
    return [*parts, *(int(value >= INFEASIBLE_LEVEL) for value in scores)]


def _by_pairs(scores: Sequence[int]) -> list[int]:
    order = sorted(range(len(scores)), key=lambda place: (scores[place], place))
    ranks = [order.index(place) for place in range(len(scores))]
    return [rank >> digit & 1 for digit in range(rank_bits(len(scores))) for rank in ranks]


def _by_classes(scores: Sequence[int]) -> list[int]:
    """Those found before are farther than any; they are marked again when nothing is nearer."""
    bits, left = [], list(scores)
    for _ in range(RANK_MINIMA):
        above = [value - min(left) for value in left]
        bits += [int(value == 0) for value in above]
        left = [value or FAR for value in above]
    return bits

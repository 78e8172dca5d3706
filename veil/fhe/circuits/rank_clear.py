"""What the shape ``rank`` means, in clear."""

from collections.abc import Sequence

from veil.fhe.circuits.spec import PAIRS_MAX, RANK_MINIMA, rank_bits
from veil.fhe.encoding import INFEASIBLE_LEVEL

FAR = INFEASIBLE_LEVEL + 1

RANKED_FINER = (0, 1, 2, 2, 3, 3)
"""What a strict order keeps of finer levels 0 to 5: the better ones apart."""


def rank(scores: Sequence[int], finer: Sequence[int] | None = None) -> list[int]:
    """The digits of all ranks from the lowest, or each class's marks; then a bit for each candidate that does not fit."""
    parts = _by_pairs(scores, finer) if len(scores) <= PAIRS_MAX else _by_classes(scores, finer)
    return [*parts, *(int(value >= INFEASIBLE_LEVEL) for value in scores)]


def _by_pairs(scores: Sequence[int], finer: Sequence[int] | None) -> list[int]:
    count = len(scores)
    kept = [0 if finer is None or score >= INFEASIBLE_LEVEL else RANKED_FINER[finer[place]] for place, score in enumerate(scores)]
    order = sorted(range(count), key=lambda place: (scores[place], kept[place], place))
    ranks = [order.index(place) for place in range(count)]
    return [rank >> digit & 1 for digit in range(rank_bits(count)) for rank in ranks]


def _by_classes(scores: Sequence[int], finer: Sequence[int] | None) -> list[int]:
    """Those found before are farther than any; they are marked again when nothing is nearer."""
    if finer is not None:
        best = min(zip(scores, finer, strict=True))
        return [int(pair == best) for pair in zip(scores, finer, strict=True)] + [int(score == best[0]) for score in scores]
    bits, left = [], list(scores)
    for _ in range(RANK_MINIMA):
        above = [value - min(left) for value in left]
        bits += [int(value == 0) for value in above]
        left = [value or FAR for value in above]
    return bits

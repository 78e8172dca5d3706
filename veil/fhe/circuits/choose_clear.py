"""What the shape ``choose`` means, in clear."""

from collections.abc import Sequence

from veil.fhe.encoding import INFEASIBLE_LEVEL


def choose(scores: Sequence[int]) -> list[int]:
    """One bit a candidate that has the least score, then "none fits" (with it, the infeasible ones are all marked)."""
    best = min(scores)
    return [int(value == best) for value in scores] + [int(best >= INFEASIBLE_LEVEL)]

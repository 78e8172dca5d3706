"""What the profile ``precise`` chooses, in clear, for honest tables."""

from collections.abc import Sequence

from veil.fhe.encoding import INFEASIBLE_LEVEL


def choose_one(scores: Sequence[int], finer: Sequence[int]) -> list[int]:
    """One mark: the least finer level among those of least score, of these the first; then "none fits"."""
    first = min(range(len(scores)), key=lambda place: (scores[place], finer[place], place))
    return [int(place == first) for place in range(len(scores))] + [int(min(scores) >= INFEASIBLE_LEVEL)]

"""The shape ``rank``: an order of candidates, so that several replicas of one workload are placed by one decision.

Up to 16 candidates it is a strict order. For every pair one look-up says whether the later one goes first, which it does only
with a smaller score; a candidate's rank is the number of those before it. Its digits are outputs of one bit each, because
outputs of one bit leave the most room for the noise that hides the key when they are opened. Ties go by position, which is
drawn by lot for each round: the order says neither how large scores are nor which were equal. Infeasible candidates come last,
and one more bit says which they are.

Beyond, pairs are too many. The least score is found, and once more without those that have it: their differences from the
least (0) become 7, more than any. With the others that fit that makes three classes; inside a class candidates tie.

Everything here is computed from honest scores, which any ciphertext gives (:mod:`veil.fhe.circuits.tables`), so for any telemetry
all outputs are bits, and those of some honest scores.
"""

from typing import Any

import numpy as np

from veil.fhe.circuits import tables
from veil.fhe.circuits.spec import PAIRS_MAX, RANK_MINIMA, rank_bits

FAR = 7
"""Farther above the least score than any is."""

_is_positive = tables.table(lambda value: value > 0)
_without_least = tables.table(lambda value: np.where(value == 0, FAR, value))
_digits = [tables.table(lambda value, digit=digit: value >> digit & 1) for digit in range(rank_bits(PAIRS_MAX))]


def rank(scores: Any) -> Any:
    """The bits, as a tuple of outputs of shape (n,): digits of ranks from the lowest, or classes; then who fits not."""
    parts = _by_pairs(scores) if scores.shape[0] <= PAIRS_MAX else _by_classes(scores)
    return (*parts, tables.is_zero(scores - tables.INFEASIBLE))


def _by_pairs(scores: Any) -> list[Any]:
    count = scores.shape[0]
    differences = np.concatenate(tuple(scores[: count - step] - scores[step:] for step in range(1, count)))
    later_first = _is_positive(differences)
    earlier = np.concatenate([np.arange(count - step) for step in range(1, count)])
    later = np.concatenate([np.arange(step, count) for step in range(1, count)])
    places = np.arange(count)
    # A candidate has those before it that it does not beat, which are its position less those that it beats, and
    # those after it that beat it. In this order no intermediate needs a fifth bit.
    after = later_first @ (earlier[:, None] == places).astype(np.int64) + places
    ranks = after - later_first @ (later[:, None] == places).astype(np.int64)
    return [digit(ranks) for digit in _digits[: rank_bits(count)]]


def _by_classes(scores: Any) -> list[Any]:
    classes, left = [], scores
    for place in range(RANK_MINIMA):
        above = left - tables.least(left)
        classes.append(tables.is_zero(above))
        if place < RANK_MINIMA - 1:
            left = _without_least(above)
    return classes

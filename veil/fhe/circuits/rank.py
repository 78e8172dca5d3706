"""The shape ``rank``: an order of candidates, so that several replicas of one workload are placed by one decision.

Up to 16 candidates it is a strict order. For every pair one look-up says whether the later one goes first, which it does only
with a smaller score; a candidate's rank is the number of those before it. Its digits are outputs of one bit each, because
outputs of one bit leave the most room for the noise that hides the key when they are opened. Ties go by position, which is
drawn by lot for each round: the order says neither how large scores are nor which were equal. Infeasible candidates come last,
and one more bit says which they are.

``precise`` tells equal scores apart by the finer level, of which it keeps four values: one more look-up a pair makes -4, 0 or 4
of the scores' difference, and that and the difference of two finer levels have four bits together. Infeasible candidates all
get the same finer level, or their order would tell it.

Beyond, pairs are too many. The least score is found, and once more without those that have it: their differences from the
least (0) become 7, more than any. With the others that fit that makes three classes; inside a class candidates tie. With
``precise`` the first class are those that ``choose`` would mark but for its lot, the second the others of least score.

Everything here is computed from honest scores and finer levels, which any ciphertext gives (:mod:`veil.fhe.circuits.tables`), so
for any telemetry all outputs are bits, and those of some honest table.
"""

from typing import Any

import numpy as np

from veil.fhe.circuits import tables
from veil.fhe.circuits.precise import least_finer
from veil.fhe.circuits.rank_clear import RANKED_FINER
from veil.fhe.circuits.spec import PAIRS_MAX, RANK_MINIMA, rank_bits

FAR = 7
"""Farther above the least score than any is."""

APART = 4
"""Farther apart than two finer levels are."""

_is_positive = tables.table(lambda value: value > 0)
_without_least = tables.table(lambda value: np.where(value == 0, FAR, value))
_digits = [tables.table(lambda value, digit=digit: value >> digit & 1) for digit in range(rank_bits(PAIRS_MAX))]
_sign = tables.table(lambda value: APART * np.sign(value))

_odd_finer = tables.table(lambda value: 2 * np.array(RANKED_FINER)[np.minimum(value, len(RANKED_FINER) - 1)] - 3)
"""-3, -1, 1 or 3: closed under negation, and room for a bit between them."""

_unless_misfit = tables.table(lambda value: np.where(value % 2 == 1, (value + 3) // 2, 0))
"""A finer level 0..3 of an odd one; 0 of one to which 1 was added."""


def rank(scores: Any, finer: Any | None = None) -> Any:
    """The bits, as a tuple of outputs of shape (n,): digits of ranks from the lowest, or classes; then who fits not."""
    parts = _by_pairs(scores, finer) if scores.shape[0] <= PAIRS_MAX else _by_classes(scores, finer)
    return (*parts, tables.is_zero(scores - tables.INFEASIBLE))


def _by_pairs(scores: Any, finer: Any | None) -> list[Any]:
    count = scores.shape[0]
    later_first = _is_positive(_differences(scores) if finer is None else _finer_differences(scores, finer))
    earlier = np.concatenate([np.arange(count - step) for step in range(1, count)])
    later = np.concatenate([np.arange(step, count) for step in range(1, count)])
    places = np.arange(count)
    # A candidate has those before it that it does not beat, which are its position less those that it beats, and
    # those after it that beat it. In this order no intermediate needs a fifth bit.
    after = later_first @ (earlier[:, None] == places).astype(np.int64) + places
    ranks = after - later_first @ (later[:, None] == places).astype(np.int64)
    return [digit(ranks) for digit in _digits[: rank_bits(count)]]


def _differences(values: Any) -> Any:
    """Of all pairs: what the earlier has more than the later."""
    count = values.shape[0]
    return np.concatenate(tuple(values[: count - step] - values[step:] for step in range(1, count)))


def _finer_differences(scores: Any, finer: Any) -> Any:
    misfits = tables.is_zero(scores - tables.INFEASIBLE)
    return _sign(_differences(scores)) + _differences(_unless_misfit(_odd_finer(finer) + misfits))


def _by_classes(scores: Any, finer: Any | None) -> list[Any]:
    if finer is not None:
        above = scores - tables.least(scores)
        return [least_finer(above, finer), tables.is_zero(above)]
    classes, left = [], scores
    for place in range(RANK_MINIMA):
        above = left - tables.least(left)
        classes.append(tables.is_zero(above))
        if place < RANK_MINIMA - 1:
            left = _without_least(above)
    return classes

"""The profile ``precise``: among the candidates of least score those with the least finer level, and of these the first.

7 n look-ups or so. A candidate's finer level t is one look-up on ``8 b + v``: b is 0 where it has the least score, else 1,
and v is what it sent, honestly 0..5. It gives -3..2 by v where b is 0, and 3 where b is 1. Any v makes it return one of these or
(past the padding bit) its negative, which again is -3..3: one that an honest candidate could have, namely 3 that of one which
has not the least score, and any other that of one which has it. Sending the least score changes neither the least score nor the
others' part, so outputs are those of some honest table.

The first of several marks is the one with none before it in its group and no group with a mark before its own. All these
counts are at least 0 and only their sum matters: a mark is the first where ``marks before + (1 - mark) + groups before`` is 0.
With eight groups of eight that is at most 15, the sum of 15 look-ups.
"""

from typing import Any

import numpy as np

from veil.fhe.circuits import tables
from veil.fhe.circuits.spec import group_size
from veil.fhe.encoding import FINER_LEVELS

OTHERS = 8
"""Added to the finer level of candidates without the least score."""

_is_other = tables.table(lambda value: value != 0)
_weight = tables.table(lambda value: np.where(value == 0, 0, OTHERS))
_finer = tables.table(
    lambda value: np.where(value < OTHERS, np.minimum(value, FINER_LEVELS - 1), FINER_LEVELS) - FINER_LEVELS // 2
)


def choose_one(scores: Any, finer: Any) -> Any:
    """The bits, as two outputs: exactly one mark, shape (n,), and "none fits", shape (1,)."""
    best = tables.least(scores)
    return _first(least_finer(scores - best, finer)), tables.is_zero(best - tables.INFEASIBLE)


def least_finer(above: Any, finer: Any) -> Any:
    """Marks, shape (n,), of the least finer level among those that are 0 above the least score. 3 n + (n - 1) look-ups."""
    levels = _finer(_weight(above) + finer)
    return tables.is_zero(levels - tables.least(levels))


def _first(marks: Any) -> Any:
    count = marks.shape[0]
    size = group_size(count)
    groups = count // size
    grouped = marks.reshape((groups, size))
    before = grouped @ _earlier(size) + (1 - grouped)
    if groups > 1:
        marked = _is_other(np.sum(grouped, axis=1))
        before = before + (marked @ _earlier(groups)).reshape((groups, 1))
    return tables.is_zero(before).reshape((count,))


def _earlier(count: int) -> Any:
    """The matrix that makes of each place the sum of those before it."""
    return np.triu(np.ones((count, count), np.int64), 1)

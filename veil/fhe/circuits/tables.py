"""Look-ups that several circuits use, the score among them, and the halving tree for a least score.

A score is one look-up on the sum of the slots that a demand selects of a candidate's table: -3, -2, -1, 1 or 2 by level 0 to 4,
and 3 from 5 on, where something is short. A candidate's ciphertext may hold any number, or noise, and so may a demand: then the
look-up gives one of these or (past the padding bit) the negative of one. The values are closed under negation, so that is again
one of them, and everything after sees an honest score.
"""

from typing import Any

import numpy as np

from veil.fhe.concrete_import import fhe
from veil.fhe.encoding import INFEASIBLE_LEVEL, MESSAGE_BITS

SCORES = (-3, -2, -1, 1, 2, 3)
"""By level; the last is that of the infeasible. Closed under negation."""

INFEASIBLE = SCORES[INFEASIBLE_LEVEL]


def table(function: Any) -> Any:
    """One look-up of 4 bits from ``function``, which takes and gives numpy arrays."""
    look_up = fhe.univariate(lambda value: np.asarray(function(value)).astype(np.int64))
    return lambda value: look_up(fhe.hint(value, bit_width=MESSAGE_BITS))


_min_zero = table(lambda value: np.minimum(value, 0))
is_zero = table(lambda value: value == 0)

scores = table(lambda level: np.array(SCORES)[np.clip(level, 0, INFEASIBLE_LEVEL)])
"""One of SCORES for each candidate from the sum of its slots (INFEASIBLE_LEVEL or more: infeasible)."""


def least(values: Any) -> Any:
    """The least of a vector, as a vector of one: of two it is ``b + min(a - b, 0)``, and no index travels up the tree."""
    count = values.shape[0]
    while count > 1:
        half = count // 2
        left, right = values[0:half], values[half : 2 * half]
        smaller = right + _min_zero(left - right)
        values = smaller if count % 2 == 0 else np.concatenate((smaller, values[2 * half : count]))
        count = half + count % 2
    return values

"""Look-ups that several circuits use, the score among them, and the halving tree for a least score.

A score is one look-up on ``u + 5 d + 5 m``: a left-over level u of 0..4, and d and m which are 1 where something does not fit. It
gives -3, -2, -1, 1 or 2 by level, and 3 from 5 on. A candidate's ciphertext may hold any number, or noise: then the look-up
gives one of these or (past the padding bit) the negative of one. The values are closed under negation, so that is again one of
them, and everything after sees an honest score.

The factor 5 also makes this sum the one with the most noise (26 times the variance of a look-up's output) of every circuit. The
compiler chooses parameters for the noisiest sum, so all circuits have the same and share one key set.
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


def below(cut: int, infeasible: int, feasible: int = 0) -> Any:
    """The look-up that tells values below ``cut`` from the others."""
    return table(lambda value: np.where(value < cut, infeasible, feasible))


_score = table(lambda value: np.array(SCORES)[np.clip(value, 0, INFEASIBLE_LEVEL)])
_min_zero = table(lambda value: np.minimum(value, 0))
is_zero = table(lambda value: value == 0)


def scores(left_over: Any, misfit: Any) -> Any:
    """One of SCORES for each candidate from its left-over level (INFEASIBLE_LEVEL or more: infeasible) and ``misfit``, 0 or 1."""
    return _score(left_over + INFEASIBLE_LEVEL * misfit)


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

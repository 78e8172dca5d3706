"""Look-ups that several circuits use, the score among them, and the halving tree for a least score.

A score is ``g(a + 4 m)``. ``a`` is a left-over level less 4, of -4..3; ``m`` is -1 where the demand fits and 1 where it does
not; g gives a + 4 or 7. Any ciphertext, of numbers out of range or of noise, makes the look-ups of a and m return one of their
values or (past the padding bit) its negative: -4..4 and -1 or 1. So a + 4 m is in -8..8 whatever a candidate sends. Of these
only 8 is past the padding bit again, where g gives the negative of its value at -8, which is 0. Hence everything after sees
some honest score 0..7.

The factor 4 also makes this sum the one with the most noise (17 times that of a look-up's output) of every circuit. The
compiler chooses parameters for the noisiest sum, so all circuits have the same and share one key set.
"""

from typing import Any

import numpy as np

from veil.fhe.concrete_import import fhe
from veil.fhe.encoding import INFEASIBLE_LEVEL, MESSAGE_BITS

HALF = 4
"""Where levels and infeasibility are centred, so that a negated value is again one of theirs."""


def table(function: Any) -> Any:
    """One look-up of 4 bits from ``function``, which takes and gives numpy arrays."""
    look_up = fhe.univariate(lambda value: np.asarray(function(value)).astype(np.int64))
    return lambda value: look_up(fhe.hint(value, bit_width=MESSAGE_BITS))


def below(cut: int, infeasible: int, feasible: int = 0) -> Any:
    """The look-up that tells values below ``cut`` from the others."""
    return table(lambda value: np.where(value < cut, infeasible, feasible))


_level = table(lambda value: np.minimum(value, INFEASIBLE_LEVEL) - HALF)
_honest = table(lambda value: np.where(value < 0, value + 2 * HALF, INFEASIBLE_LEVEL))
_min_zero = table(lambda value: np.minimum(value, 0))
is_zero = table(lambda value: value == 0)


def scores(left_over: Any, misfit: Any) -> Any:
    """An honest score 0..7 for each candidate from its left-over level and its ``misfit``: -1 (fits) or 1.

    The hint is for circuits where nothing else would make that input as wide as the others.
    """
    return _honest(_level(fhe.hint(left_over, bit_width=MESSAGE_BITS)) + HALF * misfit)


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

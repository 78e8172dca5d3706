"""The scores of the profiles ``default`` and ``precise``: (R+3) n look-ups of 4 bits for n candidates and R resources.

The first two resources have two digits, up to two more have one. Feasibility is a chain: the borrow of a resource's low
digits, then the difference of its high digits less that borrow and less another resource's infeasibility. Constants are added
before anything is subtracted, else an intermediate needs a fifth bit. The difference of single digits fills its look-up, so
what it says joins elsewhere: of the last single digit at the chain's begin, of the first with the left-over level. That level and
the chain's end become the score (:mod:`veil.fhe.circuits.tables` says why any ciphertext whatever gives an honest one).
"""

from typing import Any

from veil.fhe.circuits import tables
from veil.fhe.encoding import CHAINED_RADIX, FINE_RESOURCES, INFEASIBLE_LEVEL

_borrow = tables.below(0, 1)


def _misfit(free_high: Any, free_low: Any, asked_high: Any, asked_low: Any, before: Any) -> Any:
    """0 where the resources of two digits fit and ``before`` (0 or CHAINED_RADIX, or None) is 0, else 1."""
    borrow = _borrow(free_low - asked_low)
    for index in range(FINE_RESOURCES):
        last = index == FINE_RESOURCES - 1
        values = (1, 0) if last else (CHAINED_RADIX, 0)
        if before is None:
            before = tables.below(0, *values)(free_high[:, index] - asked_high[index] - borrow[:, index])
        else:
            difference = (free_high[:, index] + 2) - asked_high[index] - borrow[:, index] - before
            before = tables.below(2, *values)(difference)
    return before


def scores(free_high: Any, free_low: Any, left_over: Any, asked_high: Any, asked_low: Any, resources: int) -> Any:
    """On numpy arrays or on Concrete's tracers: high and single digits (n, R), low digits (n, 2), levels (n,)."""
    single = [free_high[:, index] - asked_high[index] for index in range(FINE_RESOURCES, resources)]
    before = tables.below(0, CHAINED_RADIX)(single[1]) if len(single) > 1 else None
    level = tables.below(0, INFEASIBLE_LEVEL)(single[0]) + left_over if single else left_over
    return tables.scores(level, _misfit(free_high, free_low, asked_high, asked_low, before))

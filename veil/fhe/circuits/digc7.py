"""The placement circuit ``digc7``, sanitised: (R+6) n look-ups of 4 bits for n candidates and R resources.

The first two resources have two digits, up to two more have one. Feasibility is a chain: the borrow of a resource's low
digits, then the difference of its high digits less that borrow and less another resource's infeasibility. Constants are added
before anything is subtracted, else an intermediate needs a fifth bit. The difference of single digits fills its look-up, so
what it says joins elsewhere: of the last single digit at the chain's begin, of the first with the left-over level.

The score is ``g(a + m)``. ``a`` is the left-over level u (7 where the single digit does not fit) less 4, of -4..3; ``m`` is
the chain's end, -4 (fits) or 4 (does not); g gives a + 4 or 7. Any ciphertext, of numbers out of range or of noise, makes the
look-ups of a and m return one of their values or (past the padding bit) its negative: -4..4 and -4 or 4. So a + m is in -8..8
whatever a candidate sends. Of these only 8 is past the padding bit again, where g gives the negative of its value at -8,
which is 0. Hence everything after sees some honest score 0..7. The least score comes from a halving tree
``b + min(a - b, 0)``; a candidate's bit says whether its score is the least.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from veil.fhe.circuits.configuration import configuration
from veil.fhe.circuits.digc7_layout import INPUTS
from veil.fhe.concrete_import import fhe
from veil.fhe.encoding import CHAINED_RADIX, FINE_RESOURCES, INFEASIBLE_LEVEL, LOW_RADIX
from veil.fhe.material import Parameters

HALF = 4
"""Where levels and infeasibility are centred, so that a negated value is again one of theirs."""

SAMPLES = 300
"""Random inputs, beside the extremes, from which the compiler measures ranges."""

Ints = npt.NDArray[np.int64]


def _centred_level(value: Any) -> Any:
    return np.minimum(value, INFEASIBLE_LEVEL) - HALF


def _score(value: Any) -> Any:
    return np.where(value < 0, value + 2 * HALF, INFEASIBLE_LEVEL)


def _below(cut: int, infeasible: int, feasible: int = 0) -> Any:
    return fhe.univariate(lambda value: np.where(value < cut, infeasible, feasible).astype(np.int64))


_borrow = _below(0, 1)
_level = fhe.univariate(lambda value: _centred_level(value).astype(np.int64))
_honest = fhe.univariate(lambda value: _score(value).astype(np.int64))
_min_zero = fhe.univariate(lambda value: np.minimum(value, 0).astype(np.int64))
_is_zero = fhe.univariate(lambda value: (value == 0).astype(np.int64))
_is_infeasible = fhe.univariate(lambda value: (value >= INFEASIBLE_LEVEL).astype(np.int64))


def _misfit(free_high: Any, free_low: Any, asked_high: Any, asked_low: Any, before: Any) -> Any:
    """-HALF where the resources of two digits fit and ``before`` (0 or CHAINED_RADIX, or None) is 0, else HALF."""
    borrow = _borrow(free_low - asked_low)
    for index in range(FINE_RESOURCES):
        last = index == FINE_RESOURCES - 1
        values = (HALF, -HALF) if last else (CHAINED_RADIX, 0)
        if before is None:
            before = _below(0, *values)(free_high[:, index] - asked_high[index] - borrow[:, index])
        else:
            difference = (free_high[:, index] + 2) - asked_high[index] - borrow[:, index] - before
            before = _below(2, *values)(difference)
    return before


def _least(scores: Any) -> Any:
    count = scores.shape[0]
    while count > 1:
        half = count // 2
        left, right = scores[0:half], scores[half : 2 * half]
        smaller = right + _min_zero(left - right)
        scores = smaller if count % 2 == 0 else np.concatenate((smaller, scores[2 * half : count]))
        count = half + count % 2
    return scores


def decide(free_high: Any, free_low: Any, left_over: Any, asked_high: Any, asked_low: Any, resources: int) -> Any:
    """The circuit's body, on numpy arrays or on Concrete's tracers."""
    single = [free_high[:, index] - asked_high[index] for index in range(FINE_RESOURCES, resources)]
    before = _below(0, CHAINED_RADIX)(single[1]) if len(single) > 1 else None
    level = _level(_below(0, 8)(single[0]) + left_over if single else left_over)
    scores = _honest(level + _misfit(free_high, free_low, asked_high, asked_low, before))
    least = _least(scores)
    return _is_zero(scores - least), _is_infeasible(least)


def _sample(generator: np.random.Generator, candidates: int, high_radixes: Ints, kind: int) -> tuple[Ints, ...]:
    """Digits of one kind: 0..3 are the extremes that reach every intermediate's bounds, others are random."""
    resources = len(high_radixes)
    top, low = high_radixes - 1, LOW_RADIX - 1
    zeros = np.zeros((candidates, resources), np.int64)
    zeros_low = np.zeros((candidates, FINE_RESOURCES), np.int64)
    last = INFEASIBLE_LEVEL - 1
    if kind < 4:
        most = (np.tile(top, (candidates, 1)), zeros_low + low)
        least = (zeros, zeros_low)
        free, asked = (most, (zeros[0], zeros_low[0])) if kind % 2 == 0 else (least, (top, zeros_low[0] + low))
        level = np.full(candidates, last if kind >= 2 else 0)
        return (*free, level, *asked)
    return (
        generator.integers(0, high_radixes, (candidates, resources)),
        generator.integers(0, LOW_RADIX, (candidates, FINE_RESOURCES)),
        generator.integers(0, last + 1, candidates),
        generator.integers(0, high_radixes),
        generator.integers(0, LOW_RADIX, FINE_RESOURCES),
    )


def build(candidates: int, high_radixes: Sequence[int], parameters: Parameters = "plain") -> Any:
    """The compiled circuit (``concrete.fhe.Circuit``) with outputs one bit wide and compressed evaluation keys."""
    radixes = np.asarray(high_radixes, dtype=np.int64)
    resources = len(radixes)
    generator = np.random.default_rng(7)
    samples = [_sample(generator, candidates, radixes, kind) for kind in range(4 + SAMPLES)]

    def digc7(free_high: Any, free_low: Any, left_over: Any, asked_high: Any, asked_low: Any) -> Any:
        return decide(free_high, free_low, left_over, asked_high, asked_low, resources)

    return fhe.Compiler(digc7, dict.fromkeys(INPUTS, "encrypted")).compile(samples, configuration(parameters))

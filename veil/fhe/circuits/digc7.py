"""The placement circuit ``digc7``, sanitised: (2R+4) n look-ups of 4 bits for n candidates and R resources of two digits.

Feasibility is a chain: the borrow of a resource's low digits, then the difference of its high digits less that borrow and
less the previous resource's infeasibility, so that two look-ups a resource decide them all. Constants are added before
anything is subtracted, else an intermediate needs a fifth bit. The chain ends in z = 0 (fits) or 8 (does not).

The score is ``g(min(z + u, 7) + 8)`` with the candidate's own left-over level u. Any ciphertext, of numbers out of range or
of noise, makes the first look-up return a value of -7..7 (negated where it crossed the padding bit); plus 8 that is 1..15, of
which g makes 0..7. So whatever a candidate sends, everything after sees some honest score. The least score comes from a
halving tree ``b + min(a - b, 0)``; a candidate's bit says whether its score is the least.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from veil.fhe.circuits.digc7_layout import INPUTS
from veil.fhe.concrete_import import fhe
from veil.fhe.encoding import INFEASIBLE_LEVEL, LOW_RADIX

P_ERROR = 2.0**-64
"""Probability that any one look-up is wrong."""

CHAINED = 5
"""Radix of high digits after the first resource, and the weight of the previous infeasibility."""

SAMPLES = 300
"""Random inputs, beside the extremes, from which the compiler measures ranges."""

Ints = npt.NDArray[np.int64]


def lookups(candidates: int, resources: int) -> int:
    """Programmable bootstraps of one evaluation."""
    return (2 * resources + 2) * candidates + (candidates - 1) + candidates + 1


def _negative(width: int, cut: int = 0) -> Any:
    return fhe.univariate(lambda value: np.where(value < cut, width, 0).astype(np.int64))


_borrow = _negative(1)
_clamp = fhe.univariate(lambda value: np.minimum(value, INFEASIBLE_LEVEL).astype(np.int64))
_honest = fhe.univariate(lambda value: np.where(value >= 8, value - 8, INFEASIBLE_LEVEL).astype(np.int64))
_min_zero = fhe.univariate(lambda value: np.minimum(value, 0).astype(np.int64))
_is_zero = fhe.univariate(lambda value: (value == 0).astype(np.int64))
_is_infeasible = fhe.univariate(lambda value: (value >= INFEASIBLE_LEVEL).astype(np.int64))


def _misfit(free_high: Any, free_low: Any, asked_high: Any, asked_low: Any, resources: int) -> Any:
    """0 where every resource fits, else 8."""
    borrow = _borrow(free_low - asked_low)
    misfit = None
    for index in range(resources):
        width = 8 if index == resources - 1 else CHAINED
        if misfit is None:
            misfit = _negative(width)(free_high[:, index] - asked_high[index] - borrow[:, index])
        else:
            difference = (free_high[:, index] + 2) - asked_high[index] - borrow[:, index] - misfit
            misfit = _negative(width, 2)(difference)
    return misfit


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
    misfit = _misfit(free_high, free_low, asked_high, asked_low, resources)
    scores = _honest(_clamp(misfit + left_over) + 8)
    least = _least(scores)
    return _is_zero(scores - least), _is_infeasible(least)


def _sample(generator: np.random.Generator, candidates: int, high_radixes: Ints, kind: int) -> tuple[Ints, ...]:
    """Digits of one kind: 0..3 are the extremes that reach every intermediate's bounds, others are random."""
    resources = len(high_radixes)
    top, low = high_radixes - 1, LOW_RADIX - 1
    zeros = np.zeros((candidates, resources), np.int64)
    last = INFEASIBLE_LEVEL - 1
    if kind < 4:
        most = (np.tile(top, (candidates, 1)), zeros + low)
        free, asked = (most, (zeros[0], zeros[0])) if kind % 2 == 0 else ((zeros, zeros), (top, zeros[0] + low))
        level = np.full(candidates, last if kind >= 2 else 0)
        return (*free, level, *asked)
    return (
        generator.integers(0, high_radixes, (candidates, resources)),
        generator.integers(0, LOW_RADIX, (candidates, resources)),
        generator.integers(0, last + 1, candidates),
        generator.integers(0, high_radixes),
        generator.integers(0, LOW_RADIX, resources),
    )


def build(candidates: int, high_radixes: Sequence[int]) -> Any:
    """The compiled circuit (``concrete.fhe.Circuit``) with outputs one bit wide and compressed evaluation keys."""
    radixes = np.asarray(high_radixes, dtype=np.int64)
    resources = len(radixes)
    generator = np.random.default_rng(7)
    samples = [_sample(generator, candidates, radixes, kind) for kind in range(4 + SAMPLES)]

    def digc7(free_high: Any, free_low: Any, left_over: Any, asked_high: Any, asked_low: Any) -> Any:
        return decide(free_high, free_low, left_over, asked_high, asked_low, resources)

    configuration = fhe.Configuration(
        p_error=P_ERROR,
        loop_parallelize=True,
        dataflow_parallelize=False,
        parameter_selection_strategy="mono",
        single_precision=False,
        compress_evaluation_keys=True,
        show_progress=False,
    )
    return fhe.Compiler(digc7, dict.fromkeys(INPUTS, "encrypted")).compile(samples, configuration)

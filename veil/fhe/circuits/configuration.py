"""How circuits are compiled: a function of the parameter set, so that all circuits of an epoch can share one key set.

Concrete's optimiser chooses the cryptographic parameters from what is set here and from the circuit's widths. Whatever changes
them changes keys, times and noise: tests assert the outcome.

A decryption is flooded with noise far above the output's own, so ``flooded`` wants outputs with little noise. The optimiser
takes no such wish, but it grants the precision that an output's width needs. So each output bit of a ``flooded`` circuit goes
through one more look-up, which writes it as the highest of many bits: it is where the one bit of a narrow output would be, and
below it is almost no noise. With parameters by precision (the strategy ``multi``) these look-ups alone pay for it: they read
one bit, all others read four. They have a bootstrapping key of their own, and outputs are under another secret key than
inputs.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from veil.fhe.concrete_import import fhe
from veil.fhe.material import Parameters

P_ERROR = 2.0**-64
"""Probability that any one look-up is wrong."""

OUTPUT_WIDTHS: dict[Parameters, int] = {"plain": 1, "flooded": 22}
"""Bits of an output, of which the highest one tells something."""

_FLOODED_RINGS = ((1, 11), (2, 10))
"""Dimension and base-2 logarithm of degree: without this, more dimensions of degree 512 take 20 % more memory and time."""


def configuration(parameters: Parameters = "plain") -> Any:
    """A ``concrete.fhe.Configuration``: outputs as wide as they are, evaluation keys compressed."""
    flooded = parameters == "flooded"
    return fhe.Configuration(
        p_error=P_ERROR,
        loop_parallelize=True,
        dataflow_parallelize=False,
        parameter_selection_strategy="multi" if flooded else "mono",
        range_restriction=_rings() if flooded else None,
        enable_tlu_fusing=not flooded,
        single_precision=False,
        compress_evaluation_keys=True,
        show_progress=False,
    )


def with_output_width(function: Callable[..., Any], parameters: Parameters) -> Callable[..., Any]:
    """``function``, each of whose output bits is the highest one of OUTPUT_WIDTHS bits: one more look-up each, or none."""
    shift = OUTPUT_WIDTHS[parameters] - 1
    if shift == 0:
        return function
    widen = fhe.univariate(lambda bit: bit.astype(np.int64) << shift)

    @functools.wraps(function)
    def widened(*inputs: Any, **named: Any) -> Any:
        outputs = function(*inputs, **named)
        return tuple(widen(output) for output in outputs) if isinstance(outputs, tuple) else widen(outputs)

    return widened


def _rings() -> Any:
    restriction = fhe.compilation.configuration.RangeRestriction()
    for dimension, log_degree in _FLOODED_RINGS:
        restriction.add_available_glwe_dimension(dimension)
        restriction.add_available_glwe_log_polynomial_size(log_degree)
    return restriction

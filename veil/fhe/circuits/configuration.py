"""How circuits are compiled: under stated cryptographic parameters, so that all circuits of an epoch share one key set.

Left alone, Concrete's optimiser chooses parameters for the noisiest sum of each circuit, and then circuits have different keys:
a rank of 16, which sums 15 look-ups, has a look-up dimension of 806 and all others 805. So the keys are stated here, as the
optimiser chose them for that rank. It takes them where P_ERROR can be kept under them, and else others, without a word: hence
:func:`has_stated_keys`. (Only the strategy ``multi`` takes stated keys. With one of them it makes the same circuit as ``mono``.)

A decryption is flooded with noise far above the output's own, so ``flooded`` wants outputs with little noise. The optimiser
takes no such wish, but it grants the precision that an output's width needs. So each output bit of a ``flooded`` circuit goes
through one more look-up, which writes it as the highest of many bits: it is where the one bit of a narrow output would be, and
below it is almost no noise. With parameters by precision these look-ups alone pay for it: they read one bit, all others read
four. They have a bootstrapping key of their own, and outputs are under another secret key than inputs.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from veil.fhe.concrete_import import fhe
from veil.fhe.material import Parameters

P_ERROR = 2.0**-64
"""Probability that any one look-up is wrong."""

OUTPUT_WIDTHS: dict[Parameters, int] = {"plain": 1, "flooded": 22}
"""Bits of an output, of which the highest one tells something."""

_LOOK_UPS = {
    "lwe_secret_keys": [{"lwe_dimension": 2048}, {"lwe_dimension": 806}],
    "lwe_bootstrap_keys": [
        {"level_count": 1, "base_log": 23, "glwe_dimension": 1, "polynomial_size": 2048, "input_lwe_dimension": 806}
    ],
    "lwe_keyswitch_keys": [{"level_count": 5, "base_log": 3, "input_lwe_dimension": 2048, "output_lwe_dimension": 806}],
}
_WIDE_OUTPUTS = {
    "lwe_secret_keys": [{"lwe_dimension": 2048}, {"lwe_dimension": 634}],
    "lwe_bootstrap_keys": [
        {"level_count": 4, "base_log": 9, "glwe_dimension": 2, "polynomial_size": 1024, "input_lwe_dimension": 634}
    ],
    "lwe_keyswitch_keys": [{"level_count": 5, "base_log": 2, "input_lwe_dimension": 2048, "output_lwe_dimension": 634}],
}

KEYS: dict[Parameters, dict[str, list[dict[str, int]]]] = {
    "plain": _LOOK_UPS,
    "flooded": {kind: _LOOK_UPS[kind] + _WIDE_OUTPUTS[kind] for kind in _LOOK_UPS},
}
"""Of each parameter set, in Concrete's own words."""


def configuration(parameters: Parameters = "plain") -> Any:
    """A ``concrete.fhe.Configuration``: outputs as wide as they are, evaluation keys compressed."""
    return fhe.Configuration(
        p_error=P_ERROR,
        loop_parallelize=True,
        dataflow_parallelize=False,
        parameter_selection_strategy="multi",
        keyset_restriction=fhe.compilation.configuration.KeysetRestriction.from_json(json.dumps({"info": KEYS[parameters]})),
        enable_tlu_fusing=parameters == "plain",
        single_precision=False,
        compress_evaluation_keys=True,
        show_progress=False,
    )


def has_stated_keys(circuit: Any, parameters: Parameters) -> bool:
    """Whether a compiled circuit is for KEYS."""
    made = circuit.client.specs.program_info.get_keyset_info().get_restriction().to_json()
    return bool(json.loads(made) == {"info": KEYS[parameters]})


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

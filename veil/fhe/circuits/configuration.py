"""How circuits are compiled: a function of the parameter set, so that all circuits of an epoch can share one key set.

Concrete's optimiser chooses the cryptographic parameters from what is set here and from the circuit's widths. Whatever changes
them changes keys, times and noise: tests assert the outcome.
"""

from typing import Any

from veil.fhe.concrete_import import fhe
from veil.fhe.material import Parameters

P_ERROR = 2.0**-64
"""Probability that any one look-up is wrong."""


def configuration(parameters: Parameters = "plain") -> Any:
    """A ``concrete.fhe.Configuration``: outputs as wide as they are (one bit), evaluation keys compressed."""
    return fhe.Configuration(
        p_error=P_ERROR,
        loop_parallelize=True,
        dataflow_parallelize=False,
        parameter_selection_strategy="mono",
        single_precision=False,
        compress_evaluation_keys=True,
        show_progress=False,
    )

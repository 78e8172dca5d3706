"""Where the digits of vectors go among the inputs of ``digc7``, and how its outputs become a result."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veil.fhe.encoding import INFEASIBLE_LEVEL

Rows = npt.NDArray[np.uint64]

INPUTS = ("free_high", "free_low", "left_over", "asked_high", "asked_low")
"""In the order of the compiled function's parameters."""


def circuit_name(candidates: int, resources: int) -> str:
    """The name under which an epoch registers the circuit."""
    return f"digc7-n{candidates}-r{resources}"


def padding(resources: int) -> list[int]:
    """The digits of an empty place: infeasible whatever is asked, even nothing."""
    return [0] * (2 * resources) + [INFEASIBLE_LEVEL]


def inputs(telemetry: Sequence[Rows], demand: Rows) -> list[Rows]:
    """The five inputs from each candidate's rows (2R+1, width) and the demand's (2R, width)."""
    resources = len(demand) // 2
    stacked = np.stack(list(telemetry))
    return [
        stacked[:, :resources],
        stacked[:, resources : 2 * resources],
        stacked[:, 2 * resources],
        demand[:resources],
        demand[resources:],
    ]


def result(outputs: Sequence[Rows]) -> Rows:
    """The result's rows: one a candidate, then "none fits"."""
    marks, none_fits = outputs
    return np.concatenate([marks, none_fits.reshape(1, -1)])

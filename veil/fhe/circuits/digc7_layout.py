"""Where the digits of vectors go among the inputs of ``digc7``, and how its outputs become a result."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veil.fhe.encoding import FINE_RESOURCES, INFEASIBLE_LEVEL

Rows = npt.NDArray[np.uint64]

INPUTS = ("free_high", "free_low", "left_over", "asked_high", "asked_low")
"""In the order of the compiled function's parameters; the single digits follow the high ones."""


def circuit_name(candidates: int, resources: int) -> str:
    """The name under which an epoch registers the circuit."""
    return f"digc7b-n{candidates}-r{resources}"


def lookups(candidates: int, resources: int) -> int:
    """Programmable bootstraps of one evaluation."""
    return (resources + FINE_RESOURCES + 2) * candidates + (candidates - 1) + candidates + 1


def padding(resources: int) -> list[int]:
    """The digits of an empty place: infeasible whatever is asked, even nothing."""
    return [0] * (resources + FINE_RESOURCES) + [INFEASIBLE_LEVEL]


def inputs(telemetry: Sequence[Rows], demand: Rows) -> list[Rows]:
    """The five inputs from each candidate's rows (R+3, width) and the demand's (R+2, width)."""
    digits, resources = len(demand), len(demand) - FINE_RESOURCES
    stacked = np.stack(list(telemetry))
    return [
        stacked[:, :resources],
        stacked[:, resources:digits],
        stacked[:, digits],
        demand[:resources],
        demand[resources:],
    ]


def result(outputs: Sequence[Rows]) -> Rows:
    """The result's rows: one a candidate, then "none fits"."""
    marks, none_fits = outputs
    return np.concatenate([marks, none_fits.reshape(1, -1)])

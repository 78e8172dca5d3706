"""Where the digits of vectors go among a circuit's inputs, and how its outputs become a result.

A vector has the digits of every profile. A demand: a high or single digit for each resource, the low digits, the bundle. A
telemetry vector: the same digits of what is free, then the left-over level, the finer level, and the number of bundles that
fit. Each circuit takes what it needs.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veil.fhe.encoding import FINE_RESOURCES, INFEASIBLE_LEVEL
from veil.fhe.material import Profile

Rows = npt.NDArray[np.uint64]

LEFT_OVER, FINER, BUNDLE = -3, -2, -1
"""Places of a telemetry vector's last digits; a demand's bundle is at BUNDLE as well."""

_DIGITS = ("free_high", "free_low", "left_over", "asked_high", "asked_low")

INPUTS: dict[Profile, tuple[str, ...]] = {
    "fast": ("free_bundles", "left_over", "asked_bundle"),
    "default": _DIGITS,
    "precise": (*_DIGITS, "finer"),
}
"""In the order of the compiled function's parameters; the single digits follow the high ones."""


def padding(demand_values: int) -> list[int]:
    """The digits of an empty place: infeasible whatever is asked, even nothing."""
    return [0] * (demand_values - 1) + [INFEASIBLE_LEVEL, 0, 0]


def inputs(profile: Profile, telemetry: Sequence[Rows], demand: Rows) -> list[Rows]:
    """The inputs from each candidate's rows (R+5, …) and the demand's (R+3, …), by their names' order."""
    resources = len(demand) - 1 - FINE_RESOURCES
    stacked = np.stack(list(telemetry))
    parts = {
        "free_high": stacked[:, :resources],
        "free_low": stacked[:, resources : resources + FINE_RESOURCES],
        "left_over": stacked[:, LEFT_OVER],
        "finer": stacked[:, FINER],
        "free_bundles": stacked[:, BUNDLE],
        "asked_high": demand[:resources],
        "asked_low": demand[resources : resources + FINE_RESOURCES],
        "asked_bundle": demand[BUNDLE:],
    }
    return [parts[name] for name in INPUTS[profile]]


def result(outputs: Sequence[Rows]) -> Rows:
    """The result's rows: the outputs one after the other."""
    return np.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs])

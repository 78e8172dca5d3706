"""What a circuit reads of candidates, and how its outputs become a result.

Of every candidate a circuit reads the sum of the slots that the demand selects of its table, its level; and the profile
``precise`` the sum of those FINER_SHIFT further. Both are numbers 0..15; honest ones are 0..15 and 0..5.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veil.fhe.encoding import FINER_SHIFT, INFEASIBLE_LEVEL
from veil.fhe.material import Profile

Rows = npt.NDArray[np.uint64]

INPUTS: dict[Profile, tuple[str, ...]] = {"default": ("level",), "precise": ("level", "finer")}
"""In the order of the compiled function's parameters, all of shape (n,)."""

SHIFTS = {"level": 0, "finer": FINER_SHIFT}
"""How far after a demand's slots an input is."""

PADDING = {"level": INFEASIBLE_LEVEL, "finer": 0}
"""Of an empty place: infeasible whatever is asked."""


def levels(table: Sequence[int] | npt.NDArray[np.uint8], slots: Sequence[int]) -> dict[str, int]:
    """A candidate's inputs in clear."""
    return {name: sum(int(table[slot + shift]) for slot in slots) for name, shift in SHIFTS.items()}


def result(outputs: Sequence[Rows]) -> Rows:
    """The result's rows: the outputs one after the other."""
    return np.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs])

"""Tables by what they answer, for tests that ask for levels and not for sizes."""

import numpy as np

from veil.fhe.encoding import FINER_SLOT, INFEASIBLE_LEVEL, SLOTS, Table

SLOTS_ASKED = (17, 1900)
"""What the tests' demands select."""


def answers(level: int, finer: int = 0) -> Table:
    """A table that answers ``level``, as one sum, to SLOTS_ASKED. Honest levels are 0 to 12."""
    table = np.full(SLOTS, INFEASIBLE_LEVEL, np.uint8)
    table[SLOTS_ASKED[0]] = min(level, INFEASIBLE_LEVEL)
    table[SLOTS_ASKED[1]] = level - min(level, INFEASIBLE_LEVEL)
    table[FINER_SLOT] = finer
    return table

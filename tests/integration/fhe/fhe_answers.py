"""Tables by what they answer, for tests that ask for levels and not for sizes."""

import numpy as np

from veil.fhe.encoding import FINER_SHIFT, INFEASIBLE_LEVEL, SLOTS, Table

SLOTS_ASKED = (17, 900, 1000)
"""What the tests' demands select."""


def answers(level: int, finer: int = 0) -> Table:
    """A table that answers ``level``, as one sum, to SLOTS_ASKED. Honest levels are 0 to 15."""
    table = np.full(SLOTS, INFEASIBLE_LEVEL, np.uint8)
    table[FINER_SHIFT:] = 0
    for slot in SLOTS_ASKED:
        table[slot] = min(level, INFEASIBLE_LEVEL)
        level -= table[slot]
    table[SLOTS_ASKED[0] + FINER_SHIFT] = finer
    return table

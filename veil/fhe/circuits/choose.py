"""The shape ``choose``: one bit a candidate that has the least score, then "none fits". 2 n look-ups."""

from typing import Any

import numpy as np

from veil.fhe.circuits import tables
from veil.fhe.circuits.tables import INFEASIBLE


def choose(scores: Any) -> Any:
    """The bits, shape (n + 1,). No candidate fits where the least score is that of the infeasible: the same look-up says so."""
    best = tables.least(scores)
    return tables.is_zero(np.concatenate((scores - best, best - INFEASIBLE)))

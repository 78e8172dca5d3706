"""The shape ``choose``: one bit a candidate that has the least score, then "none fits". 2 n look-ups."""

from typing import Any

import numpy as np

from veil.fhe.circuits import tables
from veil.fhe.encoding import INFEASIBLE_LEVEL


def choose(scores: Any) -> Any:
    """The bits, shape (n + 1,). The least score is 7 only where every one is; both questions are the same look-up."""
    best = tables.least(scores)
    return tables.is_zero(np.concatenate((scores - best, best - INFEASIBLE_LEVEL)))

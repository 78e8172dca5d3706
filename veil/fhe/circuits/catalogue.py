"""The scores of the profile ``fast``: 2 n look-ups of 4 bits for n candidates, however many resources there are.

Sizes are those of a public catalogue of eight bundles, each of all resources and none smaller than the one before. A
candidate sends how many of them it has room for, a demand is the number of the first that covers it, and one comparison says
whether it fits. Sanitised as every score is (:mod:`veil.fhe.circuits.tables`).
"""

from typing import Any

from veil.fhe.circuits import tables

_misfit = tables.below(0, 1)


def scores(free_bundles: Any, left_over: Any, asked_bundle: Any) -> Any:
    """On numpy arrays or on Concrete's tracers: shapes (n,), (n,), (1,)."""
    return tables.scores(left_over, _misfit(free_bundles - asked_bundle))

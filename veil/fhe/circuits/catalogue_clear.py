"""What the scores of ``fast`` are, in clear, for honest digits."""

from collections.abc import Sequence

from veil.fhe.encoding import INFEASIBLE_LEVEL


def score(telemetry: Sequence[int], demand: Sequence[int]) -> int:
    """A candidate's left-over level 0..4 where the bundle that is asked for fits, else 5."""
    level, bundles = telemetry[len(demand) - 1], telemetry[-1]
    return min(level, INFEASIBLE_LEVEL) if bundles >= demand[-1] else INFEASIBLE_LEVEL

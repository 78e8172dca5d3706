"""What the scores of ``default`` and ``precise`` are, in clear: the definition that the encrypted ones are tested against.

It is defined for honest digits. For others a circuit's outputs equal those for some honest digits of that candidate, which is
all that the sanitising look-ups promise.
"""

from collections.abc import Sequence

from veil.fhe.encoding import FINE_RESOURCES, INFEASIBLE_LEVEL, LOW_RADIX


def score(telemetry: Sequence[int], demand: Sequence[int]) -> int:
    """A candidate's left-over level 0..4 where every resource fits, else 5."""
    digits = len(demand) - 1
    for free, asked in zip(_sizes(telemetry[:digits]), _sizes(demand[:digits]), strict=True):
        if free < asked:
            return INFEASIBLE_LEVEL
    return min(telemetry[digits], INFEASIBLE_LEVEL)


def _sizes(digits: Sequence[int]) -> list[int]:
    """Each resource's level from high digits, single digits, low digits."""
    resources = len(digits) - FINE_RESOURCES
    fine = [digits[index] * LOW_RADIX + digits[resources + index] for index in range(FINE_RESOURCES)]
    return [*fine, *digits[FINE_RESOURCES:resources]]

"""What the circuit ``digc7`` computes, in clear: the definition that the encrypted one is tested against.

It is defined for honest digits. For others the circuit's outputs equal this function's for some honest digits of that
candidate, which is all that the sanitising look-ups promise.
"""

from collections.abc import Sequence

from veil.fhe.encoding import FINE_RESOURCES, INFEASIBLE_LEVEL, LOW_RADIX


def score(telemetry: Sequence[int], demand: Sequence[int]) -> int:
    """A candidate's left-over level 0..6 where every resource fits, else 7."""
    for free, asked in zip(_sizes(telemetry[: len(demand)]), _sizes(demand), strict=True):
        if free < asked:
            return INFEASIBLE_LEVEL
    return min(telemetry[len(demand)], INFEASIBLE_LEVEL)


def _sizes(digits: Sequence[int]) -> list[int]:
    """Each resource's level from high digits, single digits, low digits."""
    resources = len(digits) - FINE_RESOURCES
    fine = [digits[index] * LOW_RADIX + digits[resources + index] for index in range(FINE_RESOURCES)]
    return [*fine, *digits[FINE_RESOURCES:resources]]


def decide(scores: Sequence[int]) -> list[int]:
    """One bit a candidate that has the least score, then "none fits" (with it, the infeasible ones are all marked)."""
    least = min(scores)
    return [int(value == least) for value in scores] + [int(least >= INFEASIBLE_LEVEL)]


def reference(telemetry: Sequence[Sequence[int] | None], demand: Sequence[int], candidates: int) -> list[int]:
    """The circuit of ``candidates`` places on clear digits; None and missing candidates are infeasible."""
    padded = [*telemetry, *([None] * (candidates - len(telemetry)))]
    return decide([INFEASIBLE_LEVEL if digits is None else score(digits, demand) for digits in padded])

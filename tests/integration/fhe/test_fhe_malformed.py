"""Whatever a candidate encrypts, what comes out is what some honest digits of that candidate give: run on real ciphertexts.

One of four candidates lies. For each of its honest scores 0..5 and finer levels 0..5 the clear circuit says what may come out.
"""

import os
import random

import pytest

from veil.fhe import vectors
from veil.fhe.circuits import clear, layout
from veil.fhe.circuits.spec import circuits_of
from veil.fhe.evaluator import ChildEvaluator

pytestmark = [pytest.mark.fhe, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SPECS = circuits_of(("default", "fast", "precise"), (4,))
SOAK = int(os.environ.get("SOAK_FHE_CASES", "0"))
SEED = 2026
DEMAND = [1, 1, 1, 0, 2, 3, 2]
OTHERS = [[2, 2, 1, 1, 0, 0, 4, 1, 3], [0, 4, 7, 7, 7, 7, 2, 3, 1], [4, 4, 7, 7, 7, 7, 4, 2, 8]]
"""Two that fit and tie but for their finer levels, and one that has not enough cpu, or bundles."""
FITS, FITS_NOT = [4, 4, 7, 7, 7, 7], [0] * 6
RANDOM_CASES = 4


def attacks(thorough: bool) -> list[list[int]]:
    """Every level on a candidate that fits not, every finer level, every value of every digit."""
    found = [[*FITS_NOT, value, value * 5 % 16, value * 3 % 16] for value in range(16)]
    if thorough:
        found += [[value] * 9 for value in range(16)]
    if SOAK:
        good = [*FITS, 3, 0, 8]
        found += [[*good[:place], value, *good[place + 1 :]] for place in range(9) for value in range(16)]
    return found


def honest_outcomes(spec, place: int) -> set[tuple[int, ...]]:
    scores = clear.scores(spec, OTHERS, DEMAND)
    finer = [digits[layout.FINER] for digits in OTHERS]
    return {
        tuple(clear.result_of(spec, [*scores[:place], score, *scores[place:]], [*finer[:place], fine, *finer[place:]]))
        for score in range(6)
        for fine in range(6)
    }


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
async def test_outputs_are_those_of_some_honest_digits(world, evaluator: ChildEvaluator, spec) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    demand, pid = world.raw_demand(DEMAND), evaluator.child_pid
    rest = [world.raw_telemetry(digits) for digits in OTHERS]
    size = vectors.vector_bytes(9)
    header = rest[0][: size - 8 * (vectors.DIMENSION + 9)]
    liars = [world.raw_telemetry(digits) for digits in attacks(spec == SPECS[0] or SOAK > 0)]
    liars += [header + rng.randbytes(size - len(header)) for _ in range(max(RANDOM_CASES, SOAK))]
    liars += [header + bytes(size - len(header)), rest[0]]  # all zeros; another candidate's own
    seen = set()
    for liar in liars:
        place = rng.randrange(4)
        done = await evaluator.evaluate(spec.name, demand, [*rest[:place], liar, *rest[place:]])
        bits = tuple(world.open(done.result))
        assert bits in honest_outcomes(spec, place)
        seen.add((place, bits))
    assert len(seen) > 3
    assert evaluator.child_pid == pid

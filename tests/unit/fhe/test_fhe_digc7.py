"""The clear reference is best-fit; the sanitising look-ups bound every candidate, whatever it sends."""

import itertools
import random

from veil.fhe.circuits import clear, digc7_clear, layout
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.encoding import default_encoding
from veil.fhe.ports import Figures

ENCODING = default_encoding()
FOUR = CircuitSpec("default", "choose", 4)
GIB = 1 << 30


def test_it_marks_the_fullest_node_that_fits() -> None:
    rng = random.Random(11)
    capacity = Figures(cpu_milli=16_000, memory_bytes=64 * GIB, disk_bytes=500 * GIB, gpu_count=4)
    for _ in range(500):
        parts = [rng.random() for _ in range(4)]
        free = [
            Figures(
                cpu_milli=int(16_000 * part), memory_bytes=int(64 * GIB * part), disk_bytes=500 * GIB, gpu_count=rng.randrange(5)
            )
            for part in parts
        ]
        demand = Figures(
            cpu_milli=rng.randrange(8000), memory_bytes=rng.randrange(32 * GIB), disk_bytes=GIB, gpu_count=rng.randrange(3)
        )
        telemetry = [ENCODING.telemetry_digits(node, ENCODING.left_over_score(node, capacity)) for node in free]
        *bits, none = clear.reference(FOUR, telemetry, ENCODING.demand_digits(demand))
        chosen = [place for place, bit in enumerate(bits) if bit]
        if none:
            assert chosen == [0, 1, 2, 3]
            continue
        for place in chosen:
            assert free[place].cpu_milli >= demand.cpu_milli
            assert free[place].memory_bytes >= demand.memory_bytes
            assert free[place].gpu_count >= demand.gpu_count
        better = [
            place
            for place in range(4)
            if telemetry[place][layout.LEFT_OVER] < telemetry[chosen[0]][layout.LEFT_OVER]
            and digc7_clear.score(telemetry[place], ENCODING.demand_digits(demand)) < 7
        ]
        assert better == []


def test_empty_places_are_infeasible_even_for_nothing() -> None:
    nothing = [0] * 6 + [1]
    assert digc7_clear.score(layout.padding(7), nothing) == 7
    assert clear.reference(FOUR, [], nothing) == [1, 1, 1, 1, 1]
    assert clear.reference(FOUR, [None, [0] * 6 + [6, 0, 1]], nothing) == [0, 1, 0, 0, 0]


def lookup(table: list[int], phase: int) -> int:
    """A bootstrap of 4 bits and a padding bit: past the padding bit the table is negated."""
    return table[phase] if phase < 16 else -table[phase - 16]


LEVEL = [min(value, 7) - 4 for value in range(16)]
MISFIT = [1 if value < 10 else -1 for value in range(16)]
SCORE = [value if value < 8 else 7 for value in range(16)]
"""The three last tables before the scores, by phase; those of signed numbers begin at -8."""


def test_any_phase_becomes_an_honest_score() -> None:
    for phase, other in itertools.product(range(32), repeat=2):
        joined = lookup(LEVEL, phase) + 4 * lookup(MISFIT, other) + 8
        assert 0 <= joined <= 16
        assert 0 <= lookup(SCORE, joined) <= 7


def test_honest_phases_become_the_reference_score() -> None:
    for level, single, rest in itertools.product(range(8), (0, 8), (-4, 4)):
        expected = 7 if single or rest > 0 else level
        assert lookup(SCORE, LEVEL[single + level] + rest + 8) == expected


def test_levels_that_are_not_centred_would_win() -> None:
    plain = [min(value, 7) for value in range(16)]
    reached = {lookup(plain, phase) + shift for phase in range(32) for shift in (0, 8)}
    assert min(lookup(SCORE, value % 32) for value in reached) < 0

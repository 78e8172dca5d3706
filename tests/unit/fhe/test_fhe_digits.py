"""The clear reference is best-fit; the sanitising look-ups bound every candidate, whatever it sends."""

import itertools
import random

from veil.fhe.circuits import clear, digits_clear, layout, tables
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.encoding import FINER_LEVELS, INFEASIBLE_LEVEL, default_encoding
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
            and digits_clear.score(telemetry[place], ENCODING.demand_digits(demand)) < 5
        ]
        assert better == []


def test_empty_places_are_infeasible_even_for_nothing() -> None:
    nothing = [0] * 6 + [1]
    assert digits_clear.score(layout.padding(7), nothing) == 5
    assert clear.reference(FOUR, [], nothing) == [1, 1, 1, 1, 1]
    assert clear.reference(FOUR, [None, [0] * 6 + [4, 0, 1]], nothing) == [0, 1, 0, 0, 0]


def lookup(table: list[int], phase: int) -> int:
    """A bootstrap of 4 bits and a padding bit: past the padding bit the table is negated."""
    return table[phase] if phase < 16 else -table[phase - 16]


SCORE = [-3, -2, -1, 1, 2] + [3] * 11
"""The table of scores, by phase."""

FINER = [min(value, 5) - 3 if value < 8 else 3 for value in range(16)]


def test_any_phase_becomes_an_honest_score() -> None:
    assert {lookup(SCORE, phase) for phase in range(32)} == set(SCORE) == set(tables.SCORES)
    assert tables.INFEASIBLE == max(SCORE) == SCORE[INFEASIBLE_LEVEL]


def test_any_phase_becomes_an_honest_finer_level() -> None:
    assert {lookup(FINER, phase) for phase in range(32)} == set(range(-3, 4))
    assert [FINER[value] for value in range(FINER_LEVELS)] == [-3, -2, -1, 0, 1, 2]


def test_differences_of_honest_scores_have_four_bits() -> None:
    differences = {one - other for one, other in itertools.product(SCORE, repeat=2)}
    assert min(differences) >= -8
    assert max(differences) <= 7


def test_scores_keep_the_order_of_levels_and_what_fits_not_is_last() -> None:
    assert list(tables.SCORES) == sorted(tables.SCORES)
    for level, single, rest in itertools.product(range(6), (0, 1), (0, 1)):
        expected = INFEASIBLE_LEVEL if single or rest else level
        assert level + 5 * single + 5 * rest < 16
        assert lookup(SCORE, level + 5 * single + 5 * rest) == tables.SCORES[expected]


def test_a_table_that_is_not_closed_lets_a_candidate_win_that_does_not_fit() -> None:
    plain = [min(value, 5) for value in range(16)]
    assert min(lookup(plain, phase) for phase in range(32)) < 0

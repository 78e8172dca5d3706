"""The clear reference is best-fit; the sanitising look-ups bound every candidate, whatever it sends and whatever it is asked."""

import itertools
import random

from veil.fhe.circuits import clear, layout, tables
from veil.fhe.circuits.rank_clear import RANKED_FINER
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.encoding import FINER_LEVELS, INFEASIBLE_LEVEL, LEFT_OVER_LEVELS, VALUES, default_encoding
from veil.fhe.ports import Figures

ENCODING = default_encoding()
FOUR = CircuitSpec("default", "choose", 4)
GIB = 1 << 30
NOTHING = ENCODING.slots(Figures(**dict.fromkeys(Figures.__slots__, 0)))


def test_it_marks_the_fullest_node_that_fits() -> None:
    rng = random.Random(11)
    for _ in range(200):
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
        slots = ENCODING.slots(demand)
        telemetry = [ENCODING.table(node, None) for node in free]
        levels = [layout.levels(table, slots)["level"] for table in telemetry]
        *bits, none = clear.reference(FOUR, telemetry, slots)
        chosen = [place for place, bit in enumerate(bits) if bit]
        if none:
            assert chosen == [0, 1, 2, 3]
            continue
        for place in chosen:
            assert free[place].cpu_milli >= demand.cpu_milli
            assert free[place].memory_bytes >= demand.memory_bytes
            assert free[place].gpu_count >= demand.gpu_count
            assert levels[place] == min(levels) < INFEASIBLE_LEVEL


def test_empty_places_are_infeasible_even_for_nothing() -> None:
    assert layout.levels(ENCODING.padding(), NOTHING)["level"] >= INFEASIBLE_LEVEL
    assert layout.levels(ENCODING.padding(), NOTHING)["finer"] == layout.PADDING["finer"]
    assert clear.score(layout.PADDING["level"]) == INFEASIBLE_LEVEL
    assert clear.reference(FOUR, [], NOTHING) == [1, 1, 1, 1, 1]
    full = ENCODING.table(Figures(**dict.fromkeys(Figures.__slots__, 0)), 0.99)
    assert layout.levels(full, NOTHING)["finer"] < FINER_LEVELS
    assert clear.reference(FOUR, [None, full], NOTHING) == [0, 1, 0, 0, 0]


def lookup(table: list[int], phase: int) -> int:
    """A bootstrap of 4 bits and a padding bit: past the padding bit the table is negated."""
    return table[phase] if phase < VALUES else -table[phase - VALUES]


SCORE = [-3, -2, -1, 1, 2] + [3] * 11
"""The table of scores, by phase."""

FINER = [min(value, 5) - 3 if value < 8 else 3 for value in range(16)]


def test_any_phase_becomes_an_honest_score() -> None:
    assert {lookup(SCORE, phase) for phase in range(2 * VALUES)} == set(SCORE) == set(tables.SCORES)
    assert tables.INFEASIBLE == max(SCORE) == SCORE[INFEASIBLE_LEVEL]


RANKED = [-3, -1, 1, 1, 3, 3] + [3] * 10


def test_any_phase_becomes_an_honest_finer_level() -> None:
    assert {lookup(FINER, phase) for phase in range(2 * VALUES)} == set(range(-3, 4))
    assert [FINER[value] for value in range(FINER_LEVELS)] == [-3, -2, -1, 0, 1, 2]
    assert {lookup(RANKED, phase) for phase in range(2 * VALUES)} == set(RANKED)
    assert [2 * kept - 3 for kept in RANKED_FINER] == RANKED[:FINER_LEVELS]


def test_differences_of_honest_scores_have_four_bits() -> None:
    differences = {one - other for one, other in itertools.product(SCORE, repeat=2)}
    assert min(differences) >= -8
    assert max(differences) <= 7


def test_scores_keep_the_order_of_levels_and_what_fits_not_is_last() -> None:
    assert list(tables.SCORES) == sorted(tables.SCORES)
    for level, short in itertools.product(range(INFEASIBLE_LEVEL + 1), range(3)):
        expected = INFEASIBLE_LEVEL if short else level
        assert level + INFEASIBLE_LEVEL * short < VALUES
        assert lookup(SCORE, level + INFEASIBLE_LEVEL * short) == tables.SCORES[expected]
    assert len(tables.SCORES) == LEFT_OVER_LEVELS + 1


def test_a_table_that_is_not_closed_lets_a_candidate_win_that_does_not_fit() -> None:
    """Levels as they are: past the padding bit the infeasible get less than any score. A real circuit shows it too."""
    plain = [min(value, INFEASIBLE_LEVEL) for value in range(VALUES)]
    assert min(lookup(plain, phase) for phase in range(2 * VALUES)) < min(plain)

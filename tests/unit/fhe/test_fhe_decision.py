"""What opened bits mean: an order that says who goes first, and nothing where nobody fits."""

import random

import pytest

from veil.fhe.circuits import choose_clear, precise_clear, rank_clear
from veil.fhe.circuits.spec import CLASSES_MIN, PAIRS_MAX, CircuitSpec
from veil.fhe.decision import order_of
from veil.fhe.encoding import FINER_LEVELS, INFEASIBLE_LEVEL

LAST = INFEASIBLE_LEVEL
SIZES = [2, 3, 4, 8, 15, 16, CLASSES_MIN, 32, 64]


def test_choose_gives_every_marked_place_in_position_order() -> None:
    assert order_of("choose", [1, 0, 1, 0, 0], 4) == [0, 2]
    assert order_of("choose", [1, 0, 1, 0, 0], 2) == [0]
    assert order_of("choose", [1, 1, 1, 1, 1], 4) == []
    assert order_of("choose", [1, 0, 0], 3) == []
    assert order_of("choose", [], 4) == []


@pytest.mark.parametrize("size", SIZES)
def test_rank_gives_the_feasible_by_score_and_position(size: int) -> None:
    rng = random.Random(size)
    for case in range(100):
        count = rng.randint(1, size)
        scores = [rng.randint(0, LAST) if case % 3 else LAST * rng.randint(0, 1) for _ in range(count)] + [LAST] * (size - count)
        bits = rank_clear.rank(scores)
        assert len(bits) == CircuitSpec("default", "rank", size).result_bits
        assert set(bits) <= {0, 1}
        expected = sorted((place for place in range(count) if scores[place] < LAST), key=lambda place: (scores[place], place))
        found = order_of("rank", bits, count)
        assert sorted(found) == sorted(expected)
        if size <= PAIRS_MAX:
            assert found == expected
        else:
            classes = sorted({scores[place] for place in expected})
            near = [min(classes.index(scores[place]), 2) for place in found]
            assert near == sorted(near)


@pytest.mark.parametrize("size", [4, 16])
def test_a_strict_order_hides_levels_and_ties(size: int) -> None:
    """The same order of different scores gives the same bits."""
    tied, apart, far = [0] * size, [min(LAST - 1, place) for place in range(size)], [3] * size
    assert rank_clear.rank(tied) == rank_clear.rank(apart) == rank_clear.rank(far)
    assert choose_clear.choose(tied) != choose_clear.choose(apart)


@pytest.mark.parametrize("size", SIZES)
def test_precise_ranks_equal_scores_by_finer_level(size: int) -> None:
    rng = random.Random(size)
    for _ in range(100):
        scores, finer = [rng.randint(0, LAST) for _ in range(size)], [rng.randrange(FINER_LEVELS) for _ in range(size)]
        bits = rank_clear.rank(scores, finer)
        assert len(bits) == CircuitSpec("precise", "rank", size).result_bits
        found = order_of("rank", bits, size)
        assert sorted(found) == [place for place in range(size) if scores[place] < LAST]
        if size <= PAIRS_MAX:
            assert found == sorted(found, key=lambda place: (scores[place], rank_clear.RANKED_FINER[finer[place]], place))
        elif found:
            best = min(zip(scores, finer, strict=True))
            classes = [2 - ((scores[place], finer[place]) == best) - (scores[place] == best[0]) for place in found]
            assert classes == sorted(classes)


def test_those_who_fit_not_do_not_tell_their_finer_levels() -> None:
    finer = [5, 4, 0, 1]
    assert rank_clear.rank([LAST, LAST, 1, 1], finer) == rank_clear.rank([LAST, LAST, 1, 1], [0, 1, 0, 1])


def test_results_of_another_length_mean_nothing() -> None:
    bits = rank_clear.rank([0] * 16)
    assert order_of("rank", bits, 16) == list(range(16))
    for wrong in (bits[:-1], [*bits, 0, 0], [], [0] * 82):
        assert order_of("rank", wrong, 4) == []
    assert order_of("rank", bits, 17) == []
    lengths = [CircuitSpec("default", "rank", size).result_bits for size in (*range(2, 17), *range(CLASSES_MIN, 65))]
    assert len(set(lengths)) == len(lengths)


def test_precise_marks_exactly_one() -> None:
    rng = random.Random(4)
    for _ in range(300):
        scores, finer = [rng.randint(0, LAST) for _ in range(8)], [rng.randrange(6) for _ in range(8)]
        *marks, none = precise_clear.choose_one(scores, finer)
        assert sum(marks) == 1
        assert none == (min(scores) == LAST)
        chosen = marks.index(1)
        assert (scores[chosen], finer[chosen], chosen) == min(zip(scores, finer, range(8), strict=True))

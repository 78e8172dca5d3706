"""Rounding never lets through what does not fit, and optimistic telemetry misses nothing that does."""

import itertools
import random

import numpy as np
import pytest

from veil.errors import CiphertextInvalid, LimitExceeded
from veil.fhe.encoding import (
    FINER_LEVELS,
    FINER_SLOT,
    INFEASIBLE_LEVEL,
    LEFT_OVER_LEVELS,
    SLOTS,
    VALUES,
    Encoding,
    Resource,
    default_encoding,
    parse_encoding,
    score_levels,
    sized,
)
from veil.fhe.ports import Figures

GIB, MIB = 1 << 30, 1 << 20
ENCODING = default_encoding()
NAMES = ("cpu_milli", "memory_bytes", "disk_bytes", "gpu_count")
MAXIMA = {resource.name: resource.maximum for resource in ENCODING.resources}
GOLDEN_DIGEST = "46a8c0467db7c1ca0d4d2f723048ca69a968bfc1e97f03e29eeb0be3a6aec4e7"
"""Of the default encoding: an epoch's text must not move under a library's update."""

FEWER = [ENCODING.resized(ENCODING.resources[:count]) for count in (2, 3, 4)]


def figures(cpu: int, memory: int, disk: int = 0, gpu: int = 0) -> Figures:
    return Figures(cpu_milli=cpu, memory_bytes=memory, disk_bytes=disk, gpu_count=gpu)


def answer(encoding: Encoding, free: Figures, demand: Figures, score: float = 0.0, *, optimistic: bool = False) -> int:
    """What the circuit's input is: the sum of the slots that the demand selects."""
    table = encoding.table(free, score, optimistic=optimistic)
    return int(sum(int(table[slot]) for slot in encoding.slots(demand)))


def random_figures(rng: random.Random, part: float) -> Figures:
    return Figures(**{name: int(MAXIMA[name] * part * rng.random() ** 3) for name in NAMES})


def fits(encoding: Encoding, demand: Figures, free: Figures) -> bool:
    return all(getattr(demand, resource.name) <= getattr(free, resource.name) for resource in encoding.resources)


def test_the_published_text_has_not_moved() -> None:
    assert ENCODING.digest.hex() == GOLDEN_DIGEST
    assert parse_encoding(ENCODING.to_json()) == ENCODING


@pytest.mark.parametrize("encoding", FEWER)
def test_every_sum_that_a_demand_can_select_is_a_number_of_the_circuit(encoding: Encoding) -> None:
    rng = random.Random(3)
    for score in (0.0, 0.5, 0.999, 1.0):
        for _ in range(100):
            table = encoding.table(random_figures(rng, 1.2), score, optimistic=rng.random() < 0.5)
            assert (table.shape, table.dtype) == ((SLOTS,), np.uint8)
            assert table[FINER_SLOT] < FINER_LEVELS
            assert table.max() == INFEASIBLE_LEVEL
            assert 2 * int(table.max()) < VALUES
    assert encoding.used <= FINER_SLOT


@pytest.mark.parametrize("encoding", FEWER)
def test_what_fits_by_the_table_fits_in_truth(encoding: Encoding) -> None:
    rng = random.Random(5)
    feasible = 0
    for _ in range(1500):
        free, demand = random_figures(rng, 1.2), random_figures(rng, 0.3)
        found = answer(encoding, free, demand, 0.4)
        assert found == score_levels(0.4)[0] or found >= INFEASIBLE_LEVEL
        if found < INFEASIBLE_LEVEL:
            feasible += 1
            assert fits(encoding, demand, free)
    assert feasible > 150


@pytest.mark.parametrize("encoding", FEWER)
def test_optimistic_telemetry_misses_nothing_that_fits(encoding: Encoding) -> None:
    rng = random.Random(7)
    more = 0
    for _ in range(1500):
        free, demand = random_figures(rng, 0.5), random_figures(rng, 0.5)
        hopeful = answer(encoding, free, demand, optimistic=True)
        if fits(encoding, demand, free):
            assert hopeful < INFEASIBLE_LEVEL
        careful = answer(encoding, free, demand)
        assert hopeful <= careful
        more += hopeful < careful
    assert more > 5


def test_every_size_itself_is_exact() -> None:
    rng = random.Random(8)
    for _ in range(200):
        exact = Figures(**{resource.name: rng.choice(resource.sizes) for resource in ENCODING.resources})
        assert answer(ENCODING, exact, exact) < INFEASIBLE_LEVEL


def test_one_less_than_a_size_does_not_fit_it() -> None:
    for resource in ENCODING.resources:
        for smaller, size in itertools.pairwise(resource.sizes):
            free = Figures(**{**MAXIMA, resource.name: size - 1})
            asked = Figures(**{**dict.fromkeys(NAMES, 0), resource.name: size})
            assert answer(ENCODING, free, asked) >= INFEASIBLE_LEVEL
            assert answer(ENCODING, free, asked, optimistic=True) < INFEASIBLE_LEVEL or size - smaller == 1
            less = Figures(**{**dict.fromkeys(NAMES, 0), resource.name: smaller})
            assert answer(ENCODING, free, less) < INFEASIBLE_LEVEL


def test_slots_are_told_apart() -> None:
    """Every pair of sizes has a slot of its own, and none is that of the finer level."""
    small = ENCODING.resized(
        (
            Resource("cpu_milli", (0, 1000, 2000)),
            Resource("memory_bytes", (0, GIB)),
            Resource("disk_bytes", (0, GIB, 2 * GIB, 4 * GIB)),
            Resource("gpu_count", (0, 1, 2)),
        )
    )
    cpu, memory, disk, gpu = (resource.sizes for resource in small.resources)
    first = [small.slots(figures(one, two))[0] for one in cpu for two in memory]
    second = [small.slots(figures(0, 0, one, two))[1] for one in disk for two in gpu]
    assert first + second == list(range(small.used)) == list(range(3 * 2 + 4 * 3))


def test_beyond_the_largest_size_counts_as_the_largest() -> None:
    assert (ENCODING.table(figures(10**9, 10**15, 10**15, 99), 0.0)[: ENCODING.used] == 0).all()
    assert answer(ENCODING, figures(-5, -5, -5, -5), figures(0, 0)) == 0


def test_no_gpu_is_enough_for_whoever_asks_for_none() -> None:
    machine = figures(2000, 4 * GIB, 100 * GIB, 0)
    assert answer(ENCODING, machine, figures(100, MIB, GIB, 0)) < INFEASIBLE_LEVEL
    assert answer(ENCODING, machine, figures(100, MIB, GIB, 1)) >= INFEASIBLE_LEVEL


@pytest.mark.parametrize("encoding", FEWER)
def test_an_empty_place_and_never_are_infeasible_even_for_nothing(encoding: Encoding) -> None:
    nothing = encoding.slots(figures(0, 0))
    everything = encoding.slots(Figures(**MAXIMA))
    assert len(nothing) == (1 if len(encoding.resources) == 2 else 2)
    huge = Figures(**dict.fromkeys(NAMES, 1 << 59))
    for table in (encoding.padding(), *(encoding.table(huge, score) for score in (1.0, 2.0, float("inf"), float("nan")))):
        for slots in (nothing, everything):
            assert INFEASIBLE_LEVEL <= sum(int(table[slot]) for slot in slots) < VALUES


def test_a_small_machine_takes_many_small_containers() -> None:
    asked = figures(100, 64 * MIB)
    placed = 0
    while answer(ENCODING, figures(2000 - 100 * placed, 24 * GIB - 64 * MIB * placed, 100 * GIB), asked) < INFEASIBLE_LEVEL:
        placed += 1
    assert placed == 20


def test_scores_become_levels_and_finer_ones_in_order() -> None:
    found = [score_levels(part / 3000) for part in range(3000)]
    assert found == sorted(found)
    assert set(found) == set(itertools.product(range(LEFT_OVER_LEVELS), range(FINER_LEVELS)))
    assert score_levels(-1.0) == (0, 0)
    for infeasible in (1.0, 2.0, float("inf"), float("nan")):
        assert score_levels(infeasible) == (INFEASIBLE_LEVEL, 0)


def test_left_over_levels_order_nodes_and_stay_in_range() -> None:
    def level(encoding: Encoding, free: Figures, capacity: Figures) -> int:
        return score_levels(encoding.left_over_score(free, capacity))[0]

    node = figures(8000, 32 * GIB)
    levels = [level(ENCODING, figures(8000 * part // 100, 32 * GIB * part // 100), node) for part in range(101)]
    assert levels == sorted(levels)
    assert set(levels) == set(range(LEFT_OVER_LEVELS))
    assert level(ENCODING, figures(1, 1), figures(0, 0)) == 0
    mean_node = default_encoding({"cpu_milli": 4000, "memory_bytes": 16 * GIB})
    assert level(mean_node, node, node) == LEFT_OVER_LEVELS - 1
    assert level(mean_node, figures(1000, 4 * GIB), node) < level(ENCODING, node, node)


def test_too_large_a_demand_is_refused_without_its_figure() -> None:
    with pytest.raises(LimitExceeded, match="at most 32000") as refusal:
        ENCODING.slots(figures(32_001, 0))
    assert "32001" not in str(refusal.value)
    with pytest.raises(LimitExceeded):
        ENCODING.slots(figures(-1, 0))


def test_whatever_the_maxima_sizes_have_slots() -> None:
    for maxima in ((500, GIB, GIB, 1), (8000, 32 * GIB, 1024 * GIB, 8), (256_000, 4096 * GIB, 1 << 50, 64)):
        resources = sized(dict(zip(NAMES, maxima, strict=True)))
        assert tuple(resource.maximum for resource in resources) == maxima
        encoding = ENCODING.resized(resources)
        assert parse_encoding(encoding.to_json()) == encoding


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"version":4', b'"version":3', "not understood"),
        (b'"design":"tables"', b'"design":"digc5"', "not understood"),
        (b'"message_bits":4', b'"message_bits":5', "not understood"),
        (b'"gpu_count","sizes":[0,1,', b'"gpu_count","sizes":[1,', "do not ascend from 0"),
        (b'"gpu_count","sizes":[0,1,', b'"gpu_count","sizes":[0,2,', "do not ascend from 0"),
        (b'"gpu_count","sizes":[0,1,', b'"gpu_count","sizes":[0,-1,', "not understood"),
        (b'"gpu_count","sizes":[0,1,', b'"gpu_count","sizes":[0,0.5,', "not understood"),
        (b'"cpu_milli","sizes":[0,', b'"cpu_milli","sizes":[0,' + b"".join(b"%d," % n for n in range(1, 20)), "slots"),
        (b'"memory_bytes","sizes"', b'"cpu_milli","sizes"', "twice"),
        (b'"name":"disk_bytes"', b'"name":"weight"', "not understood"),
        (b'"resources":["cpu_milli"', b'"resources":["weight"', "not understood"),
        (b'"resources":["cpu_milli","memory_bytes"]', b'"resources":[]', "left_over"),
        (b'"reference":null', b'"reference":{"cpu_milli":1}', "reference node"),
        (b'{"design"', b'{ "design"', "canonical"),
        (b'{"design"', b'{"design":"tables","design"', "canonical"),
        (b'{"design"', b"[" * 20_000 + b'{"design"', "not understood"),
    ],
)
def test_other_descriptions_are_refused(old: bytes, new: bytes, reason: str) -> None:
    text = ENCODING.to_json()
    assert text.count(old) >= 1
    with pytest.raises(CiphertextInvalid, match=reason):
        parse_encoding(text.replace(old, new, 1))


def test_two_resources_at_least() -> None:
    for text in (ENCODING.resized(ENCODING.resources[:1]).to_json(), b"", b"{}", b"null"):
        with pytest.raises(CiphertextInvalid, match="not understood"):
            parse_encoding(text)

"""Rounding never lets through what does not fit, and optimistic telemetry misses nothing that does."""

import itertools
import random

import numpy as np
import pytest

from veil.errors import CiphertextInvalid, LimitExceeded
from veil.fhe.encoding import (
    FINER_LEVELS,
    FINER_SHIFT,
    INFEASIBLE_LEVEL,
    LEFT_OVER_LEVELS,
    SELECTED_MAX,
    SLOTS,
    VALUES,
    Encoding,
    Resource,
    default_encoding,
    finest_level,
    parse_encoding,
    sized,
)
from veil.fhe.ports import Figures

GIB, MIB = 1 << 30, 1 << 20
ENCODING = default_encoding()
NAMES = ("cpu_milli", "memory_bytes", "disk_bytes", "gpu_count")
MAXIMA = {resource.name: resource.maximum for resource in ENCODING.resources}
GOLDEN_DIGEST = "882047361f4bb45e441f2bfb33d914a1e3212b939260c2080a8fc5c4402c33e2"
"""Of the default encoding: an epoch's text must not move under a library's update."""

GROWN = b"[" + b",".join(b"%d" % size for size in range(400)) + b"]"
"""Sizes for more slots than there are."""

FEWER = [ENCODING.resized(ENCODING.resources[:count]) for count in (2, 3, 4)]


def figures(cpu: int, memory: int, disk: int = 0, gpu: int = 0) -> Figures:
    return Figures(cpu_milli=cpu, memory_bytes=memory, disk_bytes=disk, gpu_count=gpu)


def answer(encoding: Encoding, free: Figures, demand: Figures, score: float | None = 0.0, *, optimistic: bool = False) -> int:
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


def every_selection(encoding: Encoding, rng: random.Random, count: int) -> list[tuple[int, ...]]:
    """The slots of random demands, round ones and odd ones."""
    demands = [
        Figures(**dict.fromkeys(NAMES, 0) | {one.name: rng.choice(one.sizes) for one in encoding.resources}) for _ in range(count)
    ]
    return [encoding.slots(demand) for demand in [*demands, *(random_figures(rng, 1.0) for _ in range(count))]]


@pytest.mark.parametrize("encoding", FEWER)
def test_every_sum_that_a_demand_can_select_is_a_number_of_the_circuit(encoding: Encoding) -> None:
    """Whatever is short of whatever: below VALUES, where a sum would pass for a level again."""
    rng = random.Random(3)
    selections = every_selection(encoding, rng, 400)
    most = 0
    for score in (None, 0.0, 0.999, 1.0):
        for _ in range(40):
            table = encoding.table(random_figures(rng, 1.2), score, optimistic=rng.random() < 0.5)
            assert (table.shape, table.dtype) == ((SLOTS,), np.uint8)
            for slots in selections:
                assert max(slots) < encoding.used <= FINER_SHIFT
                assert sum(int(table[slot + FINER_SHIFT]) for slot in slots) < FINER_LEVELS
                most = max(most, sum(int(table[slot]) for slot in slots))
    assert most == min(3, len(encoding.resources)) * INFEASIBLE_LEVEL < VALUES


def test_short_of_both_is_never_beside_a_level() -> None:
    """Every pair of neighbours of the boundary: the level's cell and the sizes' lists agree where both are short."""
    rng = random.Random(4)
    encoding = FEWER[0]
    for _ in range(200):
        free = random_figures(rng, 0.8)
        table = encoding.table(free, 0.999)
        for cpu in (free.cpu_milli, free.cpu_milli + 1, free.cpu_milli + 500):
            for memory in (free.memory_bytes, free.memory_bytes + 1, free.memory_bytes + GIB):
                if cpu <= MAXIMA["cpu_milli"] and memory <= MAXIMA["memory_bytes"]:
                    level, *short = (int(table[slot]) for slot in encoding.slots(figures(cpu, memory)))
                    assert level == 0 or 0 in short


@pytest.mark.parametrize("encoding", FEWER)
def test_what_fits_by_the_table_fits_in_truth(encoding: Encoding) -> None:
    rng = random.Random(5)
    feasible = 0
    for _ in range(1500):
        free, demand = random_figures(rng, 1.2), random_figures(rng, 0.3)
        found = answer(encoding, free, demand, rng.choice((None, 0.0, 0.4, 0.999)))
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
    """Levels by pairs of cells, then cpu, memory, pairs of disk and GPU sizes: each has a slot of its own."""
    small = ENCODING.resized(
        (
            Resource("cpu_milli", (0, 500, 1000, 2000), (0, 1000, 2000)),
            Resource("memory_bytes", (0, MIB, GIB), (0, GIB)),
            Resource("disk_bytes", (0, GIB, 2 * GIB, 4 * GIB)),
            Resource("gpu_count", (0, 1, 2)),
        )
    )
    cpu, memory, disk, gpu = (resource.sizes for resource in small.resources)
    levels = [small.slots(figures(one, two))[0] for one in (0, 1000, 2000) for two in (0, GIB)]
    others = [small.slots(figures(0, 0, one, two))[3] for one in disk for two in gpu]
    lists = [small.slots(figures(one, 0))[1] for one in cpu] + [small.slots(figures(0, one))[2] for one in memory]
    assert levels + lists + others == list(range(small.used)) == list(range(3 * 2 + 4 + 3 + 4 * 3))
    assert small.slots(figures(1, 1, 1, 1)) == small.slots(figures(500, MIB, GIB, 1))
    assert small.slots(figures(501, MIB + 1))[:3] == small.slots(figures(1000, GIB))[:3]


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
    assert len(nothing) == len(everything) == min(len(encoding.resources) + 1, SELECTED_MAX)
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
    assert {finest_level(part / 3000) for part in range(3000)} == set(range(LEFT_OVER_LEVELS * FINER_LEVELS))
    assert finest_level(-1.0) == 0
    machine = Figures(**MAXIMA)
    slots = ENCODING.slots(figures(100, GIB))
    found = []
    for part in range(300):
        table = ENCODING.table(machine, part / 300)
        found.append(tuple(sum(int(table[slot + shift]) for slot in slots) for shift in (0, FINER_SHIFT)))
    assert found == sorted(found)
    assert set(found) == set(itertools.product(range(LEFT_OVER_LEVELS), range(FINER_LEVELS)))


def test_best_fit_goes_by_what_would_be_left_over() -> None:
    def level(cpu: int, memory: int, asked: Figures) -> int:
        table = ENCODING.table(figures(cpu, memory, 100 * GIB), None)
        slots = ENCODING.slots(asked)
        coarse = sum(int(table[slot]) for slot in slots)
        return coarse * FINER_LEVELS + sum(int(table[slot + FINER_SHIFT]) for slot in slots)

    for asked in (figures(100, 128 * MIB), figures(2000, 8 * GIB), figures(16_000, 64 * GIB)):
        rising = [level(asked.cpu_milli + 250 * more, asked.memory_bytes + GIB * more, asked) for more in range(0, 60, 5)]
        assert rising == sorted(rising)
        assert rising[0] == 0
        assert len(set(rising)) > 6
    assert level(9000, 33 * GIB, figures(8000, 32 * GIB)) < level(9000, 33 * GIB, figures(2000, 8 * GIB))
    assert level(32_000, 256 * GIB, figures(100, 128 * MIB)) == LEFT_OVER_LEVELS * FINER_LEVELS - 1


def test_a_reference_changes_levels_and_nothing_else() -> None:
    small = ENCODING.resized(ENCODING.resources, {"cpu_milli": 4000, "memory_bytes": 16 * GIB})
    free, asked = figures(3000, 12 * GIB), figures(500, GIB)
    assert answer(ENCODING, free, asked, None) < answer(small, free, asked, None) < INFEASIBLE_LEVEL
    assert ENCODING.slots(asked) == small.slots(asked)


def test_how_empty_a_node_is() -> None:
    node = figures(8000, 32 * GIB)
    found = [ENCODING.left_over_score(figures(80 * part, 32 * GIB * part // 100), node) for part in range(101)]
    assert found == sorted(found)
    assert found[0] == 0.0
    assert found[50] == pytest.approx(0.5)
    assert found[-1] < 1.0
    assert ENCODING.left_over_score(figures(1, 1), figures(0, 0)) == 0.0


def test_too_large_a_demand_is_refused_without_its_figure() -> None:
    with pytest.raises(LimitExceeded, match="at most 32000") as refusal:
        ENCODING.slots(figures(32_001, 0))
    assert "32001" not in str(refusal.value)
    with pytest.raises(LimitExceeded):
        ENCODING.slots(figures(-1, 0))


def test_whatever_the_maxima_sizes_have_slots() -> None:
    for maxima in ((500, GIB, GIB, 1), (8000, 32 * GIB, 1024 * GIB, 8), (256_000, 4096 * GIB, 1 << 50, 64), (1, 1, 1, 1)):
        for count in (2, 3, 4):
            resources = sized(dict(zip(NAMES[:count], maxima[:count], strict=True)))
            assert tuple(resource.maximum for resource in resources) == maxima[:count]
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
        (b"[0,1,2,3,4,5,6,7,8]", GROWN, "slots"),
        (b'"name":"memory_bytes"', b'"name":"cpu_milli"', "twice"),
        (b'"name":"disk_bytes"', b'"name":"weight"', "not understood"),
        (b'"cells":[0,', b'"cells":[1,', "do not ascend from 0"),
        (b'"cells":[0,', b'"cells":[0,3,', "not sizes"),
        (b'"cells":null', b'"cells":[0,1]', "have cells"),
        (b'"reference":{"cpu_milli":32000,', b'"reference":{', "reference"),
        (b'"reference":{"cpu_milli":32000,', b'"reference":{"cpu_milli":0,', "reference"),
        (b'"reference":{"cpu_milli":32000,', b'"reference":{"disk_bytes":32000,', "reference"),
        (b'"reference":{"cpu_milli":32000,', b'"reference":{"cpu_milli":32000,"disk_bytes":1,', "reference"),
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

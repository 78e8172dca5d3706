"""Rounding never lets through what does not fit, and small things are told apart."""

import itertools
import random

import pytest

from veil.errors import CiphertextInvalid, LimitExceeded
from veil.fhe.circuits import digc7_clear
from veil.fhe.encoding import INFEASIBLE_LEVEL, LOW_RADIX, default_encoding, parse_encoding
from veil.fhe.ports import Figures

GIB, MIB = 1 << 30, 1 << 20
ENCODING = default_encoding()
NAMES = ("cpu_milli", "memory_bytes", "disk_bytes", "gpu_count")
MAXIMA = {resource.name: resource.maximum for resource in ENCODING.resources}
GOLDEN_DIGEST = "d02d2cf89b10e80840d19e53a01b493513ff0f34686be8e88730205d537ee462"


def figures(cpu: int, memory: int, disk: int = 0, gpu: int = 0) -> Figures:
    return Figures(cpu_milli=cpu, memory_bytes=memory, disk_bytes=disk, gpu_count=gpu)


def random_figures(rng: random.Random, part: float) -> Figures:
    return Figures(**{name: int(MAXIMA[name] * part * rng.random() ** 3) for name in NAMES})


def fits(demand: Figures, free: Figures) -> bool:
    return all(getattr(demand, name) <= getattr(free, name) for name in NAMES)


def test_the_published_text_has_not_moved() -> None:
    assert ENCODING.digest.hex() == GOLDEN_DIGEST
    assert parse_encoding(ENCODING.to_json()) == ENCODING


def test_sizes_ascend_from_nothing_to_the_maximum() -> None:
    for resource in ENCODING.resources:
        sizes = resource.sizes()
        assert len(sizes) == resource.levels == (40 if resource.digits == 2 else 8)
        assert sizes[0] == 0
        assert sizes[-1] == resource.maximum
        assert all(a < b for a, b in itertools.pairwise(sizes))


def test_what_fits_by_digits_fits_in_truth() -> None:
    rng = random.Random(5)
    feasible = 0
    for _ in range(3000):
        free, demand = random_figures(rng, 1.2), random_figures(rng, 0.3)
        digits, asked = ENCODING.telemetry_digits(free, free), ENCODING.demand_digits(demand)
        assert all(0 <= digit < LOW_RADIX for digit in digits + asked)
        if digc7_clear.score(digits, asked) != INFEASIBLE_LEVEL:
            feasible += 1
            assert fits(demand, free)
    assert feasible > 300


def test_every_size_itself_is_exact() -> None:
    for level in range(40):
        exact = Figures(**{resource.name: resource.sizes()[min(level, resource.levels - 1)] for resource in ENCODING.resources})
        digits, asked = ENCODING.telemetry_digits(exact, exact), ENCODING.demand_digits(exact)
        assert digits[:-1] == asked
        assert len(asked) == ENCODING.demand_values == 6
        assert digc7_clear.score(digits, asked) != INFEASIBLE_LEVEL


def test_one_size_more_than_is_free_does_not_fit() -> None:
    for place, resource in enumerate(ENCODING.resources):
        sizes = resource.sizes()
        for level in range(1, resource.levels):
            free = Figures(**{**MAXIMA, resource.name: sizes[level] - 1})
            asked = Figures(**{**dict.fromkeys(NAMES, 0), resource.name: sizes[level]})
            digits = ENCODING.telemetry_digits(free, free)
            assert digc7_clear.score(digits, ENCODING.demand_digits(asked)) == INFEASIBLE_LEVEL
            less = Figures(**{**dict.fromkeys(NAMES, 0), resource.name: sizes[level - 1]})
            assert digc7_clear.score(digits, ENCODING.demand_digits(less)) != INFEASIBLE_LEVEL, (place, level)


def test_no_gpu_is_enough_for_whoever_asks_for_none() -> None:
    machine = figures(2000, 4 * GIB, 100 * GIB, 0)
    digits = ENCODING.telemetry_digits(machine, machine)
    assert digc7_clear.score(digits, ENCODING.demand_digits(figures(100, MIB, GIB, 0))) != INFEASIBLE_LEVEL
    assert digc7_clear.score(digits, ENCODING.demand_digits(figures(100, MIB, GIB, 1))) == INFEASIBLE_LEVEL
    assert ENCODING.resources[3].sizes() == [0, 1, 2, 3, 4, 5, 6, 8]


def test_a_small_disk_still_has_sizes() -> None:
    assert ENCODING.resources[2].sizes() == [0, *(4**power * GIB for power in range(7))]


def test_an_epoch_of_the_layout_before_is_refused() -> None:
    before = (
        b'{"design":"digc7","left_over":{"exponent":0.65,"reference":null,"resources":["cpu_milli","memory_bytes"]},'
        b'"message_bits":4,"resources":[{"high_radix":8,"maximum":64000,"name":"cpu_milli","spacing":"quadratic"},'
        b'{"high_radix":5,"maximum":274877906944,"name":"memory_bytes","spacing":"quadratic"}],"version":1}'
    )
    with pytest.raises(CiphertextInvalid, match="not understood"):
        parse_encoding(before)


def test_a_small_machine_takes_many_small_containers() -> None:
    machine, asked = figures(2000, 24 * GIB, 100 * GIB), ENCODING.demand_digits(figures(100, 64 * MIB))
    placed = 0
    while True:
        free = figures(2000 - 100 * placed, 24 * GIB - 64 * MIB * placed, 100 * GIB)
        if digc7_clear.score(ENCODING.telemetry_digits(free, machine), asked) == INFEASIBLE_LEVEL:
            break
        placed += 1
    assert placed >= 18


def test_left_over_levels_order_nodes_and_stay_in_range() -> None:
    node = figures(8000, 32 * GIB)
    levels = [ENCODING.left_over_level(figures(8000 * part // 100, 32 * GIB * part // 100), node) for part in range(101)]
    assert levels == sorted(levels)
    assert set(levels) == set(range(7))
    assert ENCODING.left_over_level(figures(1, 1), figures(0, 0)) == 0
    mean_node = default_encoding({"cpu_milli": 4000, "memory_bytes": 16 * GIB})
    assert mean_node.left_over_level(node, node) == 6
    assert mean_node.left_over_level(figures(1000, 4 * GIB), node) < ENCODING.left_over_level(node, node)


def test_too_large_a_demand_is_refused_without_its_figure() -> None:
    with pytest.raises(LimitExceeded) as refusal:
        ENCODING.demand_digits(figures(64_001, 0))
    assert "64001" not in str(refusal.value)
    with pytest.raises(LimitExceeded):
        ENCODING.demand_digits(figures(-1, 0))
    assert ENCODING.telemetry_digits(figures(10**9, 10**15), figures(1, 1))[0] == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":2', b'"version":1'),
        (b'"design":"digc7b"', b'"design":"digc7"'),
        (b'"digits":1', b'"digits":2'),
        (b'"digits":2', b'"digits":1'),
        (b'"maximum":8', b'"maximum":6'),
        (b'"maximum":4398046511104', b'"maximum":1024'),
        (b'"quadratic"', b'"logarithmic"'),
        (b'"memory_bytes","spacing"', b'"cpu_milli","spacing"'),
        (b'"high_radix":5', b'"high_radix":6'),
        (b'{"design"', b'{ "design"'),
        (b'"resources":["cpu_milli"', b'"resources":["weight"'),
    ],
)
def test_other_descriptions_are_refused(old: bytes, new: bytes) -> None:
    text = ENCODING.to_json()
    assert old in text
    with pytest.raises(CiphertextInvalid):
        parse_encoding(text.replace(old, new))

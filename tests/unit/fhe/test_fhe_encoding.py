"""Rounding never lets through what does not fit, and small things are told apart."""

import itertools
import random

import pytest

from veil.errors import CiphertextInvalid, LimitExceeded
from veil.fhe.circuits import catalogue_clear, digits_clear, layout
from veil.fhe.encoding import BUNDLES, INFEASIBLE_LEVEL, LOW_RADIX, Encoding, default_encoding, parse_encoding, score_digits
from veil.fhe.ports import Figures

GIB, MIB = 1 << 30, 1 << 20
ENCODING = default_encoding()
NAMES = ("cpu_milli", "memory_bytes", "disk_bytes", "gpu_count")
MAXIMA = {resource.name: resource.maximum for resource in ENCODING.resources}
GOLDEN_DIGEST = "fce4faa3dbf94e55a5003f66864b7e38280997ce8a996c39126a6e9526e71f62"


def figures(cpu: int, memory: int, disk: int = 0, gpu: int = 0) -> Figures:
    return Figures(cpu_milli=cpu, memory_bytes=memory, disk_bytes=disk, gpu_count=gpu)


def telemetry(free: Figures, score: float = 0.0, *, optimistic: bool = False) -> list[int]:
    return ENCODING.telemetry_digits(free, score, optimistic=optimistic)


def level(encoding: Encoding, free: Figures, capacity: Figures) -> int:
    return score_digits(encoding.left_over_score(free, capacity))[0]


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
        digits, asked = telemetry(free), ENCODING.demand_digits(demand)
        assert all(0 <= digit < LOW_RADIX for digit in digits[:-1] + asked[:-1])
        if digits_clear.score(digits, asked) != INFEASIBLE_LEVEL:
            feasible += 1
            assert fits(demand, free)
    assert feasible > 300


def test_every_size_itself_is_exact() -> None:
    for level in range(40):
        exact = Figures(**{resource.name: resource.sizes()[min(level, resource.levels - 1)] for resource in ENCODING.resources})
        digits, asked = telemetry(exact), ENCODING.demand_digits(exact)
        assert digits[:6] == asked[:6]
        assert len(asked) == ENCODING.demand_values == 7
        assert digits_clear.score(digits, asked) != INFEASIBLE_LEVEL


def test_one_size_more_than_is_free_does_not_fit() -> None:
    for place, resource in enumerate(ENCODING.resources):
        sizes = resource.sizes()
        for level in range(1, resource.levels):
            free = Figures(**{**MAXIMA, resource.name: sizes[level] - 1})
            asked = Figures(**{**dict.fromkeys(NAMES, 0), resource.name: sizes[level]})
            digits = telemetry(free)
            assert digits_clear.score(digits, ENCODING.demand_digits(asked)) == INFEASIBLE_LEVEL
            less = Figures(**{**dict.fromkeys(NAMES, 0), resource.name: sizes[level - 1]})
            assert digits_clear.score(digits, ENCODING.demand_digits(less)) != INFEASIBLE_LEVEL, (place, level)


def test_no_gpu_is_enough_for_whoever_asks_for_none() -> None:
    machine = figures(2000, 4 * GIB, 100 * GIB, 0)
    digits = telemetry(machine)
    assert digits_clear.score(digits, ENCODING.demand_digits(figures(100, MIB, GIB, 0))) != INFEASIBLE_LEVEL
    assert digits_clear.score(digits, ENCODING.demand_digits(figures(100, MIB, GIB, 1))) == INFEASIBLE_LEVEL
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
    asked = ENCODING.demand_digits(figures(100, 64 * MIB))
    placed = 0
    while True:
        free = figures(2000 - 100 * placed, 24 * GIB - 64 * MIB * placed, 100 * GIB)
        if digits_clear.score(telemetry(free), asked) == INFEASIBLE_LEVEL:
            break
        placed += 1
    assert placed >= 18


def test_left_over_levels_order_nodes_and_stay_in_range() -> None:
    node = figures(8000, 32 * GIB)
    levels = [level(ENCODING, figures(8000 * part // 100, 32 * GIB * part // 100), node) for part in range(101)]
    assert levels == sorted(levels)
    assert set(levels) == set(range(5))
    assert level(ENCODING, figures(1, 1), figures(0, 0)) == 0
    mean_node = default_encoding({"cpu_milli": 4000, "memory_bytes": 16 * GIB})
    assert level(mean_node, node, node) == 4
    assert level(mean_node, figures(1000, 4 * GIB), node) < level(ENCODING, node, node)


def test_scores_become_levels_and_finer_ones_in_order() -> None:
    found = [score_digits(part / 3000) for part in range(3000)]
    assert found == sorted(found)
    assert set(found) == {(coarse, fine) for coarse in range(5) for fine in range(6)}
    assert score_digits(-1.0) == (0, 0)
    for infeasible in (1.0, 2.0, float("inf"), float("nan")):
        assert score_digits(infeasible) == (INFEASIBLE_LEVEL, 0)
        digits = telemetry(figures(1000, GIB), infeasible)
        nothing = ENCODING.demand_digits(figures(0, 0))
        assert digits_clear.score(digits, nothing) == catalogue_clear.score(digits, nothing) == INFEASIBLE_LEVEL


def test_a_bundle_that_fits_by_number_fits_in_truth() -> None:
    rng = random.Random(6)
    feasible, seen = 0, set()
    for _ in range(3000):
        free, demand = random_figures(rng, 1.2), random_figures(rng, 0.3)
        digits, asked = telemetry(free), ENCODING.demand_digits(demand)
        assert 0 <= digits[layout.BUNDLE] <= BUNDLES
        assert 1 <= asked[layout.BUNDLE] <= BUNDLES
        seen |= {digits[layout.BUNDLE]}
        if catalogue_clear.score(digits, asked) != INFEASIBLE_LEVEL:
            feasible += 1
            assert fits(demand, free)
    assert feasible > 100
    assert seen == set(range(BUNDLES + 1))
    for number, bundle in enumerate(ENCODING.catalogue, 1):
        exact = Figures(**dict(zip(NAMES, bundle, strict=True)))
        assert telemetry(exact)[layout.BUNDLE] == ENCODING.demand_digits(exact)[layout.BUNDLE] == number


def test_optimistic_telemetry_misses_nothing_that_fits() -> None:
    rng = random.Random(7)
    more = 0
    for _ in range(3000):
        free, demand = random_figures(rng, 0.5), random_figures(rng, 0.5)
        asked = ENCODING.demand_digits(demand)
        score = digits_clear.score(telemetry(free, optimistic=True), asked)
        if fits(demand, free):
            assert score != INFEASIBLE_LEVEL
        more += score != digits_clear.score(telemetry(free), asked)
        assert telemetry(free, optimistic=True)[layout.BUNDLE] == min(BUNDLES, telemetry(free)[layout.BUNDLE] + 1)
    assert more > 10


def test_too_large_a_demand_is_refused_without_its_figure() -> None:
    with pytest.raises(LimitExceeded) as refusal:
        ENCODING.demand_digits(figures(32_001, 0))
    assert "32001" not in str(refusal.value)
    with pytest.raises(LimitExceeded):
        ENCODING.demand_digits(figures(-1, 0))
    assert telemetry(figures(10**9, 10**15))[0] == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":3', b'"version":2'),
        (b'"design":"digc5"', b'"design":"digc7b"'),
        (b'"digits":1', b'"digits":2'),
        (b'"digits":2', b'"digits":1'),
        (b'"maximum":8', b'"maximum":6'),
        (b"[500,", b"[2001,"),
        (b"[[500,4294967296,68719476736,0],", b"["),
        (b"[500,4294967296,68719476736,0]", b"[500,4294967296,68719476736]"),
        (b",4398046511104,8]", b",4398046511104,7]"),
        (b'"maximum":4398046511104', b'"maximum":1024'),
        (b'"quadratic"', b'"logarithmic"'),
        (b'"memory_bytes","spacing"', b'"cpu_milli","spacing"'),
        (b'"high_radix":5', b'"high_radix":6'),
        (b'{"catalogue"', b'{ "catalogue"'),
        (b'"resources":["cpu_milli"', b'"resources":["weight"'),
    ],
)
def test_other_descriptions_are_refused(old: bytes, new: bytes) -> None:
    text = ENCODING.to_json()
    assert old in text
    with pytest.raises(CiphertextInvalid):
        parse_encoding(text.replace(old, new))

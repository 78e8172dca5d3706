"""Sizes are round figures, about as dense as quadratic spacing, the same on every machine."""

import itertools
from math import sqrt

import pytest

from veil.fhe.sizes import GIB, ROUND, round_sizes

MAXIMA = [
    ("cpu_milli", 32_000),
    ("cpu_milli", 48_000),
    ("memory_bytes", 256 * GIB),
    ("disk_bytes", 4096 * GIB),
    ("gpu_count", 64),
]


@pytest.mark.parametrize(("name", "maximum"), MAXIMA)
@pytest.mark.parametrize("count", [2, 8, 16, 31, 44])
def test_they_ascend_from_nothing_to_the_maximum(name: str, maximum: int, count: int) -> None:
    sizes = round_sizes(name, maximum, count)
    assert (sizes[0], sizes[-1], len(sizes)) == (0, maximum, min(count, maximum + 1))
    assert all(smaller < larger for smaller, larger in itertools.pairwise(sizes))


def test_what_people_write_is_among_them() -> None:
    assert set(round_sizes("cpu_milli", 32_000, 40)) >= {
        100,
        250,
        500,
        1000,
        2000,
        3000,
        4000,
        6000,
        8000,
        12_000,
        16_000,
        24_000,
    }
    assert {size / GIB for size in round_sizes("memory_bytes", 256 * GIB, 44)} >= {
        0.5,
        1,
        2,
        3,
        4,
        6,
        8,
        12,
        16,
        24,
        32,
        48,
        64,
        96,
        128,
    }
    assert round_sizes("gpu_count", 8, 16) == tuple(range(9))
    assert round_sizes("gpu_count", 1, 16) == (0, 1)


def test_no_gap_is_much_wider_than_quadratic_spacing_has_it() -> None:
    for name, maximum in MAXIMA[:3]:
        sizes = round_sizes(name, maximum, 40)
        widest = max(sqrt(high) - sqrt(low) for low, high in itertools.pairwise(sizes))
        assert widest < 2.5 * sqrt(maximum) / 39


def test_a_disk_has_small_sizes_too() -> None:
    assert {size / GIB for size in round_sizes("disk_bytes", 4096 * GIB, 32)} >= {
        1,
        2,
        4,
        8,
        16,
        32,
        64,
        128,
        256,
        512,
        1024,
        2048,
    }


def test_no_maximum_breaks_it() -> None:
    for name in ROUND:
        for maximum in (1, 2, 3, 7, 99, 101, 12_345, (1 << 60) - 1):
            sizes = round_sizes(name, maximum, 20)
            assert len(sizes) == min(20, maximum + 1)
            assert all(smaller < larger for smaller, larger in itertools.pairwise(sizes))

"""The external product: it selects what the demand says, within its stated noise, from honest ciphertexts and from any others."""

import numpy as np
import pytest
from fhe_committee import KEY, SECRET

from veil.fhe import selection, vectors
from veil.fhe.encoding import FINER_SHIFT, SELECTED_MAX, SLOTS, default_encoding
from veil.fhe.ports import Figures

SEED = 5
TABLES = 50
DEMANDS = 60
HALF_WINDOW = 2.0**58


def phases(rows: np.ndarray) -> np.ndarray:
    return rows[..., -1] - (rows[..., :-1] * SECRET.astype(np.uint64)).sum(axis=-1, dtype=np.uint64)


def opened(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tables of values 0..3, and their ciphertexts as they come off the wire."""
    tables = generator.integers(0, 4, (count, SLOTS), dtype=np.uint8)
    sent = [selection.encrypt_table(KEY, table) for table in tables]
    return tables, np.stack([vectors.open_telemetry(vector, KEY.name) for vector in sent])


def selector(slots: tuple[int, ...]) -> selection.Selector:
    return selection.Selector(vectors.open_demand(selection.encrypt_demand(KEY, slots), KEY.name))


def test_thousands_of_products_are_right_and_within_the_stated_noise() -> None:
    """As many slots as can be, at both ends, next to each other, far apart, one alone: the noise is largest for neighbours."""
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    tables, ciphertexts = opened(generator, TABLES)
    errors = {}
    for number in range(DEMANDS):
        first = int(generator.integers(SLOTS))
        near = tuple((first + step) % SLOTS for step in range(SELECTED_MAX))
        slots = [(first,), near, (0, SLOTS - 1, 1, SLOTS - 2), (first, *generator.integers(0, SLOTS, SELECTED_MAX - 1).tolist())][
            number % 4
        ]
        sums = tables[:, slots].sum(axis=1, dtype=np.uint64)
        found = phases(selector(slots).select(ciphertexts)[0])
        assert ((found + np.uint64(1 << 58)) >> np.uint64(59)).tolist() == sums.tolist()
        errors.setdefault(len(slots), []).append((found - (sums << np.uint64(59))).view(np.int64))
    measured = float(np.log2(np.std(errors[SELECTED_MAX])))
    print(f"noise 2^{measured:.2f} for {SELECTED_MAX} slots, 2^{np.log2(np.std(errors[1])):.2f} for one")
    assert np.log2(selection.noise_deviation(KEY)) - 0.7 < measured < np.log2(selection.noise_deviation(KEY)) + 0.05
    assert np.log2(selection.noise_deviation(KEY)) < selection.NOISE_LOG2
    assert np.abs(errors[SELECTED_MAX]).max() < 7 * 2.0**selection.NOISE_LOG2 < HALF_WINDOW / 100


def test_the_finer_level_is_another_coefficient_of_the_same_product() -> None:
    generator = np.random.default_rng(SEED)
    tables, ciphertexts = opened(generator, 20)
    for _ in range(10):
        slots = tuple(generator.choice(FINER_SHIFT, SELECTED_MAX, replace=False).tolist())
        shifts = (0, 1, FINER_SHIFT)
        for shift, rows in zip(shifts, selector(slots).select(ciphertexts, shifts), strict=True):
            sums = tables[:, [slot + shift for slot in slots]].sum(axis=1, dtype=np.uint64)
            errors = (phases(rows) - (sums << np.uint64(59))).view(np.int64)
            assert np.abs(errors).max() < 7 * 2.0**selection.NOISE_LOG2


@pytest.mark.parametrize("resources", [2, 3, 4])
def test_every_size_is_selected_as_in_clear(resources: int) -> None:
    """The smallest, the largest and some others of each resource, as the default encoding has them."""
    encoding = default_encoding()
    encoding = encoding.resized(encoding.resources[:resources])
    free = Figures(cpu_milli=5000, memory_bytes=9 << 30, disk_bytes=80 << 30, gpu_count=2)
    tables = [encoding.table(free, score, optimistic=optimistic) for score in (None, 0.7, 1.0) for optimistic in (False, True)]
    tables.append(encoding.padding())
    ciphertexts = np.stack([vectors.open_telemetry(selection.encrypt_table(KEY, table), KEY.name) for table in tables])
    for step in range(5):
        chosen = {one.name: one.sizes[step * (len(one.sizes) - 1) // 4] for one in encoding.resources}
        slots = encoding.slots(Figures(**(dict.fromkeys(Figures.__slots__, 0) | chosen)))
        found = (phases(selector(slots).select(ciphertexts)[0]) + np.uint64(1 << 58)) >> np.uint64(59)
        assert found.tolist() == [sum(int(table[slot]) for slot in slots) for table in tables]


def test_any_ciphertexts_give_the_same_bits_whatever_they_are_selected_with() -> None:
    """Alone or among others: a batch changes nothing, also where digits and limbs are at their bounds."""
    generator = np.random.default_rng(SEED)
    words = generator.integers(0, 2**64, (4, 2, SLOTS), dtype=np.uint64)
    words[1], words[2] = 0, 2**63 - 2**42 - 1
    for demand in (
        generator.integers(0, 2**48, (2, 2, SLOTS), dtype=np.uint64) << np.uint64(16),
        np.full((2, 2, SLOTS), 2**64 - 2**16, dtype=np.uint64),
        np.zeros((2, 2, SLOTS), dtype=np.uint64),
    ):
        chosen = selection.Selector(demand)
        together = chosen.select(words)[0]
        assert together.shape == (4, SLOTS + 1)
        for place in range(4):
            assert (chosen.select(words[place : place + 1])[0, 0] == together[place]).all()
        assert not together[1].any()
    assert not together.any()


def test_the_product_is_exact() -> None:
    """Against integers of any length, for one table and one demand of any content."""
    generator = np.random.default_rng(SEED)
    demand = generator.integers(0, 2**48, (2, 2, SLOTS), dtype=np.uint64) << np.uint64(16)
    table = generator.integers(0, 2**64, (1, 2, SLOTS), dtype=np.uint64)
    digits = [[((int(word) + 2**42 + 2**63) % 2**64 - 2**63) >> 43 for word in part] for part in table[0]]
    row = selection.Selector(demand).select(table)[0, 0]
    for component, coefficients in ((1, [0]), (0, [0, 1, 1000, SLOTS - 1])):
        for coefficient in coefficients:
            total = 0
            for part in range(2):
                words = [int(word) for word in demand[part, component]]
                total += sum(
                    (1 if place <= coefficient else -1) * digit * words[(coefficient - place) % SLOTS]
                    for place, digit in enumerate(digits[part])
                )
            found = int(row[-1]) if component else int(row[(-coefficient) % SLOTS])
            assert found == (total if component or coefficient == 0 else -total) % 2**64

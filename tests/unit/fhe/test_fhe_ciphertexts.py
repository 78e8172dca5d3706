"""Ring arithmetic is exact, fresh noise stays in its bound, and vectors are checked for form."""

import math

import numpy as np
import pytest

from veil.errors import CiphertextInvalid
from veil.fhe import publickey, ring, vectors
from veil.fhe.encoding import SLOTS, default_encoding
from veil.fhe.encryptor import PublicKeyEncryptor
from veil.fhe.ports import Figures

RNG = np.random.default_rng(3)
DEVIATION = 2.0**-49.9
SECRET = RNG.integers(0, 2, vectors.DIMENSION)
KEY = publickey.generate(SECRET, DEVIATION, 7)
GIB = 1 << 30
NODE = Figures(cpu_milli=2000, memory_bytes=24 * GIB, disk_bytes=100 * GIB, gpu_count=0)


def naive(a: list[int], small: list[int]) -> list[int]:
    degree = len(a)
    out = [0] * degree
    for i, x in enumerate(a):
        for j, y in enumerate(small):
            sign = 1 if i + j < degree else -1
            out[(i + j) % degree] += sign * x * y
    return [value % 2**64 for value in out]


def phases(rows: np.ndarray) -> list[int]:
    masked = (rows[:, :-1] * SECRET.astype(np.uint64)).sum(axis=1, dtype=np.uint64)
    return [int(value) for value in rows[:, -1] - masked]


def ring_phases(ciphertexts: np.ndarray) -> np.ndarray:
    """``B - A s`` of RLWE ciphertexts (..., mask and body, N)."""
    masks = ciphertexts[..., 0, :]
    products = [ring.negacyclic_product(mask, SECRET) for mask in masks.reshape(-1, vectors.DIMENSION)]
    return ciphertexts[..., 1, :] - np.stack(products).reshape(masks.shape)


def test_products_are_exact() -> None:
    a = RNG.integers(0, 2**64, 256, dtype=np.uint64)
    small = RNG.integers(-1, 2, 256)
    assert ring.negacyclic_product(a, small).tolist() == naive(a.tolist(), small.tolist())
    big = np.full(vectors.DIMENSION, 2**64 - 1, dtype=np.uint64)
    ones = np.ones(vectors.DIMENSION, dtype=np.int64)
    expected = [(2 * place + 2 - vectors.DIMENSION) * (2**64 - 1) % 2**64 for place in range(vectors.DIMENSION)]
    assert ring.negacyclic_product(big, ones).tolist() == expected


def test_sums_of_products_are_exact_for_the_largest_limbs_and_digits() -> None:
    """Digits of 21 bits and limbs of 12 at their bounds, where rounding is largest, and a sum of two products."""
    shifts = (16, 28, 40, 52)
    some = RNG.integers(0, 2**48, (2, 64), dtype=np.uint64) << np.uint64(16)
    digits = RNG.integers(-(2**20), 2**20, (3, 2, 64))
    found = ring.sum_of_products(ring.spectra(some, shifts), digits)
    for row, pair in zip(found, digits, strict=True):
        terms = [naive(polynomial.tolist(), small.tolist()) for polynomial, small in zip(some, pair, strict=True)]
        assert row.tolist() == [(x + y) % 2**64 for x, y in zip(*terms, strict=True)]
    degree = vectors.DIMENSION
    most = np.full((2, degree), 2**64 - 2**16, dtype=np.uint64)
    for value in (-(2**20), 2**20 - 1):
        expected = [2 * value * (2 * place + 2 - degree) * (2**64 - 2**16) % 2**64 for place in range(degree)]
        product = ring.sum_of_products(ring.spectra(most, shifts), np.full((1, 2, degree), value))
        assert product[0].tolist() == expected


def test_rounding_of_transforms_is_far_below_one_half() -> None:
    """What they give before rounding, for random and for the largest limbs and digits."""
    degree = vectors.DIMENSION
    for limbs, digits in (
        (RNG.integers(0, 2**12, degree), RNG.integers(-(2**20), 2**20, degree)),
        (np.full(degree, 2**12 - 1), np.full(degree, -(2**20))),
        (np.full(degree, 2**12 - 1), np.where(np.arange(degree) % 2, 2**20 - 1, -(2**20))),
    ):
        product = np.fft.rfft(limbs.astype(float), 2 * degree) * np.fft.rfft(digits.astype(float), 2 * degree)
        exact = np.fft.irfft(2 * product, 2 * degree)
        assert np.abs(exact - np.rint(exact)).max() < 2**-6


def test_extracted_rows_are_the_coefficients() -> None:
    a = RNG.integers(0, 2**64, 64, dtype=np.uint64)
    small = RNG.integers(0, 2, 64)
    rows = np.stack([ring.extract(a, a, coefficient) for coefficient in range(64)])
    by_rows = (rows[:, :-1] * small.astype(np.uint64)).sum(axis=1, dtype=np.uint64)
    assert by_rows.tolist() == ring.negacyclic_product(a, small).tolist()
    assert rows[:, -1].tolist() == a.tolist()
    assert [ring.row(a, coefficient).tolist() for coefficient in range(64)] == rows[:, :-1].tolist()


def test_a_monomial_moves_its_slot_to_the_constant_coefficient() -> None:
    table = RNG.integers(0, 16, 64, dtype=np.uint64)
    for slot in (0, 1, 63):
        assert ring.negacyclic_product(table, ring.monomials((slot,), 64))[0] == table[slot]
    assert ring.monomials((3, 3), 64)[61] == -2


def test_randomness_is_centred_and_of_its_width() -> None:
    draws = ring.gaussian(100_000, DEVIATION).view(np.int64)
    assert abs(draws.std() / (DEVIATION * 2.0**64) - 1) < 0.02
    assert abs(draws.mean()) < 0.02 * draws.std()
    trits = ring.ternary(90_000)
    assert set(trits.tolist()) == {-1, 0, 1}
    assert abs(trits.mean()) < 0.02


def test_fresh_ciphertexts_hold_their_numbers_within_the_noise_bound() -> None:
    numbers = RNG.integers(0, 16, (20, vectors.DIMENSION), dtype=np.uint8)
    plaintexts = np.stack([vectors.encode(row) for row in numbers])
    ciphertexts = KEY.encrypt(plaintexts)
    errors = ring_phases(ciphertexts) - plaintexts
    measured, promised = float(errors.view(np.int64).std()), KEY.noise_deviation * 2.0**64
    assert 0.9 < measured / promised < 1.1


def test_a_vector_has_one_size_and_differs_each_time() -> None:
    encoding = default_encoding()
    encryptor = PublicKeyEncryptor(KEY.to_bytes(), encoding.to_json())
    idle = Figures(cpu_milli=0, memory_bytes=0, disk_bytes=0, gpu_count=0)
    frees = (NODE, NODE, idle)
    telemetry = [encryptor.telemetry(free, None) for free in frees]
    demands = [encryptor.demand(figures) for figures in (idle, idle, NODE)]
    assert len(set(telemetry)) == len(set(demands)) == 3
    assert {len(vector) for vector in telemetry} == {vectors.TELEMETRY_BYTES} == {16_416}
    assert {len(vector) for vector in demands} == {vectors.DEMAND_BYTES} == {49_184}
    for free, vector in zip(frees, telemetry, strict=True):
        encryptor.check_telemetry(vector)
        held = (ring_phases(vectors.open_telemetry(vector, KEY.name)) + np.uint64(1 << 58)) >> np.uint64(59)
        assert held.tolist() == encoding.table(free, None).tolist()


def test_a_table_has_a_slot_for_each_coefficient() -> None:
    assert SLOTS == vectors.DIMENSION


def test_what_travels_is_what_is_read() -> None:
    """Rounded to the bits that are sent, and the same again when it is sent again: one spelling."""
    table = RNG.integers(0, 2**64, (2, vectors.DIMENSION), dtype=np.uint64)
    rows = RNG.integers(0, 2**64, (2, 2, vectors.DIMENSION), dtype=np.uint64)
    sent, asked = vectors.pack_telemetry(KEY.name, table), vectors.pack_demand(KEY.name, rows)
    read, selected = vectors.open_telemetry(sent, KEY.name), vectors.open_demand(asked, KEY.name)
    assert np.abs((read - table).view(np.int64)).max() <= 1 << 31
    assert np.abs((selected - rows).view(np.int64)).max() <= 1 << 15
    assert vectors.pack_telemetry(KEY.name, read) == sent
    assert vectors.pack_demand(KEY.name, selected) == asked


def test_form_is_checked() -> None:
    text = default_encoding().to_json()
    encryptor = PublicKeyEncryptor(KEY.to_bytes(), text)
    other_key = PublicKeyEncryptor(publickey.generate(SECRET, DEVIATION, 7).to_bytes(), text)
    other_epoch = PublicKeyEncryptor(publickey.generate(SECRET, DEVIATION, 8).to_bytes(), text)
    telemetry, demand = encryptor.telemetry(NODE, 0.5), encryptor.demand(NODE)
    for good, check, foreign in (
        (telemetry, encryptor.check_telemetry, [demand, other_key.telemetry(NODE, 0.5), other_epoch.telemetry(NODE, 0.5)]),
        (demand, encryptor.check_demand, [telemetry, other_key.demand(NODE), other_epoch.demand(NODE)]),
    ):
        check(good)
        bad = [b"", good[:-1], good[:-6], good + b"\0", good + bytes(6), b"XXXX" + good[4:]]
        bad += [good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :] for place in range(4, 32)]
        for vector in (*bad, *foreign):
            with pytest.raises(CiphertextInvalid):
                check(vector)


def test_public_keys_are_read_as_written_or_refused() -> None:
    data = KEY.to_bytes()
    again = publickey.PublicKey.from_bytes(data)
    assert again.name == KEY.name
    assert len(data) < 16_500
    for bad in (data[:-1], b"XXXX" + data[4:], data[:5] + b"\1" + data[6:], data[:18] + b"\x40" + data[19:]):
        with pytest.raises(CiphertextInvalid):
            publickey.PublicKey.from_bytes(bad)
    with pytest.raises(CiphertextInvalid):
        publickey.generate(SECRET[:-1], DEVIATION, 7)


def test_padding_is_the_same_everywhere() -> None:
    rows = vectors.trivial([0, 7, 15])
    assert phases(rows) == [0, 7 << 59, 15 << 59]
    assert not rows[:, :-1].any()


def test_the_noise_is_far_below_what_a_parameter_of_concrete_allows() -> None:
    assert math.log2(KEY.noise_deviation * 2.0**64) < 21

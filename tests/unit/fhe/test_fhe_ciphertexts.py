"""Ring arithmetic is exact, fresh noise stays in its bound, and vectors are checked for form."""

import math

import numpy as np
import pytest

from veil.errors import CiphertextInvalid
from veil.fhe import publickey, ring, vectors
from veil.fhe.encoding import default_encoding
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


def test_products_are_exact() -> None:
    a = RNG.integers(0, 2**64, 256, dtype=np.uint64)
    small = RNG.integers(-1, 2, 256)
    assert ring.negacyclic_product(a, small).tolist() == naive(a.tolist(), small.tolist())
    big = np.full(vectors.DIMENSION, 2**64 - 1, dtype=np.uint64)
    ones = np.ones(vectors.DIMENSION, dtype=np.int64)
    expected = [(2 * place + 2 - vectors.DIMENSION) * (2**64 - 1) % 2**64 for place in range(vectors.DIMENSION)]
    assert ring.negacyclic_product(big, ones).tolist() == expected


def test_extracted_rows_are_the_coefficients() -> None:
    a = RNG.integers(0, 2**64, 64, dtype=np.uint64)
    small = RNG.integers(0, 2, 64)
    rows = ring.extract_masks(a, 64)
    by_rows = (rows * small.astype(np.uint64)).sum(axis=1, dtype=np.uint64)
    assert by_rows.tolist() == ring.negacyclic_product(a, small).tolist()


def test_randomness_is_centred_and_of_its_width() -> None:
    draws = ring.gaussian(100_000, DEVIATION).view(np.int64)
    assert abs(draws.std() / (DEVIATION * 2.0**64) - 1) < 0.02
    assert abs(draws.mean()) < 0.02 * draws.std()
    trits = ring.ternary(90_000)
    assert set(trits.tolist()) == {-1, 0, 1}
    assert abs(trits.mean()) < 0.02


def test_fresh_ciphertexts_hold_their_numbers_within_the_noise_bound() -> None:
    numbers = list(range(16))
    errors = []
    for _ in range(100):
        vector = KEY.encrypt(vectors.TELEMETRY, numbers)
        for number, phase in zip(numbers, phases(vectors.expand(vector)), strict=True):
            errors.append((phase - (number << 59) + 2**63) % 2**64 - 2**63)
    measured, promised = float(np.std(errors)), KEY.noise_deviation * 2.0**64
    assert 0.9 < measured / promised < 1.1
    half_window = 2.0**58
    assert promised * 12 < half_window / 2**20


def test_a_vector_has_one_size_and_differs_each_time() -> None:
    encoding = default_encoding()
    encryptor = PublicKeyEncryptor(KEY.to_bytes(), encoding.to_json())
    idle = Figures(cpu_milli=0, memory_bytes=0, disk_bytes=0, gpu_count=0)
    telemetry = [encryptor.telemetry(free, encryptor.left_over(free, NODE)) for free in (NODE, NODE, idle)]
    assert len(set(telemetry)) == 3
    assert {len(vector) for vector in telemetry} == {vectors.vector_bytes(9)} == {16_488}
    assert len(encryptor.demand(idle)) == vectors.vector_bytes(7) == 16_472
    for vector in telemetry:
        encryptor.check_telemetry(vector)
        rows = vectors.expand(vector)
        assert [((phase >> 58) + 1 >> 1) % 32 for phase in phases(rows)] in (
            encoding.telemetry_digits(NODE, encryptor.left_over(NODE, NODE)),
            encoding.telemetry_digits(idle, encryptor.left_over(idle, NODE)),
        )


def test_form_is_checked() -> None:
    encryptor = PublicKeyEncryptor(KEY.to_bytes(), default_encoding().to_json())
    good = encryptor.telemetry(NODE, 0.5)
    other_key = PublicKeyEncryptor(publickey.generate(SECRET, DEVIATION, 7).to_bytes(), default_encoding().to_json())
    other_epoch = PublicKeyEncryptor(publickey.generate(SECRET, DEVIATION, 8).to_bytes(), default_encoding().to_json())
    bad = [
        b"",
        good[:-1],
        good + b"\0",
        b"XXXX" + good[4:],
        good[:4] + b"\x02" + good[5:],
        encryptor.demand(Figures(cpu_milli=1, memory_bytes=1, disk_bytes=1, gpu_count=0)),
        other_key.telemetry(NODE, 0.5),
        other_epoch.telemetry(NODE, 0.5),
    ]
    for vector in bad:
        with pytest.raises(CiphertextInvalid):
            encryptor.check_telemetry(vector)
    with pytest.raises(CiphertextInvalid):
        encryptor.check_demand(good)


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

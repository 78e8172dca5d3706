"""Any quorum opens a bit, fewer do not, repeating says nothing new, and maskings stay in their budget."""

import itertools

import numpy as np
import pytest

from veil.errors import CiphertextInvalid, FheUnavailable
from veil.fhe import publickey, threshold, vectors
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.keyshare import SHARE_BYTES, KeyShare
from veil.fhe.ports import Combiner, Decryptor
from veil.types import Secret

RNG = np.random.default_rng(4)
SECRET = RNG.integers(0, 2, vectors.DIMENSION)
KEY = publickey.generate(SECRET, 2.0**-49.9, 3)
BITS = [1, 0, 0, 1, 0]


def row(bit: int, noise: int = 0) -> np.ndarray:
    mask = RNG.integers(0, 2**64, vectors.DIMENSION, dtype=np.uint64)
    body = int((mask * SECRET.astype(np.uint64)).sum(dtype=np.uint64)) + (bit << 62) + noise
    return np.append(mask, np.uint64(body % 2**64))


def result(bits: list[int], noise: int = 1 << 52) -> bytes:
    return vectors.pack_result(KEY.name, np.stack([row(bit, int(RNG.integers(-noise, noise))) for bit in bits]))


def shares(members: int, quorum: int) -> list[Secret]:
    return [
        KeyShare(key=KEY.name, member=member, members=members, threshold=quorum, values=tuple(values)).to_secret()
        for member, values in enumerate(threshold.deal(SECRET.tolist(), members, quorum), 1)
    ]


SHARES = shares(5, 3)
DECRYPTORS = {member: ThresholdDecryptor(share) for member, share in enumerate(SHARES, 1)}
COMBINER = ThresholdCombiner(KEY.to_bytes(), 3)


def partials(opened: bytes, members: list[int]) -> dict[int, bytes]:
    return {member: DECRYPTORS[member].partial(opened, members) for member in members}


def test_the_ports_are_implemented() -> None:
    decryptor: Decryptor = DECRYPTORS[1]
    combiner: Combiner = COMBINER
    assert decryptor.member == 1
    assert combiner is COMBINER


def test_every_quorum_opens_and_so_does_a_larger_set() -> None:
    opened = result(BITS)
    for members in itertools.combinations(range(1, 6), 3):
        assert COMBINER.combine(opened, list(members), partials(opened, list(members))) == BITS
    everyone = [5, 4, 3, 2, 1]
    assert COMBINER.combine(opened, everyone, partials(opened, everyone)) == BITS


def test_fewer_than_the_quorum_do_not_open() -> None:
    opened = result(BITS)
    with pytest.raises(CiphertextInvalid):
        DECRYPTORS[1].partial(opened, [1, 2])
    with pytest.raises(CiphertextInvalid):
        COMBINER.combine(opened, [1, 2], {})
    with pytest.raises(FheUnavailable):
        COMBINER.combine(opened, [1, 2, 3], {})
    rows = vectors.open_result(opened, KEY.name)
    two = [list(KeyShare.from_secret(share).values) for share in SHARES[:2]]
    opens = 0
    for line, bit in zip(rows, BITS, strict=True):
        parts = [threshold.partial(line, values, b"seed", member, [1, 2]) for member, values in enumerate(two, 1)]
        try:
            opens += threshold.open_bit(line, parts) == bit
        except CiphertextInvalid:
            continue
    assert opens < len(BITS)


def test_asking_twice_says_nothing_new() -> None:
    opened = result(BITS)
    first = DECRYPTORS[2].partial(opened, [1, 2, 3])
    assert DECRYPTORS[2].partial(opened, [3, 2, 1]) == first
    assert ThresholdDecryptor(SHARES[1]).partial(opened, [1, 2, 3]) == first
    assert DECRYPTORS[2].partial(opened, [1, 2, 4]) != first
    same_row = vectors.pack_result(KEY.name, vectors.open_result(opened, KEY.name)[::-1])
    width = threshold.SHARE_VALUE_BYTES
    assert DECRYPTORS[2].partial(same_row, [1, 2, 3])[-width:] == first[-5 * width :][:width]


def test_a_foreign_or_changed_partial_is_noticed() -> None:
    opened, members = result(BITS), [1, 2, 3]
    good = partials(opened, members)
    other = partials(result(BITS), members)
    swapped = {**good, 1: good[2]}
    short = {**good, 1: good[1][:-1]}
    for bad in ({**good, 1: other[1]}, swapped, short, {**good, 1: DECRYPTORS[1].partial(opened, [1, 2, 4])}):
        with pytest.raises(CiphertextInvalid):
            COMBINER.combine(opened, members, bad)
    noisy = bytearray(good[1])
    noisy[-16:] = RNG.bytes(16)
    noisy[-16] &= 0x7F
    refused = 0
    for _ in range(8):
        noisy[-12:] = RNG.bytes(12)
        try:
            COMBINER.combine(opened, members, {**good, 1: bytes(noisy)})
        except CiphertextInvalid:
            refused += 1
    assert refused >= 1


def test_results_and_shares_are_checked() -> None:
    opened = result(BITS)
    for bad in (b"", opened[:-1], opened + bytes(8), b"XXXX" + opened[4:]):
        with pytest.raises(CiphertextInvalid):
            DECRYPTORS[1].partial(bad, [1, 2, 3])
    foreign = vectors.KeyName(4, KEY.name.key_id)
    with pytest.raises(CiphertextInvalid):
        DECRYPTORS[1].partial(vectors.pack_result(foreign, np.stack([row(0), row(1)])), [1, 2, 3])
    for members in ([2, 3, 4], [1, 1, 2], [1, 2, 6], [0, 1, 2]):
        with pytest.raises(CiphertextInvalid):
            DECRYPTORS[1].partial(opened, members)
    data = SHARES[0].reveal()
    assert len(data) == SHARE_BYTES == 32_800
    for bad in (data[:-1], b"XXXX" + data[4:], data[:5] + b"\x09" + data[6:]):
        with pytest.raises(CiphertextInvalid):
            ThresholdDecryptor(Secret(bad))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33, 64])
def test_maskings_of_the_largest_sets_leave_the_message(count: int) -> None:
    assert count * 8 * (threshold.FLOOD_TOTAL // (8 * count)) + threshold.OUTPUT_NOISE_MAX < threshold.HALF_WINDOW
    members = list(range(1, count + 1))
    zero = [0] * vectors.DIMENSION
    for bit in (0, 1):
        line = row(bit)
        plain = int(line[:-1].astype(object) @ SECRET.astype(object))
        parts = [threshold.partial(line, zero, bytes([member]), member, members) for member in members]
        assert threshold.open_bit(line, [*parts, plain]) == bit


def test_floods_are_as_wide_as_stated() -> None:
    line, members = row(0), [1, 2]
    zero = [0] * vectors.DIMENSION
    floods = []
    for seed in range(400):
        value = threshold.partial(line, zero, seed.to_bytes(4, "big"), 1, members)
        floods.append((value + 2**63) % 2**64 - 2**63)
    assert max(map(abs, floods)) <= threshold.FLOOD_TOTAL // 2
    assert abs(np.log2(np.std(floods)) - threshold.flood_deviation_log2(2)) < 0.2


def test_noise_past_the_window_is_no_bit() -> None:
    line = row(0, 1 << 61)
    with pytest.raises(CiphertextInvalid):
        threshold.open_bit(line, [int(line[:-1].astype(object) @ SECRET.astype(object))])


def test_the_budget_shrinks_with_members_and_outputs() -> None:
    assert threshold.flooding_bits(2) > threshold.flooding_bits(33)
    assert threshold.max_decryptions(2, 5) > threshold.max_decryptions(2, 65) >= threshold.max_decryptions(40, 65) >= 1

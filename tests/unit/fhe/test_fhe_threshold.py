"""Any quorum opens bits, fewer do not, repeating says nothing new, and what is malformed is refused."""

import itertools
import random

import numpy as np
import pytest
from fhe_committee import BITS, COMBINER, DECRYPTORS, KEY, KEY_SHARES, RNG, SECRET, partials, result, row

from veil.errors import CiphertextInvalid, FheUnavailable, PartialInvalid
from veil.fhe import keyshare, threshold, vectors
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.keyshare import KeyShare
from veil.fhe.ports import Combiner, Decryptor, Opened
from veil.types import Secret


def test_the_ports_are_implemented() -> None:
    decryptor: Decryptor = DECRYPTORS[1]
    combiner: Combiner = COMBINER
    assert decryptor.member == 1
    assert combiner is COMBINER


@pytest.mark.parametrize("size", [3, 4, 5])
def test_every_quorum_opens(size: int) -> None:
    opened = result(BITS)
    for quorum in itertools.combinations(range(1, 6), size):
        found = COMBINER.open(opened, quorum[::-1], partials(opened, quorum))
        assert found == Opened(BITS, checked=size > 3, liars=())


def test_products_are_exact() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    rows = np.random.default_rng(seed).integers(0, 2**64, (5, vectors.DIMENSION + 1), dtype=np.uint64)
    rows[0] = 2**64 - 1
    shares = [
        [threshold.FIELD - 1] * vectors.DIMENSION,
        [rng.randrange(threshold.FIELD) for _ in range(vectors.DIMENSION)],
        [0] * vectors.DIMENSION,
    ]
    for share in shares:
        expected = [
            sum(word * value for word, value in zip(line, share, strict=True)) % threshold.FIELD for line in rows[:, :-1].tolist()
        ]
        assert threshold.products(rows, threshold.limbs(share)) == expected


def test_fewer_than_the_threshold_do_not_open() -> None:
    opened = result(BITS)
    with pytest.raises(CiphertextInvalid):
        DECRYPTORS[1].partial(opened, [1, 2])
    with pytest.raises(CiphertextInvalid):
        COMBINER.open(opened, [1, 2], {})
    with pytest.raises(FheUnavailable, match=r"\[2, 3\]"):
        COMBINER.open(opened, [1, 2, 3], {1: DECRYPTORS[1].partial(opened, [1, 2, 3])})
    rows = vectors.open_result(opened, KEY.name)
    tried = [result([int(bit) for bit in RNG.integers(0, 2, 20)]) for _ in range(4)]
    assert len(rows) == len(BITS)
    for other in tried:
        lines = vectors.open_result(other, KEY.name)
        two = [threshold.products(lines, threshold.limbs(share.values)) for share in KEY_SHARES[:2]]
        weighted = [[threshold.weight(member, (1, 2)) * value for value in part] for member, part in enumerate(two, 1)]
        assert threshold.open_bits(lines, weighted) is None


def test_asking_twice_says_nothing_new() -> None:
    opened = result(BITS)
    first = DECRYPTORS[2].partial(opened, [1, 2, 3])
    assert DECRYPTORS[2].partial(opened, [3, 2, 1]) == first
    assert ThresholdDecryptor(KEY_SHARES[1].to_secret()).partial(opened, [1, 2, 3]) == first
    assert DECRYPTORS[2].partial(opened, [1, 2, 4]) != first


def test_a_subset_has_the_same_part_in_every_quorum() -> None:
    """Else an escalation would open the subsets of the first quorum anew, with other floods."""
    opened = result(BITS)
    width = len(BITS) * threshold.VALUE_BYTES
    three, four, five = (DECRYPTORS[2].partial(opened, quorum) for quorum in ([1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5]))
    chunks = [
        {data[start : start + width] for start in range(len(data) % width, len(data), width)} for data in (three, four, five)
    ]
    assert [len(chunk) for chunk in chunks] == [1, 3, 6]
    assert chunks[0] < chunks[1] < chunks[2]


def test_malformed_partials_name_their_member() -> None:
    opened, quorum = result(BITS), (1, 2, 3, 4)
    good = partials(opened, quorum)
    other = partials(result(BITS), quorum)
    too_large = good[1][:-16] + b"\xff" * 16
    bad = [
        good[1][:-1],
        good[1] + good[1][-16:],
        b"",
        other[1],
        good[2],
        too_large,
        b"XXXX" + good[1][4:],
        DECRYPTORS[1].partial(opened, (1, 2, 3)),
        DECRYPTORS[1].partial(opened, (1, 2, 3, 5)),
        DECRYPTORS[1].partial(opened, (1, 2, 3, 4, 5)),
    ]
    for data in bad:
        with pytest.raises(PartialInvalid) as refused:
            COMBINER.open(opened, quorum, {**good, 1: data})
        assert refused.value.member == 1
        assert refused.value.exit_code == 3


@pytest.mark.parametrize("quorum", [[1, 2], [1, 1, 2], [0, 1, 2], [1, 2, 3, 4, 5, 6], [1, 2, 65], []])
def test_what_is_no_quorum_is_refused(quorum: list[int]) -> None:
    opened = result(BITS)
    with pytest.raises(CiphertextInvalid):
        DECRYPTORS[1].partial(opened, quorum)
    with pytest.raises(CiphertextInvalid):
        COMBINER.open(opened, quorum, {})


def test_results_and_quorums_of_others_are_refused() -> None:
    opened = result(BITS)
    for bad in (b"", opened[:-1], opened + bytes(8), b"XXXX" + opened[4:]):
        with pytest.raises(CiphertextInvalid):
            DECRYPTORS[1].partial(bad, [1, 2, 3])
    foreign = vectors.KeyName(4, KEY.name.key_id)
    with pytest.raises(CiphertextInvalid):
        DECRYPTORS[1].partial(vectors.pack_result(foreign, np.stack([row(0), row(1)])), [1, 2, 3])
    for quorum in ([2, 3, 4], [1, 2, 6]):
        with pytest.raises(CiphertextInvalid):
            DECRYPTORS[1].partial(opened, quorum)


def test_key_shares_are_read_as_written_and_else_refused() -> None:
    packed = KEY_SHARES[0].to_secret()
    data = packed.reveal()
    assert KeyShare.from_secret(packed) == KEY_SHARES[0]
    assert len(data) == keyshare.share_bytes(5) == 32_800 + 4 * 32
    version_one = data[:4] + b"\x01" + data[5:32_800]
    bad = (b"", data[:-1], data + bytes(32), b"XXXX" + data[4:], data[:5] + b"\x09" + data[6:], version_one, data[:32])
    for wrong in (*bad, data[:32] + b"\xff" * 16 + data[48:]):
        with pytest.raises(CiphertextInvalid):
            ThresholdDecryptor(Secret(wrong))


def test_each_pair_of_members_has_a_seed_of_its_own() -> None:
    seeds = {}
    for share in KEY_SHARES:
        assert sorted(share.pairwise) == [other for other in range(1, 6) if other != share.member]
        for other, seed in share.pairwise.items():
            assert seeds.setdefault(frozenset((share.member, other)), seed) == seed
    assert len(set(seeds.values())) == len(seeds) == 10
    assert "pairwise" not in repr(KEY_SHARES[0])
    assert "values" not in repr(KEY_SHARES[0])


def test_noise_past_the_window_is_no_bit() -> None:
    rows = np.stack([row(0), row(0, 1 << 61), row(1, 1 << 60)])
    plain = [[int(line[:-1].astype(object) @ SECRET.astype(object)) for line in rows]]
    assert threshold.open_bits(rows[::2], [plain[0][::2]]) == [0, 1]
    assert threshold.open_bits(rows, plain) == [0, 1, 1]
    assert threshold.open_bits(np.stack([row(1, 1 << 61), row(0)]), [[0, 0]]) is None

"""What hides a partial: zero-shares that vanish in the sum, floods of the stated width, and nothing new when asked twice."""

import os

import numpy as np
import pytest
from fhe_committee import BITS, DECRYPTORS, KEY, KEY_SHARES, SECRET, result, row

from veil.fhe import flooding, masking, threshold, vectors
from veil.fhe.quorum import subsets

QUORUM = (1, 2, 3, 4, 5)
DIGEST = bytes(range(32))
PAIRWISE = {share.member: share.pairwise for share in KEY_SHARES}
LARGE = 1 << 124
"""Flood and carry of two subsets, times the weights below, stay below this."""


def test_zero_shares_vanish_in_every_subset_and_in_no_part_of_one() -> None:
    for subset in subsets(QUORUM, 3):
        parts = [masking.zero_shares(PAIRWISE[member], DIGEST, member, subset, 4) for member in subset]
        assert [sum(column) % threshold.FIELD for column in zip(*parts, strict=True)] == [0] * 4
        assert all(sum(column[:2]) % threshold.FIELD for column in zip(*parts, strict=True))
    other = masking.zero_shares(PAIRWISE[1], bytes(32), 1, (1, 2, 3), 4)
    assert other != masking.zero_shares(PAIRWISE[1], DIGEST, 1, (1, 2, 3), 4)
    assert masking.zero_shares(PAIRWISE[1], DIGEST, 1, (1, 2, 4), 4) != masking.zero_shares(PAIRWISE[1], DIGEST, 1, (1, 2, 3), 4)
    assert masking.zero_shares({}, DIGEST, 1, (1,), 2) == [0, 0]


def product_free(parts: dict[tuple[int, ...], list[int]]) -> list[int]:
    """8 p(1,2,3) - 9 p(1,2,4): member 1's weights are 3 and 8/3 there, so its product cancels. Centred."""
    both = zip(parts[1, 2, 3], parts[1, 2, 4], strict=True)
    values = [(8 * a - 9 * b) % threshold.FIELD for a, b in both]
    return [value - threshold.FIELD if value > threshold.FIELD // 2 else value for value in values]


def parts_of_member_one(opened: bytes, *, zero_shares: bool) -> dict[tuple[int, ...], list[int]]:
    data = DECRYPTORS[1].partial(opened, QUORUM)
    count = len(vectors.open_result(opened, KEY.name))
    mine = subsets(QUORUM, 3, 1)
    body = data[-len(mine) * count * threshold.VALUE_BYTES :]
    words = [int.from_bytes(body[at : at + 16], "big") for at in range(0, len(body), 16)]
    parts = {subset: words[place * count : (place + 1) * count] for place, subset in enumerate(mine)}
    if not zero_shares:
        import hashlib

        digest = hashlib.sha256(opened).digest()
        for subset, values in parts.items():
            zeros = masking.zero_shares(PAIRWISE[1], digest, 1, subset, count)
            parts[subset] = [(value - zero) % threshold.FIELD for value, zero in zip(values, zeros, strict=True)]
    return parts


def test_without_zero_shares_partials_of_several_subsets_betray_their_common_product() -> None:
    """The broken twin. One partial for each subset is a system of equations for the member's own product; masked, it is none."""
    opened = result([0, 1] * 20)
    bare = product_free(parts_of_member_one(opened, zero_shares=False))
    masked = product_free(parts_of_member_one(opened, zero_shares=True))
    assert all(abs(value) < LARGE for value in bare)
    assert sum(abs(value) < LARGE for value in masked) < len(masked) * 3 // 4


def flood_of(seed: bytes, digest: bytes = DIGEST, subset: tuple[int, ...] = (1, 2, 3)) -> int:
    (value,) = masking.floods(seed, [digest], subset)
    return (value + 2**63) % 2**64 - 2**63


@pytest.mark.parametrize("size", [1, 2, 3, 7, 33, 64])
def test_floods_are_as_wide_as_stated(size: int) -> None:
    subset = tuple(range(1, size + 1))
    drawn = [flood_of(seed.to_bytes(4, "big"), subset=subset) for seed in range(600)]
    assert max(map(abs, drawn)) <= flooding.UNIFORMS * flooding.uniform_bound(size)
    assert abs(np.log2(np.std(drawn)) - flooding.flood_deviation_log2(size)) < 0.2
    assert abs(np.mean(drawn)) < 5 * np.std(drawn) / len(drawn) ** 0.5


def test_a_carry_is_hidden_by_its_own_bits() -> None:
    values = masking.floods(b"seed", [bytes([place]) for place in range(200)], (1, 2))
    carries = [(value + 2**63) >> 64 for value in values]
    assert all(0 <= carry <= 1 << flooding.CARRY_BITS for carry in carries)
    assert max(carries) > 1 << (flooding.CARRY_BITS - 1)
    assert threshold.MEMBERS_MAX << (64 + flooding.CARRY_BITS + 1) < threshold.FIELD
    assert (vectors.DIMENSION << 64) >> 64 < 1 << 12


def test_derived_floods_do_not_average_out_and_fresh_ones_would() -> None:
    """The broken twin draws anew for each answer: after enough of them an output's own noise is plain to see."""
    seed = DECRYPTORS[1]._seed
    answers = 4096
    derived = {flood_of(seed) for _ in range(50)}
    assert len(derived) == 1
    deviation = 2.0 ** flooding.flood_deviation_log2(3)
    fresh = np.mean([flood_of(os.urandom(16)) for _ in range(answers)])
    assert abs(fresh) < deviation / 8
    assert flood_of(seed, bytes(32)) != flood_of(seed)
    assert flood_of(seed, subset=(1, 2, 4)) != flood_of(seed)


def test_a_row_has_the_same_floods_in_every_result() -> None:
    """Else one ciphertext could be opened again and again among others."""
    line, other = row(1), row(0)
    first = vectors.pack_result(KEY.name, np.stack([line, other]))
    second = vectors.pack_result(KEY.name, np.stack([other, line]))
    ours, theirs = (parts_of_member_one(data, zero_shares=False) for data in (first, second))
    assert all(ours[subset] == theirs[subset][::-1] for subset in ours)


def test_the_largest_floods_leave_the_bit() -> None:
    for size in (1, 2, 3, 6):
        total = size * flooding.UNIFORMS * flooding.uniform_bound(size) + flooding.OUTPUT_NOISE_MAX
        assert total <= threshold.HALF_WINDOW
    lines = np.stack([row(bit) for bit in BITS])
    plain = [int(line[:-1].astype(object) @ SECRET.astype(object)) for line in lines]
    for size in (1, 2, 3, 33, 64):
        subset = tuple(range(1, size + 1))
        digests = [bytes([place]) for place in range(len(BITS))]
        parts = [masking.floods(bytes([member]), digests, subset) for member in subset]
        assert threshold.open_bits(lines, [plain, *parts]) == BITS

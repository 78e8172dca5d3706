"""Content keys: any t shares join, fewer or wrong ones do not."""

import contextlib
import itertools
import os

import pytest

from veil.errors import CiphertextInvalid, LimitExceeded
from veil.fhe.sharing import FIELD, SECRET_MAX_BYTES, SHARE_BYTES, join_secret, split_secret


def test_the_field_is_prime() -> None:
    for base in (2, 3, 5, 7, 11, 13):
        assert pow(base, FIELD - 1, FIELD) == 1


@pytest.mark.parametrize(("n", "t"), [(1, 1), (3, 2), (5, 3), (64, 33)])
def test_any_quorum_joins(n: int, t: int) -> None:
    secret = os.urandom(32)
    shares = dict(enumerate(split_secret(secret, n, t), 1))
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    for holders in itertools.islice(itertools.combinations(shares, t), 20):
        assert join_secret({holder: shares[holder] for holder in holders}) == secret
    assert join_secret(shares) == secret


def test_a_secret_keeps_its_leading_zeros() -> None:
    secret = bytes(31) + b"\1"
    assert join_secret(dict(enumerate(split_secret(secret, 3, 2), 1))) == secret


def test_fewer_say_nothing_and_wrong_ones_are_refused_or_differ() -> None:
    secret = os.urandom(32)
    shares = dict(enumerate(split_secret(secret, 5, 3), 1))
    for bad in ({}, {1: shares[1], 2: shares[2]}, {1: shares[2], 2: shares[1], 3: shares[3]}, {1: shares[1][:-1]}):
        with pytest.raises(CiphertextInvalid):
            join_secret(bad)
    other = split_secret(os.urandom(32), 5, 2)[0]
    with pytest.raises(CiphertextInvalid):
        join_secret({1: other, 2: shares[2], 3: shares[3]})
    forged = shares[1][:-1] + bytes([shares[1][-1] ^ 1])
    with contextlib.suppress(CiphertextInvalid):
        assert join_secret({1: forged, 2: shares[2], 3: shares[3]}) != secret


def test_the_same_secret_is_shared_differently_each_time() -> None:
    assert split_secret(b"k" * 32, 3, 2) != split_secret(b"k" * 32, 3, 2)


@pytest.mark.parametrize(("size", "n", "t"), [(0, 3, 2), (SECRET_MAX_BYTES + 1, 3, 2), (32, 3, 0), (32, 3, 4), (32, 65, 2)])
def test_impossible_numbers_are_refused(size: int, n: int, t: int) -> None:
    with pytest.raises(LimitExceeded):
        split_secret(bytes(size), n, t)

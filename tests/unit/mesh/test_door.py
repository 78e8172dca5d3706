"""Budgets in virtual time, and what the door makes of them."""

import pytest

from veil.config import MeshLimits
from veil.mesh.budget import Bucket, Buckets
from veil.mesh.door import PEER_BURST, TOTAL_BURST, Door

LIMITS = MeshLimits()
ADDRESS_BURST, ADDRESS_PER_S = LIMITS.handshake_burst, LIMITS.handshakes_per_s


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def door(clock):
    return Door(clock, LIMITS)


def test_a_bucket_empties_fills_again_and_never_overflows():
    bucket = Bucket.full(3, 2.0, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(1, 0.5)
    assert not bucket.take(1, 0.5)
    assert [bucket.take(1, 100.0) for _ in range(4)] == [True, True, True, False]
    bucket.give_back(99)
    assert bucket.is_full(100.0)


def test_who_spends_more_than_there_is_owes_time():
    bucket = Bucket.full(10, 2.0, 0.0)
    assert bucket.spend(10, 0.0) == 0.0
    assert bucket.spend(4, 0.0) == 2.0
    assert bucket.spend(0, 2.0) == 0.0


def test_full_buckets_are_forgotten_first_and_the_number_is_bounded(clock):
    buckets = Buckets(1, 1.0, 3, clock)
    for key in "abc":
        buckets.take(key)
    clock.now_s += 5
    buckets.take("b")
    buckets.take("d")
    assert len(buckets) == 2
    assert not buckets.take("b")
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets) == 3


def test_an_address_that_only_fails_is_refused_and_others_are_not(door, clock):
    assert sum(door.admit("192.0.2.1") for _ in range(10_000)) == ADDRESS_BURST
    assert door.refused == 10_000 - ADDRESS_BURST
    assert door.admit("192.0.2.2")
    clock.now_s += 10
    assert sum(door.admit("192.0.2.1") for _ in range(100)) == 10 * ADDRESS_PER_S


def test_peers_behind_one_address_are_not_in_each_others_way(door):
    for number in range(1000):
        assert door.admit("192.0.2.1")
        door.passed("192.0.2.1", number.to_bytes(32, "big"))


def test_one_peer_that_connects_over_and_over_is_refused(door):
    passed = 0
    while door.admit("192.0.2.1"):
        door.passed("192.0.2.1", bytes(32))
        passed += 1
    assert passed == PEER_BURST + ADDRESS_BURST


def test_many_addresses_together_have_a_limit_which_does_not_use_up_their_own(door):
    admitted = sum(door.admit(f"10.0.{number // 256}.{number % 256}") for number in range(5000))
    assert admitted == TOTAL_BURST


def test_an_ipv6_network_is_one_address_and_a_mapped_one_is_ipv4(door):
    for number in range(ADDRESS_BURST):
        assert door.admit(f"2001:db8::{number:x}")
    assert not door.admit("2001:db8::ffff:1")
    assert door.admit("2001:db8:0:1::1")
    for _ in range(ADDRESS_BURST):
        assert door.admit("192.0.2.9")
    assert not door.admit("::ffff:192.0.2.9")

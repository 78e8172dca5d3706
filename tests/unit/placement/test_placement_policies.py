"""What nodes say of themselves by each policy."""

import math
from dataclasses import replace

import pytest

from veil.placement.offering import APART, FILL, SPREAD
from veil.placement.policies import COST_MAX, NEVER, POLICIES, PRIORITIES, Standing, Traits, manner_of, score
from veil.wire.objects import Envelope

STANDING = Standing(left_over=0.4, since_last_s=math.inf, holds_same=False, held_of_owner=0)


def envelope(policy, **more):
    return Envelope(kind="Workload", namespace="default", name="web", uid=bytes(16), policy=policy, **more)


def test_bin_packing_goes_by_what_is_asked_and_spreading_wants_the_emptiest():
    full, empty = replace(STANDING, left_over=0.1), replace(STANDING, left_over=0.9)
    assert score(envelope("BinPack"), Traits(), full) is score(envelope("BinPack"), Traits(), empty) is None
    assert score(envelope("Spread"), Traits(), full) > score(envelope("Spread"), Traits(), empty)


def test_priority_comes_before_turn_and_turn_before_chance():
    robin = envelope("PriorityRoundRobin")
    first_just_had_one = score(robin, Traits(priority=0), replace(STANDING, since_last_s=0.0))
    second_never = score(robin, Traits(priority=1), STANDING)
    second_long_ago = score(robin, Traits(priority=1), replace(STANDING, since_last_s=1800.0))
    second_just_now = score(robin, Traits(priority=1), replace(STANDING, since_last_s=1.0))
    assert first_just_had_one <= second_never < second_long_ago < second_just_now < NEVER
    assert score(robin, Traits(priority=PRIORITIES - 1), replace(STANDING, since_last_s=0.0)) < NEVER


def test_the_cheapest_and_the_nearest():
    assert score(envelope("LowestCost"), Traits(cost=10), STANDING) < score(envelope("LowestCost"), Traits(cost=20), STANDING)
    assert score(envelope("LowestCost"), Traits(cost=COST_MAX), STANDING) < NEVER
    near, far = Traits(latencies_ms={"north": 5.0}), Traits(latencies_ms={"north": 80.0})
    towards = envelope("LowestLatency", region="north")
    assert score(towards, near, STANDING) < score(towards, far, STANDING) < score(towards, Traits(), STANDING) < NEVER


@pytest.mark.parametrize("policy", POLICIES)
def test_quota_and_anti_affinity_say_never(policy):
    apart = envelope(policy, anti_affinity=True)
    assert score(apart, Traits(), replace(STANDING, holds_same=True)) == NEVER
    assert score(envelope(policy), Traits(), replace(STANDING, holds_same=True)) != NEVER
    assert score(envelope(policy), Traits(quota=2), replace(STANDING, held_of_owner=2)) == NEVER
    assert score(envelope(policy), Traits(quota=2), replace(STANDING, held_of_owner=1)) != NEVER


def test_a_policy_that_this_node_does_not_know_is_never():
    assert score(envelope("Newer"), Traits(), STANDING) == NEVER


def test_how_replicas_are_handed_out():
    assert manner_of(envelope("BinPack")) == FILL
    assert manner_of(envelope("Spread")) == SPREAD
    assert manner_of(envelope("BinPack", anti_affinity=True)) == APART


@pytest.mark.parametrize("left_over", [-1.0, 0.0, 1.0, 7.0])
def test_a_score_is_always_one(left_over):
    for policy in set(POLICIES) - {"BinPack"}:
        assert 0.0 <= score(envelope(policy), Traits(), replace(STANDING, left_over=left_over)) < NEVER

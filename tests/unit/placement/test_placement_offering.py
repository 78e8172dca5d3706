"""How replicas are handed out down an order, and which members are asked for partials."""

import random

import pytest

from veil.placement.gathering import Gathering, Given
from veil.placement.offering import APART, FILL, SPREAD, Offering, shown_max
from veil.placement.settings import OFFERS_MAX
from veil.wire.rounds import Partial

NODES = ["a", "b", "c", "d", "e", "f"]


def given(member, quorum, evaluation=b"e" * 32):
    partial = Partial(
        round=bytes(16), member=member, members=quorum, evaluation=evaluation, transcript=bytes(32), partial=b"part"
    )
    return Given(partial, None, b"result")


# offering


def test_filling_gives_all_to_the_first_and_moves_what_it_refuses_on():
    offering = Offering(NODES[:3], [0, 1, 2], FILL)
    assert offering.next() == [("a", (0, 1, 2))]
    assert offering.next() == []
    offering.answered("a", (0,))
    assert offering.next() == [("b", (1, 2))]
    offering.answered("b", (1, 2))
    assert offering.over
    assert offering.left == []
    assert offering.refused == {"a"}


def test_spreading_gives_one_to_each_and_begins_again():
    offering = Offering(NODES[:3], range(5), SPREAD)
    assert offering.next() == [("a", (0, 3)), ("b", (1, 4)), ("c", (2,))]
    offering.answered("a", (0, 3))
    offering.answered("b", ())
    assert offering.next() == [("a", (1, 4))]
    offering.answered("c", (2,))
    assert offering.next() == []
    offering.answered("a", (1,))
    assert offering.next() == [("c", (4,))]


def test_a_refused_replica_goes_to_the_node_with_the_fewest():
    offering = Offering(NODES[:3], range(4), SPREAD)
    assert offering.next() == [("a", (0, 3)), ("b", (1,)), ("c", (2,))]
    offering.answered("a", (0, 3))
    offering.answered("b", (1,))
    offering.answered("c", ())
    assert offering.next() == [("b", (2,))]


def test_replicas_that_are_to_be_apart_never_share_a_node():
    offering = Offering(NODES[:2], range(3), APART)
    assert offering.next() == [("a", (0,)), ("b", (1,))]
    offering.answered("a", (0,))
    offering.answered("b", (1,))
    assert offering.next() == []
    assert offering.over
    assert offering.left == [2]


def test_no_more_nodes_see_the_resources_than_replicas_and_refusals_need():
    assert shown_max(1) == OFFERS_MAX
    offering, asked = Offering(NODES, [0], FILL), []
    while not offering.over:
        ((peer, _),) = offering.next()
        asked.append(peer)
        offering.answered(peer, ())
    assert asked == NODES[:OFFERS_MAX]
    assert offering.left == [0]


def test_a_withdrawn_replica_is_not_offered_any_more():
    offering = Offering(NODES, [0, 1], FILL)
    offering.withdraw(1)
    assert offering.next() == [("a", (0,))]


@pytest.mark.parametrize("manner", [FILL, SPREAD, APART])
def test_whatever_nodes_answer_no_replica_is_with_two_of_them(manner):
    for seed in range(300):
        dice = random.Random(seed)
        nodes = NODES[: dice.randint(1, 6)]
        offering, held, under_way, steps = Offering(nodes, range(dice.randint(1, 8)), manner), {}, [], 0
        while not offering.over:
            steps += 1
            assert steps < 100, seed
            under_way += offering.next()
            peer, replicas = under_way.pop(dice.randrange(len(under_way)))
            accepted = tuple(replica for replica in replicas if dice.random() < 0.7)
            for replica in accepted:
                assert held.setdefault(replica, peer) == peer, seed
            assert not any(set(replicas) & set(other) for _, other in under_way), seed
            offering.answered(peer, accepted)
        assert sorted([*held, *offering.left]) == sorted({*held, *offering.left}), seed
        if manner is APART:
            assert len(set(held.values())) == len(held), seed


# gathering


def test_one_more_than_the_threshold_is_asked_where_there_is_one():
    gathering = Gathering(2, [3, 1, 2])
    assert gathering.begin()
    assert gathering.asked == (1, 2, 3)
    alone = Gathering(2, [3, 1])
    assert alone.begin()
    assert alone.asked == (1, 3)
    assert not Gathering(2, [3]).begin()


def test_the_quorum_is_enlarged_once_by_one():
    gathering = Gathering(2, [1, 2, 3, 4, 5])
    gathering.begin()
    gathering.give(given(1, gathering.asked))
    assert gathering.enlarge()
    assert gathering.asked == (1, 2, 3, 4)
    assert gathering.missing == {1, 2, 3, 4}
    assert not gathering.enlarge()


def test_what_was_given_for_another_quorum_or_not_asked_does_not_count():
    gathering = Gathering(2, [1, 2, 3])
    gathering.begin()
    assert not gathering.give(given(1, (1, 2)))
    assert not gathering.give(given(4, gathering.asked))
    assert not gathering.withhold(4)
    assert gathering.missing == {1, 2, 3}


def test_members_that_evaluate_alike_are_counted_together():
    gathering = Gathering(2, [1, 2, 3])
    gathering.begin()
    for member in (1, 3):
        gathering.give(given(member, gathering.asked))
    gathering.give(given(2, gathering.asked, evaluation=b"f" * 32))
    assert list(gathering.agreeing) == [1, 3]
    assert gathering.differing == {2}
    assert gathering.enough
    assert not gathering.whole

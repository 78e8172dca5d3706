"""Two key epochs at once: what was begun in the last one ends in it, and nothing of one is read as the other's."""

from placement_doubles import key_epoch_of, parts_of
from placement_table import Asked

from veil.placement import reasons
from veil.placement.opening import is_member
from veil.wire.rounds import Release, Withheld


def rotate(table, local, number=0, *, overlap=True):
    """The next epoch has another committee: everybody but the first."""
    following = key_epoch_of(table.peers[1:4], 2, epoch=2)
    local.last_epoch = local.epoch if overlap else None
    local.epoch = parts_of(following, table.peers[number])


def asked_after_rotation(table, *, overlap):
    asked = Asked(table)
    request = table.request()
    rotate(table, asked.local, overlap=overlap)
    asked.give_telemetry()
    return asked, asked.ask(request) or asked.wait(10)


def test_a_member_ends_a_round_of_the_last_epoch(table):
    asked, reply = asked_after_rotation(table, overlap=True)
    assert isinstance(reply, Release)
    assert asked.partial(reply).members == (1, 2)
    assert asked.evaluations == 1


def test_after_the_overlap_it_withholds(table):
    asked, reply = asked_after_rotation(table, overlap=False)
    assert isinstance(reply, Withheld)
    assert reply.reason == reasons.EPOCH_DIFFERS
    assert (asked.evaluations, asked.journal.rounds.spent) == (0, {})


def test_a_round_under_way_is_not_given_to_the_other_epochs_evaluator(table):
    """The rotation happens between evaluation and release."""
    asked = Asked(table)
    request = table.request()
    asked.give_telemetry((0, 1, 2))
    assert asked.ask(request) is None
    rotate(table, asked.local)
    last = asked.give_telemetry((3,))
    assert isinstance(last, Release)


def test_parts_are_found_by_their_epoch(table):
    local = table.local(0)
    first = local.epoch
    rotate(table, local)
    assert local.parts_of(1) is first
    assert local.parts_of(2) is local.epoch
    assert local.parts_of(3) is None
    local.last_epoch = None
    assert local.parts_of(1) is None


def test_shares_are_taken_from_members_of_both_committees(table):
    local = table.local(0)
    rotate(table, local)
    assert is_member(local, table.peers[0], 1)
    assert is_member(local, table.peers[1], 1)
    assert not is_member(local, table.peers[3], 1)
    assert not is_member(local, table.peers[3], 4)
    local.last_epoch = None
    assert not is_member(local, table.peers[0], 1)

"""Whom a coordinator leaves out of a round, and which of its reasons a committee member takes."""

import msgspec
import pytest
from placement_table import Asked, Table

from veil.placement import reasons
from veil.placement.checks import MEMBER_CHECKS, exclusions_are_founded
from veil.placement.settings import DEV
from veil.types import RoundId
from veil.wire.rounds import Exclusion, Release, Withheld

LEFT_OUT = 3
"""Holds no share, so that the committee is whole without it."""

FIRST, SECOND = RoundId(b"round number one"), RoundId(b"round number two")


@pytest.fixture
def table():
    return Table()


class Rounds:
    """One member that is asked in a first round with everybody, and in a second one without node LEFT_OUT."""

    def __init__(self, table, *, checks=MEMBER_CHECKS):
        self.table = table
        self.asked = Asked(table, checks=checks)
        self.chosen = set()
        self.asked.member._chosen = lambda round: frozenset(self.chosen) if round == FIRST else frozenset()
        self.peer = table.peers[LEFT_OUT]

    def first(self, *, without=(), **request):
        """What the member answers when telemetry of ``without`` does not come, once its patience is over."""
        table = self.table
        table.round, built = FIRST, table.request(**request)
        self.asked.give_telemetry([number for number in range(4) if number not in without])
        return self.asked.ask(built) or self.asked.wait(10)

    def second(self, reason, *, round=FIRST, word=None):
        """What it answers to a round that leaves the node out; None while it waits."""
        table = self.table
        table.round = SECOND
        table.telemetry.clear()
        candidates = tuple(peer for peer in table.opened().candidates if peer != self.peer)
        why = Exclusion(peer=self.peer, reason=reason, round=round, word=word)
        built = table.request(candidates=candidates, excluded=(self.peer,), exclusions=(why,))
        self.asked.give_telemetry()
        return self.asked.ask(built)

    def withheld(self, number, reason, *, round=FIRST, peer=None):
        return self.table.signed(number, Withheld(round=round, reason=reason, peers=(peer or self.peer,)))


def is_unfounded(table, reply):
    return (reply.reason, reply.peers) == (reasons.EXCLUSION_UNFOUNDED, (table.peers[LEFT_OUT],))


# gone


def test_who_is_gone_here_too_may_be_left_out(table):
    rounds = Rounds(table)
    rounds.asked.local.liveness.dead.add(rounds.peer)
    assert isinstance(rounds.second(reasons.GONE, round=b""), Release)


def test_who_is_alive_here_is_not_gone_but_the_news_may_be_under_way(table):
    rounds = Rounds(table)
    assert rounds.second(reasons.GONE, round=b"") is None
    assert is_unfounded(table, rounds.asked.wait(10))
    table.round = RoundId(b"round number 3..")
    later = Rounds(table)
    assert later.second(reasons.GONE, round=b"") is None
    later.asked.local.liveness.dead.add(later.peer)
    assert isinstance(later.asked.wait(0.1), Release)


# silent


def test_whose_telemetry_did_not_come_may_be_left_out(table):
    rounds = Rounds(table)
    assert rounds.first(without=(LEFT_OUT,)).reason == reasons.TELEMETRY_MISSING
    assert isinstance(rounds.second(reasons.TELEMETRY_MISSING), Release)


def test_a_member_that_said_so_itself_keeps_to_it_also_when_the_telemetry_comes_after_all(table):
    rounds = Rounds(table)
    rounds.first(without=(LEFT_OUT,))
    rounds.asked.give_telemetry((LEFT_OUT,))
    assert isinstance(rounds.second(reasons.TELEMETRY_MISSING), Release)


def test_whose_telemetry_is_here_was_not_silent(table):
    rounds = Rounds(table)
    assert isinstance(rounds.first(), Release)
    assert is_unfounded(table, rounds.second(reasons.TELEMETRY_MISSING))


def test_whose_commitment_was_not_among_the_inputs_was_not_silent(table):
    """Who leaves it out of the inputs cannot make a reason of that."""
    rounds = Rounds(table)
    rounds.first(committed=(0, 1, 2))
    assert is_unfounded(table, rounds.second(reasons.TELEMETRY_MISSING))


# refused


def test_who_was_chosen_and_asked_may_be_said_to_have_refused(table):
    rounds = Rounds(table)
    rounds.first()
    rounds.chosen.add(rounds.peer)
    assert isinstance(rounds.second(reasons.REFUSED), Release)


def test_nobody_refuses_an_offer_whose_keys_were_never_asked_for(table):
    rounds = Rounds(table)
    rounds.first()
    assert is_unfounded(table, rounds.second(reasons.REFUSED))


def test_a_member_that_withheld_cannot_know_whom_the_others_chose(table):
    rounds = Rounds(table)
    rounds.first(without=(2,))
    assert isinstance(rounds.second(reasons.REFUSED), Release)


# a member's word


@pytest.mark.parametrize("reason", [reasons.CIPHERTEXT_REUSED, reasons.BUDGET_EXHAUSTED])
def test_what_only_one_member_sees_counts_by_its_signed_word(table, reason):
    rounds = Rounds(table)
    rounds.first()
    assert isinstance(rounds.second(reason, word=rounds.withheld(2, reason)), Release)


@pytest.mark.parametrize("reason", [reasons.CIPHERTEXT_REUSED, reasons.BUDGET_EXHAUSTED])
@pytest.mark.parametrize("word", ["none", "stranger", "forged", "other round", "other peer", "other reason"])
def test_another_word_counts_for_nothing(table, reason, word):
    rounds = Rounds(table)
    rounds.first()
    good = rounds.withheld(2, reason)
    words = {
        "none": None,
        "stranger": rounds.withheld(LEFT_OUT, reason),
        "forged": msgspec.structs.replace(good, signer=table.peers[1]),
        "other round": rounds.withheld(2, reason, round=SECOND),
        "other peer": rounds.withheld(2, reason, peer=table.peers[0]),
        "other reason": rounds.withheld(2, reasons.TELEMETRY_MISSING),
    }
    assert is_unfounded(table, rounds.second(reason, word=words[word]))


def test_a_member_needs_no_other_s_word_for_what_it_said_itself(table):
    rounds = Rounds(table)
    table.make_telemetry(0)
    table.telemetry[LEFT_OUT] = table.telemetry[0]
    assert rounds.first().reason == reasons.CIPHERTEXT_REUSED
    assert isinstance(rounds.second(reasons.CIPHERTEXT_REUSED), Release)


# the earlier round


@pytest.mark.parametrize("reason", [reasons.REFUSED, reasons.TELEMETRY_MISSING, reasons.CIPHERTEXT_REUSED])
def test_a_round_in_which_this_member_was_not_asked_is_no_reason(table, reason):
    rounds = Rounds(table)
    rounds.chosen.add(rounds.peer)
    assert is_unfounded(table, rounds.second(reason, word=rounds.withheld(2, reason)))


def test_nor_is_the_round_itself(table):
    rounds = Rounds(table)
    assert is_unfounded(table, rounds.second(reasons.TELEMETRY_MISSING, round=SECOND))


def test_a_reason_does_not_last(table):
    rounds = Rounds(table)
    rounds.first(without=(LEFT_OUT,))
    table.clock.time += 2 * DEV.round_s + 1
    assert is_unfounded(table, rounds.second(reasons.TELEMETRY_MISSING))


def test_a_reason_is_one_of_the_same_workload(table):
    rounds = Rounds(table)
    rounds.first(without=(LEFT_OUT,))
    entry = rounds.asked.member._requests[FIRST]
    entry.open = msgspec.structs.replace(entry.open, generation=2)
    assert is_unfounded(table, rounds.second(reasons.TELEMETRY_MISSING))


# the list of reasons itself


def test_each_node_that_is_left_out_has_a_reason(table):
    rounds = Rounds(table)
    candidates = tuple(peer for peer in table.opened().candidates if peer != rounds.peer)
    for exclusions in ((), (Exclusion(peer=table.peers[0], reason=reasons.GONE),)):
        request = table.request(candidates=candidates, excluded=(rounds.peer,), exclusions=exclusions)
        assert rounds.asked.ask(request) is None
    assert rounds.asked.wait(10) is None, "it does not hold together: no answer at all"


def test_the_broken_twin_takes_every_word(table):
    rounds = Rounds(table, checks=[check for check in MEMBER_CHECKS if check is not exclusions_are_founded])
    assert isinstance(rounds.second(reasons.GONE, round=b""), Release)


def test_what_the_coordinator_said_is_kept_with_the_transcript(table):
    rounds = Rounds(table)
    rounds.first(without=(LEFT_OUT,))
    kept = []
    carry_out = rounds.asked.carry_out
    rounds.asked.carry_out = lambda effects: (kept.extend(effects), carry_out(effects))[1]
    rounds.second(reasons.TELEMETRY_MISSING)
    (transcript,) = [effect.transcript for effect in kept if hasattr(effect, "transcript")]
    assert transcript.exclusions == rounds.asked.member._requests[SECOND].request.exclusions

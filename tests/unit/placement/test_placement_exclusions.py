"""Whom a coordinator leaves out of a round, and which of its reasons a committee member takes."""

import msgspec
import pytest
from placement_doubles import CLUSTER
from placement_table import Asked, body_of

from veil.errors import SignatureInvalid, WireInvalid
from veil.placement import reasons
from veil.placement.checks import MEMBER_CHECKS, exclusions_are_founded
from veil.placement.messages import open_passed
from veil.placement.settings import DEV, ROUNDS_HELD_MAX, TELEMETRY_PASSED_MAX
from veil.types import RoundId
from veil.wire.rounds import Commit, Exclusion, Missing, Passed, Release, Withheld

LEFT_OUT = 3
"""Holds no share, so that the committee is whole without it."""

FIRST, SECOND = RoundId(b"round number one"), RoundId(b"round number two")


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


# silent candidates


def test_a_candidate_that_did_not_commit_is_looked_for_and_left_alone(table):
    asked = Asked(table)
    request = table.request(committed=(0, 1, 2))
    asked.look_for(request, 3)
    (passed,) = asked.passed
    assert (passed.peer, open_passed(body_of(passed), CLUSTER)) == (table.peers[3], table.opened())
    asked.give_telemetry()
    assert isinstance(asked.ask(request), Release)


def test_nothing_is_released_without_a_candidate_that_nobody_looked_for(table):
    asked = Asked(table)
    request = table.request(committed=(0, 1, 2))
    asked.look_for(request, 2)
    asked.give_telemetry()
    assert asked.ask(request) is None
    reply = asked.wait(10)
    assert (reply.reason, reply.peers) == (reasons.CANDIDATE_OMITTED, (table.peers[3],))


def test_a_search_takes_time(table):
    """A coordinator that has it look and asks at once gets its answer once a candidate could have answered."""
    asked = Asked(table)
    request = table.request(committed=(0, 1, 2))
    asked.look_for(request, 3)
    table.clock.time -= asked.local.settings.commit_s / 2
    asked.give_telemetry()
    assert asked.ask(request) is None
    assert isinstance(asked.wait(asked.local.settings.commit_s / 4), Release)


@pytest.mark.parametrize(("after", "released"), [(0.2, False), (0.3, True)])
def test_who_answers_in_time_is_passed_on_and_not_silent(table, after, released):
    """In half the time that the coordinator waits: a later answer may have come too late for it, too."""
    asked = Asked(table)
    request = table.request(committed=(0, 1, 2))
    asked.look_for(request, 3)
    commit = Commit(round=table.round, telemetry=bytes(32))
    table.clock.time += (after - 0.5) * asked.local.settings.commit_s
    signed = table.signed(3, commit)
    (passed,) = asked.member.on_commit(table.peers[3], commit, signed)
    assert (passed.peer, body_of(passed)) == (table.peers[table.coordinator], Passed(message=signed))
    assert asked.member.on_commit(table.peers[3], commit, signed) == []
    table.clock.time += asked.local.settings.commit_s
    asked.give_telemetry()
    reply = asked.ask(request)
    assert isinstance(reply, Release if released else Withheld)


def test_only_a_coordinator_of_the_shard_has_members_look_and_once(table):
    asked = Asked(table)
    request = table.request(by=table.last_rank, committed=(0, 1, 2))
    asked.look_for(request, 3)
    assert asked.passed == []
    request = table.request(committed=(0, 1, 2))
    missing = Missing(open=request.open, what="commitments", peers=(table.peers[3],))
    assert asked.member.on_missing(table.peers[3], missing) == [], "it is another's opening"
    asked.look_for(request, 3)
    assert len(asked.passed) == 1
    asked.look_for(request, 3)
    assert asked.passed == []


def test_a_stranger_s_commitment_is_not_passed_on(table):
    asked = Asked(table)
    commit = Commit(round=table.round, telemetry=bytes(32))
    assert asked.member.on_commit(table.peers[3], commit, table.signed(3, commit)) == []


def test_nobody_fills_a_member_s_memory_with_searches(table):
    asked = Asked(table)
    for number in range(100):
        table.round = RoundId(number.to_bytes(16, "big"))
        asked.look_for(table.request(committed=(0, 1, 2)), 3)
    assert len(asked.member._searches) == ROUNDS_HELD_MAX


# telemetry that came to some members only


def test_telemetry_is_asked_of_the_other_members_and_comes_from_them(table):
    lacking, having = Asked(table, 0), Asked(table, 1)
    request = table.request()
    having.give_telemetry()
    lacking.give_telemetry((0, 1, 2))
    assert lacking.ask(request) is None
    assert lacking.wait(0.5) is None
    missing = lacking.wait(0.6)
    assert (missing.what, missing.peers) == ("telemetry", (table.peers[3],))
    assert lacking.wait(0.1) is None, "once"
    (passed,) = having.member.on_missing(table.peers[0], missing)
    assert passed.peer == table.peers[0]
    telemetry = open_passed(body_of(passed), CLUSTER)
    signed = body_of(passed).message
    assert isinstance(lacking.carry_out(lacking.member.on_telemetry(signed.signer, telemetry, signed)), Release)


def test_only_members_get_telemetry_from_members(table):
    having = Asked(table, 1)
    request = table.request()
    having.give_telemetry()
    missing = Missing(open=request.open, what="telemetry", peers=tuple(table.peers))
    assert having.member.on_missing(table.peers[3], missing) == []
    assert len(having.member.on_missing(table.peers[2], missing)) == 4
    assert Asked(table, 3).member.on_missing(table.peers[2], missing) == [], "it is no member"


def test_nobody_fills_a_member_s_memory_with_telemetry_to_pass_on(table):
    asked = Asked(table)
    for number in range(40):
        table.round = RoundId(number.to_bytes(16, "big"))
        table.telemetry.clear()
        for other in range(4):
            table.make_telemetry(other, table.round)
        asked.give_telemetry()
    assert len(asked.member._signed) == TELEMETRY_PASSED_MAX


def test_only_what_candidates_sign_and_openings_are_passed_on(table):
    withheld = table.signed(0, Withheld(round=table.round, reason="x"))
    with pytest.raises(WireInvalid):
        open_passed(Passed(message=withheld), CLUSTER)
    forged = msgspec.structs.replace(table.signed(3, Commit(round=table.round, telemetry=bytes(32))), signer=table.peers[0])
    with pytest.raises(SignatureInvalid):
        open_passed(Passed(message=forged), CLUSTER)

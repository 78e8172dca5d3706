"""One round as its coordinator runs it, from the opening to an acceptance or the end."""

import logging

import msgspec
from placement_table import SMALL, Asked, body_of

from veil.placement import reasons
from veil.placement.coordinator import Round
from veil.placement.effects import Keep, Send
from veil.placement.offering import FILL, SPREAD
from veil.placement.outcome import Failed, candidates_in_order
from veil.wire.rounds import (
    Accept,
    Decline,
    Exclusion,
    KeyRequest,
    Missing,
    Offer,
    Withheld,
)


class Opened:
    """A round as its coordinator runs it, and the members that answer."""

    def __init__(self, table, members=(1, 2, 3), *, replicas=(0,), manner=FILL):
        self.table = table
        self.local = table.local(table.coordinator)
        self.opened = table.opened(replicas=replicas)
        self.round = Round(self.local, self.local.epoch, self.opened, base=0, members=members, manner=manner)
        self.sent = [body_of(effect) for effect in self.round.start()]
        self.kept = []

    def take(self, effects):
        self.kept += [effect.transcript for effect in effects if isinstance(effect, Keep)]
        self.sent = [(effect.peer, body_of(effect)) for effect in effects if isinstance(effect, Send)]
        return self.sent

    def commit_all(self):
        request = self.table.request(opened=self.opened)
        inputs = body_of(Send(b"", request.inputs))
        for signed in inputs.commits:
            self.take(self.round.on_commit(signed.signer, body_of(Send(b"", signed)), signed))
        return [(peer, body) for peer, body in self.sent if type(body).__name__ == "ReleaseRequest"]

    def release(self, requests, *, lie_of=(), spoil=(), other_class=()):
        """What honest members answer, and some that are not: by member, the place of a lie; those that send rubbish."""
        for peer, request in requests:
            number = self.table.peers.index(peer)
            asked = Asked(self.table, number)
            asked.local.epoch.decryptor.lie_at = dict(lie_of).get(number + 1)
            asked.local.epoch.evaluator.other_class = number + 1 in other_class
            asked.give_telemetry()
            release = asked.ask(request)
            partial = asked.partial(release)
            if number + 1 in spoil:
                partial = msgspec.structs.replace(partial, partial=b"rubbish")
            self.take(self.round.on_release(peer, release.partial, partial, release.result))
        return self.sent


def test_winners_come_in_the_beacon_s_order_and_not_at_all_when_none_fits(table):
    opened = table.opened()
    epoch = table.key_epoch
    assert candidates_in_order(epoch, opened, [1, 0, 1, 0, 0]) == [opened.candidates[0], opened.candidates[2]]
    assert candidates_in_order(epoch, opened, [1, 1, 1, 1, 1]) == []
    assert candidates_in_order(epoch, opened, []) == []


def accept_of(table, *replicas, offered=None):
    return Accept(
        round=table.round, offered=offered or replicas, replicas=replicas, salts=(b"s" * 32,) * len(replicas), expires_s=1
    )


def decline_of(table, *replicas):
    return Decline(round=table.round, replicas=replicas, reason=reasons.CAPACITY_SHORT)


def offers(sent):
    return [(peer, body.replicas) for peer, body in sent if isinstance(body, Offer)]


def test_a_round_offers_to_the_first_winner_and_asks_for_its_keys(table):
    opened = Opened(table)
    sent = opened.release(opened.commit_all())
    (offer,) = [(peer, body) for peer, body in sent if isinstance(body, Offer)]
    keys = [body for _, body in sent if isinstance(body, KeyRequest)]
    assert len(keys) == 3
    assert {key.winner for key in keys} == {offer[0]}
    assert offer[1].checked
    opened.round.on_accept(offer[0], accept_of(table, 0))
    (accepted,) = opened.round.accepted()
    assert accepted.leaf.peer == offer[0]
    assert accepted.leaf.checked
    assert opened.round.over
    assert opened.round.failed is None


def test_a_refusal_moves_to_the_next_and_after_three_the_round_is_over(table):
    opened = Opened(table)
    sent = opened.release(opened.commit_all())
    refused = []
    while not opened.round.over:
        ((winner, _),) = offers(sent)
        refused.append(winner)
        sent = opened.take(opened.round.on_decline(winner, decline_of(table, 0)))
    assert len(refused) == 3
    without = tuple(Exclusion(peer=peer, reason=reasons.REFUSED, round=table.round) for peer in sorted(refused))
    assert opened.round.failed == Failed(reasons.CAPACITY_SHORT, "the chosen nodes did not take it", without=without)


def test_what_a_node_does_not_take_goes_to_the_next(table):
    opened = Opened(table, replicas=(0, 1, 2))
    ((first, _),) = offers(opened.release(opened.commit_all()))
    sent = opened.take(opened.round.on_accept(first, accept_of(table, 0, 2, offered=(0, 1, 2))))
    ((second, replicas),) = offers(sent)
    assert second != first
    assert replicas == (1,)
    opened.round.on_accept(second, accept_of(table, 1))
    assert [(one.leaf.replica, one.leaf.peer) for one in opened.round.accepted()] == [(0, first), (2, first), (1, second)]
    assert opened.round.over


def test_a_spread_workload_is_offered_to_all_at_once(table):
    opened = Opened(table, replicas=(0, 1, 2), manner=SPREAD)
    made = offers(opened.release(opened.commit_all()))
    assert [replicas for _, replicas in made] == [(0,), (1,), (2,)]
    assert len({peer for peer, _ in made}) == 3


def test_a_withdrawn_replica_is_not_appended_and_the_last_one_ends_the_round(table):
    opened = Opened(table, replicas=(0, 1))
    ((first, _),) = offers(opened.release(opened.commit_all()))
    opened.round.withdraw(opened.round.key_of(1))
    opened.round.on_accept(first, accept_of(table, 0, 1))
    assert [one.leaf.replica for one in opened.round.accepted()] == [0]
    alone = Opened(table)
    alone.round.withdraw(alone.round.key_of(0))
    assert alone.round.over


def test_an_acceptance_by_another_than_the_one_offered_is_nothing(table):
    opened = Opened(table)
    ((winner, _),) = offers(opened.release(opened.commit_all()))
    other = next(peer for peer in table.peers if peer != winner)
    opened.round.on_accept(other, accept_of(table, 0))
    opened.round.on_accept(winner, accept_of(table, 1))
    wrong = msgspec.structs.replace(accept_of(table, 0), salts=(b"s" * 32, b"t" * 32))
    opened.round.on_accept(winner, wrong)
    assert opened.round.accepted() == []
    assert not opened.round.over


def test_without_the_member_that_checks_the_decision_goes_on_unchecked(table):
    opened = Opened(table)
    requests = opened.commit_all()
    assert len(requests) == 3
    opened.release(requests[:2])
    table.clock.time += opened.local.settings.check_s
    ((winner, _),) = offers(opened.take(opened.round.tick()))
    opened.round.on_accept(winner, accept_of(table, 0))
    (accepted,) = opened.round.accepted()
    assert not accepted.leaf.checked
    assert opened.round.silent == {3}


def test_too_few_members_end_the_round(table):
    opened = Opened(table)
    opened.release(opened.commit_all()[:1])
    table.clock.time += 60
    opened.round.tick()
    assert opened.round.failed.reason == reasons.QUORUM_MISSING
    assert opened.round.silent == {2, 3}


def test_two_members_that_are_left_decide_unchecked(table):
    opened = Opened(table, members=(1, 2))
    ((_, offer),) = [(peer, body) for peer, body in opened.release(opened.commit_all()) if isinstance(body, Offer)]
    assert not offer.checked


def test_a_lie_at_two_of_three_places_nothing(table):
    opened = Opened(table)
    opened.release(opened.commit_all(), lie_of={1: 0})
    assert opened.round.failed.reason == reasons.DECRYPTION_DISPUTED
    assert opened.round.accepted() == []
    (transcript,) = opened.kept
    assert len(transcript.partials) == 3, "the wrong one among them, for whoever finds out whose it is"


def test_a_malformed_partial_counts_as_none(table):
    opened = Opened(table)
    requests = opened.commit_all()
    sent = opened.release(requests, spoil={2})
    ((_, offer),) = [(peer, body) for peer, body in sent if isinstance(body, Offer)]
    assert not offer.checked


def test_a_member_that_evaluates_differently_does_not_count(table):
    opened = Opened(table)
    sent = opened.release(opened.commit_all(), other_class={3})
    ((_, offer),) = [(peer, body) for peer, body in sent if isinstance(body, Offer)]
    assert not offer.checked


def test_who_did_not_deliver_is_left_out_of_the_next_round(table):
    opened = Opened(table)
    opened.commit_all()
    withheld = Withheld(round=table.round, reason=reasons.TELEMETRY_MISSING, peers=(table.peers[3],))
    for number in range(3):
        opened.round.on_withheld(table.peers[number], withheld, table.signed(number, withheld))
    (why,) = opened.round.failed.without
    assert (why.peer, why.reason, why.round) == (table.peers[3], reasons.TELEMETRY_MISSING, table.round)
    assert why.word == table.signed(0, withheld), "in the first member's words"


def test_one_member_that_withholds_does_not_end_a_round(table):
    opened = Opened(table)
    requests = opened.commit_all()
    withheld = Withheld(round=table.round, reason=reasons.TELEMETRY_MISSING, peers=(table.peers[3],))
    opened.round.on_withheld(table.peers[0], withheld, table.signed(0, withheld))
    assert offers(opened.release(requests[1:]))


def test_a_round_without_commitments_is_over(table):
    opened = Opened(table)
    table.clock.time += opened.local.settings.commit_s / 2
    looked = opened.take(opened.round.tick())
    assert [(peer, type(body), body.peers) for peer, body in looked] == [
        (table.peers[number], Missing, opened.opened.candidates) for number in range(3)
    ]
    assert opened.round.tick() == [], "they are asked once"
    table.clock.time += 60
    opened.round.tick()
    assert opened.round.failed.reason == reasons.NO_CANDIDATES


def test_no_log_line_has_a_figure(table, caplog):
    caplog.set_level(logging.DEBUG)
    opened = Opened(table)
    opened.release(opened.commit_all())
    figures = [str(value) for value in (SMALL.cpu_milli, SMALL.memory_bytes, 2000, 8 << 30, 64 << 30)]
    assert not any(figure in record.getMessage() for record in caplog.records for figure in figures)

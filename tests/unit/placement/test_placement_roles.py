"""Candidates and winners: what they take, answer and refuse."""

import math
from dataclasses import replace

import msgspec
import pytest
from placement_doubles import GIB, MemoryJournal, SimpleCapacity, Workload
from placement_table import SMALL, Asked, body_of

from veil.fhe.ports import Figures
from veil.placement import reasons
from veil.placement.append import make_bound
from veil.placement.candidate import Candidate
from veil.placement.effects import AskRenewal, Fetch, Send
from veil.placement.eligibility import anchored
from veil.placement.holdings import Holdings
from veil.placement.policies import Traits
from veil.placement.renewals import Renewals
from veil.types import RoundId
from veil.wire.codec import decode, encode, sha256
from veil.wire.merkle import leaf_hash
from veil.wire.objects import Resources, SealedPart
from veil.wire.rounds import (
    Accept,
    Commit,
    Decline,
    Inputs,
    KeyShare,
    Leaf,
    LeafBatch,
    Offer,
    RenewReply,
    Telemetry,
)

HUGE = Figures(cpu_milli=4000, memory_bytes=GIB, disk_bytes=GIB, gpu_count=0)
KEEP = RenewReply(keep=True, informed=True)


class Winner:
    """Node 3 as candidate and winner."""

    def __init__(self, table, number=3, journal=None, capacity=None):
        self.table, self.number = table, number
        self.local = table.local(number)
        self.journal = journal or MemoryJournal()
        self.capacity = capacity or table.capacity()
        self.renewals = Renewals(self.local)
        self.holdings = Holdings(self.local, self.journal.bindings, self.capacity, self.renewals)
        self.candidate = Candidate(self.local, self.capacity, self.holdings, self.journal.counters)
        self.coordinator = table.peers[table.coordinator]

    def open(self, **changes):
        opened = self.table.opened(**changes)
        return self.candidate.on_open(self.coordinator, opened, self.table.signed(self.table.coordinator, opened))

    def offer(self, *, shares=(1, 2), opened=None, transcript=b"t" * 32):
        """An offer and the key shares; gives back the answer."""
        opened = opened or self.table.opened()
        signed = self.table.signed(self.table.coordinator, opened)
        self.candidate.on_open(self.coordinator, opened, signed)
        effects = self.candidate.on_offer(
            self.coordinator, Offer(open=signed, transcript=transcript, place=0, replicas=opened.replicas, checked=True)
        )
        for member in shares:
            effects += self.candidate.on_key_share(self.table.peers[member - 1], self.share(member, opened))
        return self.answers(effects)

    def share(self, member, opened):
        digest = self.table.workload.resources
        part = decode(self.table.workload.blobs[digest], SealedPart)
        share = self.table.identities[member - 1].open(part.shares[member - 1])
        return KeyShare(round=opened.round, piece="resources", part=digest, member=member, share=share)

    def answers(self, effects):
        found = []
        for effect in effects:
            if isinstance(effect, Fetch):
                content = self.table.workload.blobs.get(effect.digest)
                found += self.answers(self.candidate.on_content(effect.digest, content))
                found += self.answers(self.holdings.on_content(effect.digest, content))
            elif isinstance(effect, Send):
                found.append(body_of(effect))
        return found

    def leaf(self):
        return decode(self.holdings.bindings()[0].leaf, Leaf)

    def append(self, leaf=None, sequence=1, sender=None):
        """The coordinator's append as the chain shows it, and its proof."""
        bound = make_bound(self.table.shard, sequence, [leaf or self.leaf()], 0)
        batch = LeafBatch(shard=self.table.shard, sequence=sequence, leaves=(leaf_hash(bound.leaf),))
        self.table.workload.blobs[sha256(encode(batch))] = encode(batch)
        sender = sender or f"operator-{self.table.coordinator}"
        self.table.view.append(self.table.shard, sequence, bound.root, data=sha256(encode(batch)), sender=sender)
        return bound

    def states(self):
        return [binding.state for binding in self.holdings.bindings()]

    def look(self):
        return self.answers(self.holdings.look_again())


@pytest.fixture
def winner(table):
    return Winner(table)


# telemetry


def test_a_commitment_first_and_the_telemetry_once_it_is_listed(table, winner):
    commit = body_of(winner.open()[0])
    assert isinstance(commit, Commit)
    signed = table.signed(3, commit)
    sent = winner.candidate.on_inputs(winner.coordinator, Inputs(round=table.round, commits=(signed,)))
    assert [effect.peer for effect in sent] == table.peers[:3]
    telemetry = body_of(sent[0])
    assert isinstance(telemetry, Telemetry)
    assert sha256(telemetry.vector) == commit.telemetry


def test_telemetry_that_is_never_used_looks_like_a_round_s_and_comes_on_time(table, winner):
    winner.candidate._cover_s = 0.0
    first = winner.candidate.tick()
    assert [effect.peer for effect in first] == table.peers[:3], "the committee's"
    assert winner.candidate.tick() == []
    table.clock.time += winner.local.settings.cover_tick_s
    again = winner.candidate.tick()
    commit = body_of(winner.open()[0])
    inputs = Inputs(round=table.round, commits=(table.signed(3, commit),))
    real = winner.candidate.on_inputs(winner.coordinator, inputs)
    assert {len(encode(effect.message)) for effect in (*first, *again, *real)} == {len(encode(real[0].message))}
    assert body_of(first[0]).vector != body_of(again[0]).vector


def test_telemetry_that_is_never_used_is_not_kept_and_opens_no_round(table, winner):
    asked = Asked(table)
    (cover, *_) = winner.candidate.tick()
    assert asked.member.on_telemetry(table.peers[3], body_of(cover), cover.message) == []
    assert asked.member._telemetry == {}
    assert winner.open(round=body_of(cover).round) == []


def test_no_telemetry_for_inputs_without_its_commitment(table, winner):
    winner.open()
    other = table.signed(3, Commit(round=table.round, telemetry=bytes(32)))
    assert winner.candidate.on_inputs(winner.coordinator, Inputs(round=table.round, commits=(other,))) == []
    assert winner.candidate.on_inputs(winner.coordinator, Inputs(round=table.round, commits=())) == []


def test_no_telemetry_for_inputs_by_another(table, winner):
    commit = body_of(winner.open()[0])
    inputs = Inputs(round=table.round, commits=(table.signed(3, commit),))
    assert winner.candidate.on_inputs(table.peers[table.ranks[1]], inputs) == []


def test_every_round_gets_another_ciphertext_of_one_size(table, winner):
    first = body_of(winner.open()[0])
    assert body_of(winner.open()[0]) == first
    second = body_of(winner.open(round=RoundId(b"round number two"))[0])
    assert first.telemetry != second.telemetry
    assert len({len(answered.vector) for answered in winner.candidate._rounds.values()}) == 1


@pytest.mark.parametrize("changes", [{"expires_s": 1}, {"epoch": 7}, {"candidates": (bytes(32),)}, {"term": 99}, {"shard": 15}])
def test_openings_that_are_not_for_it_are_not_answered(winner, changes):
    assert winner.open(**changes) == []


def test_only_ranked_nodes_are_answered(table, winner):
    opened = table.opened()
    last = table.last_rank
    assert winner.candidate.on_open(table.peers[last], opened, table.signed(last, opened)) == []


# offers


def test_it_reserves_journals_and_accepts(winner):
    (accept,) = winner.offer()
    assert isinstance(accept, Accept)
    (binding,) = winner.journal.bindings.all()
    assert (binding.state, binding.bound) == ("reserved", b"")
    assert decode(binding.resources, Resources).containers["main"].cpu_milli == SMALL.cpu_milli
    assert winner.capacity.free().cpu_milli == 1500
    assert accept.salts == (winner.leaf().salt,)


def test_the_promise_is_in_the_journal_before_the_answer(winner):
    def fails(binding):
        raise OSError("the disk is full")

    winner.journal.bindings.put = fails
    with pytest.raises(OSError, match="full"):
        winner.offer()
    assert winner.holdings.bindings() == []


def test_shares_may_come_before_the_offer(table, winner):
    opened = table.opened()
    signed = table.signed(table.coordinator, opened)
    winner.candidate.on_open(winner.coordinator, opened, signed)
    for member in (1, 2):
        assert winner.candidate.on_key_share(table.peers[member - 1], winner.share(member, opened)) == []
    effects = winner.candidate.on_offer(
        winner.coordinator, Offer(open=signed, transcript=bytes(32), place=0, replicas=(0,), checked=True)
    )
    assert isinstance(winner.answers(effects)[0], Accept)


def test_too_few_shares_end_in_a_decline(table, winner):
    assert winner.offer(shares=(1,)) == []
    table.clock.time += 60
    (decline,) = [body_of(e) for e in winner.candidate.tick() if isinstance(e, Send)][:1]
    assert decline == Decline(round=table.round, replicas=(0,), reason=reasons.KEY_UNAVAILABLE)


def test_a_share_by_another_than_its_member_is_not_taken(table, winner):
    opened = table.opened()
    winner.offer(shares=(1,), opened=opened)
    assert winner.candidate.on_key_share(table.peers[2], winner.share(2, opened)) == []
    assert winner.journal.bindings.all() == []


def test_a_wrong_share_waits_for_a_third(table, winner):
    opened = table.opened()
    winner.offer(shares=(1,), opened=opened)
    bad = msgspec.structs.replace(winner.share(2, opened), share=b"x" * len(winner.share(2, opened).share))
    assert winner.candidate.on_key_share(table.peers[1], bad) == []
    assert winner.journal.bindings.all() == []


def test_what_does_not_fit_exactly_is_declined_without_a_figure(table):
    table.workload = Workload("web", 3, HUGE, table.peers[:3], 2)
    table.view.add(*table.workload.rows())
    winner = Winner(table)
    (decline,) = winner.offer()
    assert decline == Decline(round=table.round, replicas=(0,), reason=reasons.CAPACITY_SHORT)
    assert winner.journal.bindings.all() == []


def test_a_repeated_offer_gets_the_same_answer(table, winner):
    opened = table.opened()
    first = winner.offer(opened=opened)
    again = winner.candidate.on_offer(
        winner.coordinator,
        Offer(open=table.signed(table.coordinator, opened), transcript=b"t" * 32, place=0, replicas=(0,), checked=True),
    )
    assert winner.answers(again) == first
    assert len(winner.journal.bindings.all()) == 1


# bindings


def test_it_is_bound_by_the_log_and_not_by_a_message(winner):
    winner.offer()
    bound = make_bound(winner.table.shard, 1, [winner.leaf()], 0)
    winner.answers(winner.holdings.on_bound(winner.coordinator, bound))
    assert winner.states() == ["reserved"]
    winner.append()
    winner.look()
    assert winner.states() == ["bound"]


def test_it_finds_its_leaf_without_a_message(winner):
    winner.offer()
    winner.append()
    winner.look()
    winner.look()
    assert winner.states() == ["bound"]


def test_an_append_by_an_unranked_operator_is_ignored(table, winner):
    winner.offer()
    bound = winner.append(sender=f"operator-{table.last_rank}")
    winner.answers(winner.holdings.on_bound(winner.coordinator, bound))
    winner.look()
    assert winner.states() == ["reserved"]
    assert not winner.holdings.bindings()[0].bound


def test_a_proof_of_another_leaf_is_refused(winner):
    winner.offer()
    other = msgspec.structs.replace(winner.leaf(), salt=bytes(32))
    bound = winner.append(leaf=other)
    (reply,) = winner.answers(winner.holdings.on_bound(winner.coordinator, bound))
    assert reply.reason == reasons.RELEASED


def test_a_wrong_proof_is_not_taken(winner):
    winner.offer()
    bound = winner.append()
    winner.table.workload.blobs.clear()
    wrong = msgspec.structs.replace(bound, proof=(bytes(32),))
    winner.answers(winner.holdings.on_bound(winner.coordinator, wrong))
    assert not winner.holdings.bindings()[0].bound


def test_a_reservation_that_is_over_is_let_go_for_good(table, winner):
    winner.offer()
    leaf = winner.leaf()
    table.clock.time += winner.local.settings.reserve_s
    bound = winner.append(leaf=leaf)
    winner.look()
    assert winner.holdings.bindings() == []
    assert winner.capacity.free() == winner.capacity.total()
    (reply,) = winner.answers(winner.holdings.on_bound(winner.coordinator, bound))
    assert reply == Decline(round=table.round, replicas=(0,), reason=reasons.RELEASED)


def test_it_starts_only_at_the_policy_s_finality(table):
    table.view.final_lag = 3
    winner = Winner(table)
    winner.local.settings = replace(winner.local.settings, finality="finalized")
    winner.offer()
    winner.append()
    winner.look()
    assert winner.states() == ["reserved"]
    assert winner.holdings.bindings()[0].bound
    table.view.block += 3
    winner.look()
    assert winner.states() == ["bound"]


def test_after_a_restart_nothing_starts_before_a_coordinator_s_word(table, winner):
    table.view.final_lag = 3
    winner.local.settings = replace(winner.local.settings, finality="finalized")
    winner.offer()
    winner.append()
    winner.look()
    again = Winner(table, journal=winner.journal)
    table.view.block += 3
    again.look()
    assert again.states() == ["reserved"]
    key = next(iter(again.holdings._held))
    again.answers(again.holdings.on_renew_reply(key, winner.coordinator, RenewReply(keep=True)))
    assert again.states() == ["reserved"]
    again.answers(again.holdings.on_renew_reply(key, winner.coordinator, KEEP))
    assert again.states() == ["bound"]


def bound_winner(winner):
    winner.offer()
    winner.append()
    winner.look()
    winner.look()
    (key,) = winner.holdings._held
    return key


def test_a_restarted_node_still_has_its_binding_and_its_room(table, winner):
    bound_winner(winner)
    again = Winner(table, journal=winner.journal)
    assert again.states() == ["bound"]
    assert again.capacity.free().cpu_milli == 1500


@pytest.mark.parametrize("appended", [True, False])
def test_what_no_longer_fits_after_a_restart_is_counted_all_the_same(table, winner, appended):
    """The machine has become smaller, or the operator gives less of it: the room is gone, and nothing more is promised."""
    if appended:
        bound_winner(winner)
    else:
        winner.offer()
    again = Winner(table, journal=winner.journal, capacity=SimpleCapacity(table.clock, replace(SMALL, cpu_milli=400)))
    assert again.capacity.free().cpu_milli < 0
    if not appended:
        table.clock.time += again.local.settings.reserve_s + 1
        again.look()
        assert again.capacity.free().cpu_milli == 400, "a reservation that ended gives its room back"


def test_a_restarted_node_remembers_its_turn(table, winner):
    assert winner.candidate._standing(anchored(table.view, table.workload.id)).since_last_s == math.inf
    winner.offer()
    table.clock.time += 90
    again = Winner(table, journal=winner.journal)
    assert again.candidate._standing(anchored(table.view, table.workload.id)).since_last_s == 90


def test_renewals_go_to_all_ranks_and_homes_at_a_cadence(table, winner):
    table.view.home_peers = {table.workload.id: (table.peers[table.last_rank],)}
    bound_winner(winner)
    table.clock.time += 1.0
    asked = [effect.peer for effect in winner.holdings.look_again() if isinstance(effect, AskRenewal)]
    assert asked == [table.peers[number] for number in (*table.ranks[:3], table.last_rank)]
    assert [e for e in winner.holdings.look_again() if isinstance(e, AskRenewal)] == []


def test_only_a_coordinator_ends_a_binding(table, winner):
    key = bound_winner(winner)
    stop = RenewReply(keep=False, reason=reasons.SUPERSEDED)
    winner.holdings.on_renew_reply(key, table.peers[table.last_rank], stop)
    assert winner.states() == ["bound"]
    winner.holdings.on_renew_reply(key, winner.coordinator, stop)
    assert winner.states() == ["superseded"]
    assert winner.capacity.free().cpu_milli == 1500
    winner.holdings.release(key)
    assert winner.holdings.bindings() == []
    assert winner.capacity.free() == winner.capacity.total()


def test_a_reorg_that_replaces_the_append_ends_the_binding(table, winner):
    bound_winner(winner)
    table.view.append(table.shard, 1, bytes(32), sender=f"operator-{table.coordinator}")
    winner.look()
    assert winner.states() == ["superseded"]


def test_an_offer_of_what_it_holds_is_declined(table, winner):
    bound_winner(winner)
    table.round = RoundId(b"round number two")
    answers = winner.offer(opened=table.opened())
    assert answers[0] == Decline(round=table.round, replicas=(0,), reason=reasons.ALREADY_BOUND)


# several replicas in one offer


def test_it_takes_as_many_replicas_as_fit_exactly(table):
    table.workload = Workload("web", 6, SMALL, table.peers[:3], 2)
    table.view.add(*table.workload.rows())
    winner = Winner(table)
    (accept,) = winner.offer(opened=table.opened(replicas=(0, 1, 2, 3, 4, 5)))
    assert accept.offered == (0, 1, 2, 3, 4, 5)
    assert accept.replicas == (0, 1, 2, 3), "2000 milli-cores take four of 500"
    assert len(set(accept.salts)) == 4
    assert [binding.replica for binding in winner.journal.bindings.all()] == [0, 1, 2, 3]
    assert {decode(binding.leaf, Leaf).checked for binding in winner.journal.bindings.all()} == {True}


def test_what_it_holds_already_is_left_out_of_an_acceptance(table, winner):
    bound_winner(winner)
    table.round = RoundId(b"round number two")
    answers = winner.offer(opened=table.opened(replicas=(0, 1)))
    (accept,) = [answer for answer in answers if isinstance(answer, Accept)]
    assert accept.replicas == (1,)


@pytest.mark.parametrize("traits", [Traits(), Traits(quota=2)])
def test_what_policy_forbids_by_now_is_refused_at_the_offer(table, traits):
    """Two rounds may have asked the node before it held anything."""
    table.workload = Workload("web", 6, SMALL, table.peers[:3], 2, apart=not traits.quota)
    table.view.add(*table.workload.rows())
    winner = Winner(table)
    winner.local.traits = traits
    (accept,) = winner.offer(opened=table.opened(replicas=(0, 1, 2)))
    assert accept.replicas == ((0, 1) if traits.quota else (0,))
    table.round = RoundId(b"round number two")
    (decline,) = winner.offer(opened=table.opened(replicas=(3, 4)))
    assert (decline.reason, decline.replicas) == (reasons.CAPACITY_SHORT, (3, 4))


def test_a_second_offer_in_one_round_is_of_other_replicas(table):
    winner = Winner(table)
    opened = table.opened(replicas=(0, 1, 2))
    signed = table.signed(table.coordinator, opened)
    taken = []
    for replicas in ((0,), (1, 2)):
        offer = Offer(open=signed, transcript=bytes(32), place=0, replicas=replicas, checked=True)
        effects = winner.candidate.on_offer(winner.coordinator, offer)
        for member in (1, 2):
            effects += winner.candidate.on_key_share(table.peers[member - 1], winner.share(member, opened))
        taken += winner.answers(effects)
    assert [accept.replicas for accept in taken] == [(0,), (1, 2)]


def test_replicas_that_the_round_is_not_about_are_not_answered(table, winner):
    signed = table.signed(table.coordinator, table.opened())
    offer = Offer(open=signed, transcript=bytes(32), place=0, replicas=(1,), checked=True)
    assert winner.candidate.on_offer(winner.coordinator, offer) == []


def test_an_opening_waits_for_its_workload_to_be_seen(table, winner):
    rows = {key: table.view.objects.pop(key) for key in list(table.view.objects)}
    table.view.objects |= rows
    opened = table.opened()
    signed = table.signed(table.coordinator, opened)
    table.view.objects.clear()
    assert winner.candidate.on_open(winner.coordinator, opened, signed) == []

    def commits():
        return [effect.peer for effect in winner.candidate.tick() if isinstance(body_of(effect), Commit)]

    assert commits() == []
    table.view.objects |= rows
    assert commits() == [winner.coordinator]

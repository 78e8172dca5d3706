"""The coordinator's parts one by one: ranking, logs, appends, leases, back-off, one round."""

import logging
import random
from dataclasses import replace

import msgspec
import pytest
from placement_doubles import CLUSTER, DiceRandom, MemoryJournal, Reports, StaticView, node_row
from placement_table import SMALL, Asked, Table, body_of

from veil.errors import ConfigInvalid
from veil.placement import reasons
from veil.placement.acting import Acting
from veil.placement.append import ShardAppends, Waiting, leaf_is_appended, proves
from veil.placement.backlog import Backlog
from veil.placement.coordinator import Round
from veil.placement.core import Core
from veil.placement.effects import Append, Keep, Send
from veil.placement.leases import LeaseTable
from veil.placement.offering import FILL, SPREAD
from veil.placement.outcome import Accepted, Failed, candidates_in_order
from veil.placement.ports import ReplicaKey, Wanted
from veil.placement.ranking import Ranking, order, shard_of, term_of
from veil.placement.settings import DEV, DISPUTES_MAX, LAN, PRESETS, PlacementSettings
from veil.placement.tails import LogTail
from veil.types import SHARDS
from veil.wire.codec import encode
from veil.wire.rounds import (
    Accept,
    Decline,
    Exclusion,
    Exclusions,
    Inputs,
    InstanceStatus,
    KeyRequest,
    Leaf,
    Missing,
    Offer,
    Renew,
    Withheld,
)
from veil.wire.signed import open_signed


@pytest.fixture
def table():
    return Table()


def leaf_of(table, number=3, *, replica=0, salt=b"s"):
    return Leaf(
        salt=salt * 32,
        object_id=table.workload.id,
        generation=1,
        replica=replica,
        round=table.round,
        epoch=1,
        transcript=bytes(32),
        peer=table.peers[number],
        checked=True,
    )


# settings


@pytest.mark.parametrize("settings", PRESETS.values())
def test_a_reservation_ends_and_is_heard_of_within_a_lease(settings):
    assert settings.reserve_s + 2 * settings.renew_s <= settings.lease_s
    assert settings.offer_s + settings.commit_s + 2 * settings.release_s <= settings.round_s


def test_figures_that_would_allow_a_second_binding_are_refused():
    with pytest.raises(ConfigInvalid):
        replace(DEV, reserve_s=DEV.lease_s)
    assert isinstance(LAN, PlacementSettings)


# ranking


def test_everybody_ranks_alike_and_each_shard_differently(table):
    members = tuple(table.peers)
    firsts = {order(shard, 3, members, b"seed")[0] for shard in range(SHARDS)}
    assert order(5, 3, members, b"seed") == order(5, 3, members[::-1], b"seed")
    assert len(firsts) > 1


def test_losing_a_member_moves_only_its_own_shards(table):
    members = tuple(table.peers)
    for shard in range(SHARDS):
        before = order(shard, 1, members, b"")
        after = order(shard, 1, members[:3], b"")
        assert [peer for peer in before if peer != members[3]] == list(after)


def test_a_cluster_younger_than_a_term_ranks_who_is_active(table):
    view = StaticView(table.peers, block=3)
    view.members = ()
    view.node_rows[2] = node_row(2, table.peers[2], proven=False)
    ranking = Ranking(view, b"c" * 32)
    assert set(ranking.ranks(0, 0)) == {table.peers[0], table.peers[1], table.peers[3]}
    assert ranking.counts(view.append(0, 1, bytes(32), sender="operator-3"))
    assert not ranking.counts(view.append(0, 2, bytes(32), sender="operator-9"))


def test_shards_are_spread(table):
    dice = random.Random(2)
    assert {shard_of(dice.randbytes(32)) for _ in range(400)} == set(range(SHARDS))
    assert term_of(255) == 0
    assert term_of(256) == 1


# logs


def test_a_tail_follows_appends_and_reorgs(table):
    tail = LogTail(table.view, 1)
    assert tail.advance() == []
    table.view.append(1, 1, b"a" * 32, block=250)
    table.view.append(1, 2, b"b" * 32, block=252)
    assert [row.sequence for row in tail.advance()] == [1, 2]
    assert tail.advance() == []
    del table.view.logs[1][2]
    assert tail.advance() == []
    assert tail.sequence == 1
    table.view.append(1, 2, b"c" * 32, block=253)
    assert [row.root for row in tail.advance()] == [b"c" * 32]
    assert [row.sequence for row in tail.since(253)] == [2]
    assert [row.sequence for row in tail.after(1)] == [2]


def acting_of(table, number):
    local = table.local(number)
    acting = Acting(local)
    acting.view_changed()
    acting.tick()
    return local, acting


def test_the_first_rank_acts_and_the_second_after_a_timeout(table):
    _, first = acting_of(table, table.ranks[0])
    local, second = acting_of(table, table.ranks[1])
    assert first.is_acting(table.shard)
    assert not second.is_acting(table.shard)
    local.liveness.dead.add(table.peers[table.ranks[0]])
    second.tick()
    assert not second.is_acting(table.shard)
    table.clock.time += local.settings.stand_in_s
    second.tick()
    assert second.is_acting(table.shard)
    local.liveness.dead.clear()
    second.tick()
    assert not second.is_acting(table.shard)


def test_a_new_coordinator_listens_only_for_what_it_cannot_know(table):
    local, acting = acting_of(table, table.coordinator)
    assert acting.may_place(table.shard, 250)
    table.view.append(table.shard, 1, b"x" * 32, sender=f"operator-{table.ranks[1]}", block=251)
    assert acting.view_changed() == [table.shard]
    assert not acting.may_place(table.shard, 250)
    assert acting.may_place(table.shard, 252)
    table.clock.time += local.settings.lease_s
    assert acting.may_place(table.shard, 250)
    acting.own[table.shard, 2] = b"y" * 32
    table.view.append(table.shard, 2, b"y" * 32, sender=f"operator-{table.coordinator}", block=252)
    assert acting.view_changed() == []


# appends


def appends_of(table):
    local = table.local(table.coordinator)
    return local, ShardAppends(local, table.shard)


def accepted(table, local, leaf, seconds=6):
    return Accepted(leaf, local.wall_s() + seconds, proof=None)


def test_waiting_leaves_are_appended_in_one_batch(table):
    local, appends = appends_of(table)
    for replica in range(3):
        appends.add(Waiting(accepted(table, local, leaf_of(table, replica=replica)), 0))
    (effect,) = appends.next(0)
    assert (effect.sequence, effect.count) == (1, 3)
    assert appends.next(0) == []
    landed = appends.on_answer(1, "appended")
    assert all(proves(bound) and bound.root == effect.root for bound in landed.bounds)


def test_a_leaf_decided_before_another_s_append_is_dropped(table):
    local, appends = appends_of(table)
    appends.add(Waiting(accepted(table, local, leaf_of(table)), 0))
    appends.news = 1
    assert appends.next(1) == []
    assert ReplicaKey(table.workload.id, 1, 0) not in appends


def test_a_leaf_whose_reservation_ends_is_dropped(table):
    local, appends = appends_of(table)
    appends.add(Waiting(accepted(table, local, leaf_of(table), seconds=1), 0))
    assert appends.next(0) == []


def test_a_conflict_is_decided_by_what_the_log_shows(table):
    local, appends = appends_of(table)
    appends.add(Waiting(accepted(table, local, leaf_of(table)), 0))
    (effect,) = appends.next(0)
    assert appends.on_answer(1, "conflict") is None
    assert appends.next(0) == []
    table.view.append(table.shard, 1, effect.root)
    assert appends.settle().bounds[0].leaf == leaf_of(table)


def test_a_conflict_with_another_s_append_drops_the_batch(table):
    local, appends = appends_of(table)
    appends.add(Waiting(accepted(table, local, leaf_of(table)), 0))
    appends.next(0)
    table.view.append(table.shard, 1, bytes(32))
    assert appends.on_answer(1, "conflict") is None
    assert ReplicaKey(table.workload.id, 1, 0) not in appends


def test_an_append_without_an_answer_is_repeated_as_it_is_and_given_up_in_the_end(table):
    local, appends = appends_of(table)
    appends.add(Waiting(accepted(table, local, leaf_of(table)), 0))
    (first,) = appends.next(0)
    appends.on_answer(1, "unknown")
    table.clock.time += 1
    (again,) = appends.next(0)
    assert isinstance(again, Append)
    assert again == first
    table.clock.time += 10
    assert appends.next(0) == []
    assert appends.give_up() == 1


# leases


def renew_of(table, bound, **status):
    return Renew(bound=bound, status=InstanceStatus(phase="Running", **status))


def landed(table, local, leaf, sequence=1):
    appends = ShardAppends(local, table.shard, last_own=sequence - 1)
    appends.add(Waiting(accepted(table, local, leaf), 0))
    appends.next(sequence - 1)
    bound = appends.on_answer(sequence, "appended").bounds[0]
    table.view.append(table.shard, sequence, bound.root, sender=f"operator-{table.coordinator}")
    return bound


def test_a_lease_lives_by_renewals_and_ends_by_silence(table):
    local = table.local(table.coordinator)
    leases = LeaseTable(local)
    bound = landed(table, local, leaf_of(table))
    assert leases.heard(table.peers[3], renew_of(table, bound))
    table.clock.time += local.settings.lease_s
    assert leases.expired() == []
    local.liveness.dead.add(table.peers[3])
    assert leases.expired() == [ReplicaKey(table.workload.id, 1, 0)]


def test_a_silent_node_that_is_alive_is_given_more_time_but_not_forever(table):
    local = table.local(table.coordinator)
    leases = LeaseTable(local)
    leases.heard(table.peers[3], renew_of(table, landed(table, local, leaf_of(table))))
    table.clock.time += 3 * local.settings.lease_s
    assert len(leases.expired()) == 1


def test_of_two_holders_the_later_append_wins(table):
    local = table.local(table.coordinator)
    leases = LeaseTable(local)
    old = landed(table, local, leaf_of(table, 3), 1)
    new = landed(table, local, leaf_of(table, 2, salt=b"t"), 2)
    assert leases.heard(table.peers[3], renew_of(table, old))
    assert leases.heard(table.peers[2], renew_of(table, new))
    assert not leases.heard(table.peers[3], renew_of(table, old))
    assert leases.reply(renew_of(table, old), acting=False, informed=False).reason == reasons.SUPERSEDED
    assert leases.reply(renew_of(table, new), acting=True, informed=True).keep


def test_a_renewal_of_another_s_binding_or_without_its_append_counts_for_nothing(table):
    local = table.local(table.coordinator)
    leases = LeaseTable(local)
    bound = landed(table, local, leaf_of(table))
    assert not leases.heard(table.peers[2], renew_of(table, bound))
    del table.view.logs[table.shard]
    assert not leaf_is_appended(local, bound)
    assert not leases.heard(table.peers[3], renew_of(table, bound))
    assert leases.reply(renew_of(table, bound), acting=True, informed=True).keep


@pytest.mark.parametrize("change", ["deleted", "fewer", "retired"])
def test_what_is_not_wanted_is_told_to_stop_by_the_coordinator_only(table, change):
    local = table.local(table.coordinator)
    leases = LeaseTable(local)
    bound = landed(table, local, leaf_of(table, replica=2))
    renew = renew_of(table, bound)
    if change == "deleted":
        del table.view.objects[2, table.workload.id]
    elif change == "fewer":
        table.workload.replicas = 1
        table.view.add(*table.workload.rows())
    else:
        leases.retire(ReplicaKey(table.workload.id, 1, 2))
    assert leases.reply(renew, acting=False, informed=False).keep
    assert not leases.reply(renew, acting=True, informed=True).keep


# back-off


def test_attempts_are_spaced_out_exponentially_up_to_a_limit(table):
    local = table.local(0)
    backlog = Backlog(replace_random(local))
    backlog.set_wanted([Wanted(table.workload.id, 1, 0, "team", "web")])
    ((entry,),) = backlog.due()
    pauses = []
    for _ in range(12):
        backlog.later(entry, "as it is")
        pauses.append(entry.due_s - table.clock.time)
    assert pauses[0] < 2 * local.settings.backoff_min_s
    assert pauses == sorted(pauses) or max(pauses) <= 1.25 * local.settings.backoff_max_s
    assert backlog.due() == []
    backlog.reconsider(entry, "as it is")
    assert backlog.due() == []
    backlog.reconsider(entry, "a node more")
    assert backlog.due() == [[entry]]


def replace_random(local):
    local.random = DiceRandom(random.Random(1))
    return local


# one round


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


# the whole desk


def core_of(table, number):
    reports = Reports()
    local = table.local(number)
    core = Core(local, MemoryJournal(), table.capacity(), reports)
    core.look_again(view_changed=True)
    return core, reports


def wanted(table):
    return [Wanted(table.workload.id, 1, index, "team", "web") for index in range(table.workload.replicas)]


def test_one_round_places_all_replicas_of_a_workload(table):
    core, _ = core_of(table, table.coordinator)
    core.desk.set_wanted(wanted(table))
    core.look_again()
    (round,) = core.desk._rounds.values()
    assert round.open.replicas == (0, 1, 2)


def test_a_round_waits_a_moment_for_the_workload_s_other_replicas(table):
    core, _ = core_of(table, table.coordinator)
    core.desk.set_wanted(wanted(table)[:2])
    core.look_again()
    assert core.desk._rounds == {}
    core.desk.set_wanted(wanted(table))
    core.look_again()
    (round,) = core.desk._rounds.values()
    assert round.open.replicas == (0, 1, 2)


def test_it_does_not_wait_long_for_replicas_that_nobody_asks_for(table):
    core, _ = core_of(table, table.coordinator)
    core.desk.set_wanted(wanted(table)[:2])
    table.clock.time += core.local.settings.gather_s
    core.look_again()
    assert [round.open.replicas for round in core.desk._rounds.values()] == [(0, 1)]
    core.desk.set_wanted(wanted(table))
    table.clock.time += core.local.settings.gather_s
    core.look_again()
    assert len(core.desk._rounds) == 1, "one round at a time for one workload"


def select(table, **labels):
    table.workload.selector = labels
    table.view.add(*table.workload.rows())


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        (reasons.EPOCH_MISSING, lambda table, core: setattr(core.local, "epoch", None)),
        (
            reasons.DEMAND_NOT_IN_EPOCH,
            lambda table, core: table.view.objects.pop(next(key for key in table.view.objects if key[0] == 6)),
        ),
        (reasons.QUORUM_MISSING, lambda table, core: core.local.liveness.dead.update(table.peers[:3])),
        (reasons.NO_CANDIDATES, lambda table, core: select(table, zone="nowhere")),
    ],
)
def test_what_keeps_a_replica_unplaced_is_shown_once(table, reason, spoil):
    core, reports = core_of(table, table.coordinator)
    spoil(table, core)
    if core.local.peer in core.local.liveness.dead and core.local.epoch.decryptor is not None:
        core.local.epoch = replace(core.local.epoch, decryptor=None)
    core.desk.set_wanted(wanted(table)[:1])
    for _ in range(5):
        table.clock.time += core.local.settings.gather_s
        core.look_again()
    assert reports.history == [reason]


def test_a_home_node_hears_why_a_replica_waits(table):
    home = table.peers[table.last_rank]
    table.view.home_peers = {table.workload.id: (home,)}
    core, _ = core_of(table, table.coordinator)
    core.local.epoch = None
    core.desk.set_wanted(wanted(table)[:1])
    table.clock.time += core.local.settings.gather_s
    told = [effect for effect in core.look_again() if isinstance(effect, Send) and effect.protocol == "pending/1"]
    assert [effect.peer for effect in told] == [home]
    at_home, reports = core_of(table, table.last_rank)
    at_home.receive_pending(core.local.peer, encode(told[0].message))
    assert reports.history == [reasons.EPOCH_MISSING]


def test_another_generation_or_too_high_a_replica_is_not_placed(table):
    core, _ = core_of(table, table.coordinator)
    core.desk.set_wanted([Wanted(table.workload.id, 2, 0, "team", "web"), Wanted(table.workload.id, 1, 99, "team", "web")])
    core.look_again()
    assert core.desk._rounds == {}


def test_no_log_line_has_a_figure(table, caplog):
    caplog.set_level(logging.DEBUG)
    opened = Opened(table)
    opened.release(opened.commit_all())
    figures = [str(value) for value in (SMALL.cpu_milli, SMALL.memory_bytes, 2000, 8 << 30, 64 << 30)]
    assert not any(figure in record.getMessage() for record in caplog.records for figure in figures)


def left_after(table, core, reason, **failed):
    """The only open round fails for ``reason``, and what the desk does then."""
    (round,) = core.desk._rounds.values()
    round._fail(Failed(reason, **failed))
    return core._shown(core.desk._after(round))


def test_when_none_fits_the_next_round_rounds_in_favour_of_fitting_and_then_it_waits(table):
    core, _ = core_of(table, table.coordinator)
    core.desk.set_wanted(wanted(table))
    core.look_again()
    assert left_after(table, core, reasons.NO_NODE_FITS) == []
    core.look_again()
    (round,) = core.desk._rounds.values()
    assert round.open.optimistic
    assert round.open.replicas == (0, 1, 2)
    left_after(table, core, reasons.NO_NODE_FITS)
    core.look_again()
    assert core.desk._rounds == {}
    table.clock.time += 60
    core.look_again()
    (round,) = core.desk._rounds.values()
    assert not round.open.optimistic


def test_whom_members_see_alive_is_asked_in_the_next_round(table):
    core, _ = core_of(table, table.coordinator)
    lost = table.peers[table.last_rank]
    core.local.liveness.dead.add(lost)
    core.desk.set_wanted(wanted(table))
    core.look_again()
    (round,) = core.desk._rounds.values()
    assert (round.open.excluded, lost in round.open.candidates) == ((lost,), False)
    for peer in round.open.candidates:
        round.on_commit(peer, None, table.signed(table.peers.index(peer), Inputs(round=round.id, commits=())))
    for number in range(3):
        withheld = Withheld(round=round.id, reason=reasons.EXCLUSION_UNFOUNDED, peers=(lost,))
        core.desk.on_withheld(table.peers[number], withheld, table.signed(number, withheld))
    core.look_again()
    (again,) = core.desk._rounds.values()
    assert (again.open.excluded, lost in again.open.candidates) == ((), True)


def test_disputes_without_end_are_waited_for(table):
    core, reports = core_of(table, table.coordinator)
    core.desk.set_wanted(wanted(table))
    for _ in range(DISPUTES_MAX + 1):
        core.look_again()
        left_after(table, core, reasons.EXCLUSION_UNFOUNDED, disputed=frozenset(table.peers[3:]))
    core.look_again()
    assert core.desk._rounds == {}
    assert reports.history[-1] == reasons.QUORUM_MISSING
    table.clock.time += 60
    core.look_again()
    (round,) = core.desk._rounds.values()
    assert round.open.excluded == ()


def test_reasons_are_those_of_the_round_before(table):
    core, _ = core_of(table, table.coordinator)
    core.desk.set_wanted(wanted(table))
    core.look_again()
    first = next(iter(core.desk._rounds))
    why = Exclusion(peer=table.peers[3], reason=reasons.REFUSED, round=first)
    left_after(table, core, reasons.CAPACITY_SHORT, without=(why,))
    core.look_again()
    (round,) = core.desk._rounds.values()
    exclusions = open_signed(round._signed_exclusions, CLUSTER, Exclusions)
    assert (exclusions.round, exclusions.exclusions, round.open.excluded) == (round.id, (why,), (table.peers[3],))


def spent(table, peers):
    return tuple(Exclusion(peer=peer, reason=reasons.BUDGET_EXHAUSTED, round=table.round) for peer in peers)


def test_candidates_whose_decisions_are_used_up_are_left_out_and_named_as_the_reason(table):
    core, reports = core_of(table, table.coordinator)
    core.desk.set_wanted(wanted(table))
    core.look_again()
    left_after(table, core, reasons.BUDGET_EXHAUSTED, without=spent(table, table.peers[1:]))
    core.look_again()
    (round,) = core.desk._rounds.values()
    assert round.open.candidates == (table.peers[0],)
    left_after(table, core, reasons.NO_NODE_FITS)
    core.look_again()
    left_after(table, core, reasons.NO_NODE_FITS)
    assert reports.history[-1] == reasons.BUDGET_EXHAUSTED


def test_when_all_candidates_are_used_up_the_keys_are_to_be_rotated(table):
    core, reports = core_of(table, table.coordinator)
    core.desk.set_wanted(wanted(table))
    core.look_again()
    left_after(table, core, reasons.BUDGET_EXHAUSTED, without=spent(table, table.peers))
    core.look_again()
    assert core.desk._rounds == {}
    assert reports.history[-1] == reasons.BUDGET_EXHAUSTED


def test_a_namespace_at_its_limit_waits_until_that_is_raised(table):
    core, reports = core_of(table, table.coordinator)
    table.view.namespace_limit = 5
    core.desk.set_wanted(wanted(table))
    core.look_again()
    left_after(table, core, reasons.NAMESPACE_LIMIT)
    core.look_again()
    assert (core.desk._rounds, reports.history[-1]) == ({}, reasons.NAMESPACE_LIMIT)
    table.view.namespace_limit = 50
    core.look_again(view_changed=True)
    assert core.desk._rounds, "it is tried again at once"


def test_a_named_liar_is_asked_last(table):
    core, _ = core_of(table, table.coordinator)
    before = core.desk._members(core.local.epoch)
    core.desk._liars.add((1, before[0]))
    assert core.desk._members(core.local.epoch) == [*before[1:], before[0]]


def test_a_cluster_s_profile_decides_the_circuit(table):
    core, reports = core_of(table, table.coordinator)
    table.view.profile_name = "precise"
    core.desk.set_wanted(wanted(table))
    core.look_again()
    assert core.desk._rounds == {}
    assert reports.history[-1] == reasons.EPOCH_MISSING
    table.view.profile_name = None
    table.clock.time += 60
    core.look_again()
    assert reports.history[-1] == reasons.POLICY_UNREADABLE


def test_spread_replicas_are_placed_one_a_round_where_nothing_ranks(table):
    table.workload.policy = "Spread"
    table.view.add(*table.workload.rows())
    core, _ = core_of(table, table.coordinator)
    epoch = core.local.epoch.key_epoch
    choosing = tuple(circuit for circuit in epoch.circuits if circuit.shape == "choose")
    core.local.epoch = replace(core.local.epoch, key_epoch=msgspec.structs.replace(epoch, circuits=choosing))
    core.desk.set_wanted(wanted(table))
    core.look_again()
    assert [round.open.replicas for round in core.desk._rounds.values()] == [(0,)]

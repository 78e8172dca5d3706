"""What a coordinator keeps between rounds: appends that land or do not, leases, and attempts that are spaced out."""

import random
from dataclasses import replace

import pytest
from placement_doubles import DiceRandom

from veil.errors import ConfigInvalid
from veil.placement import reasons
from veil.placement.append import ShardAppends, Waiting, leaf_is_appended, proves
from veil.placement.backlog import Backlog
from veil.placement.effects import Append
from veil.placement.leases import LeaseTable
from veil.placement.outcome import Accepted
from veil.placement.ports import ReplicaKey, Wanted
from veil.placement.settings import DEV, LAN, PRESETS, PlacementSettings
from veil.wire.rounds import (
    InstanceStatus,
    Leaf,
    Renew,
)


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


@pytest.mark.parametrize("settings", PRESETS.values())
def test_a_reservation_ends_and_is_heard_of_within_a_lease(settings):
    assert settings.reserve_s + 2 * settings.renew_s <= settings.lease_s
    assert settings.offer_s + settings.commit_s + 2 * settings.release_s <= settings.round_s


def test_figures_that_would_allow_a_second_binding_are_refused():
    with pytest.raises(ConfigInvalid):
        replace(DEV, reserve_s=DEV.lease_s)
    assert isinstance(LAN, PlacementSettings)


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

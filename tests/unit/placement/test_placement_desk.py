"""The whole desk: which rounds are opened, for which replicas, and what is shown when none places them."""

from dataclasses import replace

import msgspec
import pytest
from placement_doubles import CLUSTER, MemoryJournal, Reports

from veil.placement import reasons
from veil.placement.core import Core
from veil.placement.effects import Send
from veil.placement.outcome import Failed
from veil.placement.ports import Wanted
from veil.placement.settings import DISPUTES_MAX
from veil.wire.codec import encode
from veil.wire.rounds import (
    Exclusion,
    Exclusions,
    Inputs,
    Withheld,
)
from veil.wire.signed import open_signed


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

"""Whose turn it is: ranks by term, the log that they follow, and who acts when somebody is silent."""

import random

from placement_doubles import StaticView, node_row

from veil.placement.acting import Acting
from veil.placement.ranking import Ranking, order, shard_of, term_of
from veil.placement.tails import LogTail
from veil.types import SHARDS


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

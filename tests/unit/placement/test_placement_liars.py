"""Whole clusters with committee members that lie about decryptions: what is decided stays true, and the liar is named.

The world knows every true decision, because fake results are in clear, and looks at every offer on its way. A failure names
its seed.
"""

import pytest
from placement_doubles import use_cheap_signatures
from placement_world import HISTORIES as ALL
from placement_world import Faults, World, seeds
from test_placement_simulated import NoFaults, caught

from veil.fhe.quorum import subsets
from veil.placement import reasons

HISTORIES = ALL // 3
HEADER_BYTES = 29
"""Of a fake result; a byte for each bit follows."""
LIAR = 1
"""Node 1, who is member 2."""


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    use_cheap_signatures(monkeypatch)


def lies(node):
    """Flips one bit, another one each time, in all subsets or in some."""
    if node.number != LIAR:
        return
    decryptor, dice = node.core.local.epoch.decryptor, node.world.dice
    honest = decryptor.partial

    def partial(result, quorum):
        mine = subsets(tuple(quorum), decryptor.threshold, decryptor.member)
        decryptor.lie_at = dice.randrange(len(result) - HEADER_BYTES)
        decryptor.lie_in = dice.choice([None, mine[:1], mine])
        return honest(result, quorum)

    decryptor.partial = partial


def believes_the_first(node):
    """The broken twin: opens with the first threshold members and calls it checked."""
    lies(node)
    combiner = node.core.local.epoch.combiner
    honest = combiner.open

    def open_with_the_first(result, quorum, partials):
        first = dict(sorted(partials.items())[: combiner.threshold])
        opened = honest(result, quorum, first)
        return type(opened)(bits=opened.bits, checked=True, liars=())

    combiner.open = open_with_the_first


def wide(seed, customise, **more):
    """Five members of which three decrypt: enough to name a liar."""
    return World(seed, nodes=6, committee=5, threshold=3, customise=customise, **more)


def narrow(seed, customise, **more):
    """Three members of which two decrypt: enough to notice a lie, not to name the liar."""
    return World(seed, customise=customise, **more)


def test_with_five_members_a_liar_changes_nothing_and_is_named():
    named = 0
    for seed in seeds(HISTORIES):
        world = wide(seed, lies, faults=NoFaults(), quiet_at=0)
        world.run()
        liars = {liar for node in world.nodes if node.core for liar in node.core.desk._liars}
        assert liars <= {(1, LIAR + 1)}, seed
        named += bool(liars)
        assert world.offers.get(False, 0) == 0, seed
    assert named > HISTORIES // 3


def test_with_five_members_a_liar_changes_nothing_in_a_hostile_world():
    for seed in seeds(HISTORIES):
        wide(seed, lies, faults=Faults(World(seed).dice, scale=0.5)).run(until_s=200)


def test_with_three_members_lies_are_noticed_and_nothing_is_placed_by_them():
    disputed = 0
    for seed in seeds(HISTORIES):
        world = narrow(seed, lies, faults=NoFaults(), quiet_at=0)
        world.run(until_s=25, must_settle=False)
        disputed += any(reasons.DECRYPTION_DISPUTED in node.reports.history for node in world.nodes)
    assert disputed > HISTORIES // 2


def test_without_the_liar_the_other_two_go_on_unchecked():
    world = narrow(5, lies, faults=NoFaults(), quiet_at=0, killed=((LIAR, 10.0, 1e9),))
    world.run(until_s=200)
    assert world.offers[False] > 0


def test_a_combiner_that_believes_anybody_is_found_out():
    def world(seed):
        return wide(seed, believes_the_first, faults=NoFaults(), quiet_at=0)

    assert caught(world, "does not name", until_s=25, must_settle=False) is not None


# policies


def nodes_of(world, workload):
    held = [(node.number, binding.replica) for node in world.nodes for binding in node.journal.bindings.all()]
    keys = [(node.number, b.replica) for node in world.nodes for b in node.journal.bindings.all() if b.object_id == workload.id]
    assert len(keys) <= len(held)
    return [number for number, _ in keys]


@pytest.mark.parametrize("seed", range(4))
def test_spreading_puts_one_on_each_node(seed):
    world = World(seed, replicas=(4,), policy="Spread", faults=NoFaults(), quiet_at=0)
    world.run()
    assert sorted(nodes_of(world, world.workloads[0])) == [0, 1, 2, 3], seed


@pytest.mark.parametrize("seed", range(4))
def test_packing_fills_one_node(seed):
    world = World(seed, replicas=(4,), faults=NoFaults(), quiet_at=0)
    world.run()
    assert len(set(nodes_of(world, world.workloads[0]))) == 1, seed


def test_replicas_that_are_apart_stay_so_in_a_hostile_world():
    for seed in seeds(HISTORIES // 2):
        world = World(seed, replicas=(3, 2), apart=True)
        world.run(until_s=200)
        for workload in world.workloads:
            numbers = nodes_of(world, workload)
            assert len(set(numbers)) == len(numbers), seed

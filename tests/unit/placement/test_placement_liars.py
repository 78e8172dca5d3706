"""Whole clusters with committee members that lie about decryptions: what is decided stays true, and the liar is named.

The world knows every true decision, because fake results are in clear, and looks at every offer on its way. A failure names
its seed.
"""

import msgspec
import pytest
from placement_doubles import GIB, identity_of, use_cheap_signatures
from placement_nodes import HISTORIES as ALL
from placement_nodes import Faults, seeds
from placement_world import World
from test_placement_simulated import NoFaults, caught

from veil.fhe.ports import Figures
from veil.fhe.quorum import subsets
from veil.placement import desk, reasons
from veil.placement.checks import MEMBER_CHECKS, exclusions_are_founded, silence_is_heard
from veil.placement.coordinator import Phase, Round
from veil.placement.outcome import Failed
from veil.wire.rounds import Exclusion, Withheld

HISTORIES = ALL // 3
HEADER_BYTES = 29
"""Of a fake result; a byte for each bit follows."""
HALF = Figures(cpu_milli=1000, memory_bytes=8 * GIB, disk_bytes=64 * GIB, gpu_count=0)
"""Room for two replicas a node."""
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
        assert world.watch.offers.get(False, 0) == 0, seed
    assert named > HISTORIES // 3


def test_with_five_members_a_liar_changes_nothing_in_a_hostile_world():
    for seed in seeds(HISTORIES):
        wide(seed, lies, faults=Faults(World(seed).dice, scale=0.5)).run(until_s=200)


def test_one_member_more_than_needed_evaluates_and_another_only_when_one_is_silent():
    world = wide(3, None, faults=NoFaults(), quiet_at=0)
    world.run(until_s=60)
    assert {len(nodes) for nodes in world.watch.evaluated.values()} == {4}

    def mute(node):
        if node.number == LIAR:
            node.core.member.on_evaluated = lambda round, result: []

    world = wide(3, mute, faults=NoFaults(), quiet_at=0)
    world.run(until_s=60)
    assert {len(nodes) for nodes in world.watch.evaluated.values()} <= {4, 5}
    assert any(len(nodes) == 5 for nodes in world.watch.evaluated.values())
    assert world.watch.offers.get(False, 0) == 0, "four answer in the end"


def test_one_node_that_holds_the_whole_key_decides_and_says_that_nobody_checked():
    world = World(2, committee=1, threshold=1, faults=NoFaults(), quiet_at=0)
    world.run(until_s=60)
    assert world.watch.offers.keys() == {False}
    for seed in seeds(HISTORIES // 3):
        World(seed, committee=1, threshold=1).run()


def test_with_three_members_lies_are_noticed_and_nothing_is_placed_by_them():
    disputed = 0
    for seed in seeds(HISTORIES):
        world = narrow(seed, lies, faults=NoFaults(), quiet_at=0)
        world.run(until_s=12, must_settle=False)
        disputed += any(reasons.DECRYPTION_DISPUTED in node.reports.history for node in world.nodes)
    assert disputed > HISTORIES // 2


def test_without_the_liar_the_other_two_go_on_unchecked():
    world = narrow(5, lies, faults=NoFaults(), quiet_at=0, killed=((LIAR, 10.0, 1e9),))
    world.run(until_s=200)
    assert world.watch.offers[False] > 0


def test_a_combiner_that_believes_anybody_is_found_out():
    def world(seed):
        return wide(seed, believes_the_first, faults=NoFaults(), quiet_at=0)

    assert caught(world, "does not name", until_s=25, must_settle=False) is not None


# coordinators that leave a node out on a pretext

EVIL = 1
VICTIM = 3


def excludes(monkeypatch, reason):
    """Node EVIL lets a first round of each workload go to waste, and leaves node VICTIM out of the next as if that showed why."""
    first = {}

    def make(local, parts, opened, **rest):
        victim = identity_of(VICTIM).peer_id
        if local.peer != World.evil_peer or victim not in opened.candidates:
            return Round(local, parts, opened, **rest)
        if reason != reasons.GONE and opened.object_id not in first:
            first[opened.object_id] = opened.round
            wasted = Round(local, parts, opened, **rest)
            wasted._open_result = lambda: wasted._fail(Failed(reasons.QUORUM_MISSING))
            return wasted
        round = first.get(opened.object_id, b"")
        word = Withheld(round=round or bytes(16), reason=reason, peers=(victim,))
        why = Exclusion(peer=victim, reason=reason, round=round, word=local.sign(word))
        exclusions = sorted([*rest["exclusions"], why], key=lambda one: one.peer)
        candidates = tuple(peer for peer in opened.candidates if peer != victim)
        changed = msgspec.structs.replace(opened, candidates=candidates, excluded=tuple(one.peer for one in exclusions))
        return Round(local, parts, changed, **(rest | {"exclusions": exclusions}))

    monkeypatch.setattr(desk, "Round", make)


def takes_every_reason(node):
    node.core.member._checks = [check for check in MEMBER_CHECKS if check is not exclusions_are_founded]


@pytest.mark.parametrize(
    ("reason", "match"),
    [
        (reasons.GONE, "as gone that the member sees alive"),
        (reasons.REFUSED, "refused no offer"),
        (reasons.TELEMETRY_MISSING, "as silent whose telemetry the member has"),
    ],
)
def test_nobody_is_left_out_of_a_round_on_a_pretext(monkeypatch, reason, match):
    excludes(monkeypatch, reason)

    def world(customise, **more):
        return lambda seed: World(seed, customise=customise, evil=EVIL, replicas=(2, 1) * 3, **more)

    calm = {"faults": NoFaults(), "quiet_at": 0}
    assert caught(world(takes_every_reason, **calm), match, until_s=40, must_settle=False) is not None
    for seed in seeds(HISTORIES // 3):
        world(None)(seed).run(until_s=25, must_settle=False)


def ignores(monkeypatch, *, looks):
    """Node EVIL neither tells node VICTIM of rounds nor takes its commitment; ``looks``: it has members look for it as is due."""
    victim = identity_of(VICTIM).peer_id

    class Deaf(Round):
        def start(self):
            return [effect for effect in super().start() if effect.peer != victim]

        def on_commit(self, signer, commit, signed):
            effects = [] if signer == victim else super().on_commit(signer, commit, signed)
            silent = self.phase is Phase.COMMITTING and set(self.open.candidates) - set(self._commits) == {victim}
            return effects + (self._close() if silent and not looks else [])

        def _look_for_commits(self):
            return super()._look_for_commits() if looks else []

    def make(local, parts, opened, **rest):
        return (Deaf if local.peer == World.evil_peer else Round)(local, parts, opened, **rest)

    monkeypatch.setattr(desk, "Round", make)


def believes_in_silence(node):
    node.core.member._checks = [check for check in MEMBER_CHECKS if check is not silence_is_heard]


@pytest.mark.parametrize(("looks", "match"), [(False, "nobody looked for"), (True, "whose commitment the member has")])
def test_nobody_is_made_silent(monkeypatch, looks, match):
    ignores(monkeypatch, looks=looks)

    def world(customise, **more):
        return lambda seed: World(seed, customise=customise, evil=EVIL, replicas=(2, 1) * 3, **more)

    calm = {"faults": NoFaults(), "quiet_at": 0}
    assert caught(world(believes_in_silence, **calm), match, until_s=40, must_settle=False) is not None
    for seed in seeds(HISTORIES // 3):
        world(None)(seed).run(until_s=25, must_settle=False)


def test_a_node_that_its_coordinator_cannot_hear_is_heard_by_way_of_others():
    """From node 3 to node 1 nothing gets through; it still gets replicas of the workloads that node 1 places."""
    world = World(4, faults=NoFaults(), quiet_at=0, capacity=HALF, replicas=(4, 4), cut=((VICTIM, EVIL),))
    world.run(until_s=60, must_settle=False)
    evil, victim = world.nodes[EVIL], world.nodes[VICTIM]
    decided = [entry for entry in evil.core.member._requests.values() if entry.coordinator == evil.peer and entry.result]
    assert decided
    assert all(victim.peer in entry.commits for entry in decided)


def test_a_candidate_that_serves_some_members_only_is_one_that_serves_all():
    """It sends its telemetry to one of three members; that one gives it to the others."""

    def choosy(node):
        if node.number == VICTIM:
            to_committee = node.core.candidate._to_committee
            node.core.candidate._to_committee = lambda *round: to_committee(*round)[:1]

    world = World(4, customise=choosy, faults=NoFaults(), quiet_at=0, capacity=HALF, replicas=(4, 4))
    world.run(until_s=60)
    assert any(binding for binding in world.nodes[VICTIM].journal.bindings.all())
    assert reasons.QUORUM_MISSING not in [reason for node in world.nodes for reason in node.reports.history]


def test_an_honest_coordinator_asks_whom_others_see_alive():
    """It alone holds a node to be gone, for ever: that costs a round that the others refuse, and no placement."""

    def blind(node):
        if node.number == EVIL:
            gone = node.gone
            node.core.local.liveness = Blind(gone, node.world.peers[VICTIM])

    world = World(4, customise=blind, faults=NoFaults(), quiet_at=0, capacity=HALF, replicas=(4, 4))
    world.run(until_s=30, must_settle=False)
    rounds = world.nodes[0].core.member._requests.values()
    mine = [entry for entry in rounds if entry.coordinator == world.peers[EVIL]]
    assert [bool(entry.open.excluded) for entry in mine] == [True, False], "one that leaves it out, and one that asks it"


class Blind:
    def __init__(self, gone, peer):
        self._gone, self._peer = gone, peer

    def gone(self, peer):
        return peer == self._peer or self._gone(peer)


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

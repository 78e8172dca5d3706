"""Whole clusters in virtual time under every fault that the simulator knows, and broken twins that it must find out.

A failure names its seed: ``World(seed).run()`` replays it. VEIL_SIM_HISTORIES sets how many histories are tried, VEIL_SIM_SEED
where they begin (`make soak-rounds`).
"""

from dataclasses import replace

import msgspec
import pytest
from placement_doubles import CIRCUITS, CLUSTER, use_cheap_signatures
from placement_nodes import HISTORIES, Broken, Faults, seeds
from placement_world import World

from veil.placement import desk, reasons
from veil.placement.append import ShardAppends
from veil.placement.checks import (
    MEMBER_CHECKS,
    candidates_are_complete,
    circuit_is_registered,
    telemetry_is_fresh,
    telemetry_is_here,
)
from veil.placement.coordinator import Round
from veil.placement.effects import ROUND, Append, AskRenewal, Send
from veil.placement.messages import open_any
from veil.placement.renewals import binding_key
from veil.wire.codec import Message, encode
from veil.wire.rounds import Bound, Inputs, KeyRequest, Offer, Open, ReleaseRequest

TWIN_HISTORIES = 40
"""Within how many histories a broken twin must be found out."""

EVIL = 1
"""The node that is told to cheat."""


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    use_cheap_signatures(monkeypatch)


class NoFaults(Faults):
    def __init__(self, **some):
        for name in ("lose", "repeat", "late", "forge", "crash", "die", "answer_lost", "tx_lost", "reorg", "false_death"):
            setattr(self, name, some.get(name, 0))
        self.lag_s = some.get("lag_s", 0.1)


def caught(make_world, match, first=0, **run):
    """Whether one of some histories breaks the invariant, tried from ``first`` on: the one that did when this was written."""
    for seed in range(first, first + TWIN_HISTORIES):
        world = make_world(seed)
        try:
            world.run(**run)
        except Broken as broken:
            world.broken = str(broken)
        if world.broken:
            assert match in world.broken, world.broken
            return seed
    return None


# honest nodes, hostile world


def test_a_peaceful_cluster_places_everything_in_seconds():
    world = World(1, faults=NoFaults(), quiet_at=0)
    world.run(until_s=40, settled_s=1)
    assert world.now - world.began < 25, "a term changes on the way: its new coordinators listen for a lease"


@pytest.mark.parametrize("part", range(6))
def test_never_two_live_bindings_and_all_are_bound_when_the_faults_stop(part):
    for seed in seeds()[part::6]:
        World(seed).run()


def test_confidential_workloads_in_a_hostile_world():
    for seed in seeds(HISTORIES // 6):
        World(seed, confidential=True).run()


def test_a_history_is_replayed_from_its_seed():
    first, second = World(7), World(7)
    first.run()
    second.run()
    assert first.now == second.now
    appends = [[(row.shard, row.sequence, row.sender, row.block) for row in w.chain.rows(10**6)] for w in (first, second)]
    assert appends[0] == appends[1]


# nodes that are drained

DRAINED = 2


def watch_the_hand_over(node):
    """Notes for every replica of the drained node whether somebody else was ready for it when it was told to stop."""
    holdings, world = node.core.holdings, node.world
    end = holdings._end

    def ends(key, reason):
        if node.number == DRAINED and world.drains and holdings._held[key].state == "bound":
            others = [other for other in world.nodes if other is not node and other.core is not None]
            ready = any(binding_key(binding) == key for other in others for binding in other.journal.bindings.all())
            world.handed_over.append((key, ready, reason))
        return end(key, reason)

    holdings._end = ends


def test_a_drained_node_hands_over_one_replica_after_the_other():
    handed_over = []
    for seed in range(6):
        world = World(seed, customise=watch_the_hand_over, faults=NoFaults(lag_s=0.3), quiet_at=0, drained=DRAINED)
        world.run(until_s=60, settled_s=2)
        handed_over += world.handed_over
    assert handed_over, "nothing ran on it"
    assert all(ready and reason == reasons.SUPERSEDED for _, ready, reason in handed_over)


def test_a_node_is_drained_in_a_hostile_world():
    for seed in seeds(HISTORIES // 3):
        World(seed, drained=DRAINED).run()


def test_a_confidential_workload_is_handed_over():
    for seed in seeds(HISTORIES // 6):
        World(seed, drained=DRAINED, confidential=True).run()


def believes_its_append(node):
    """Takes its append for the word that nobody else holds the replica, as if no holder had been left."""
    reserved = node.core.holdings.reserved
    node.core.holdings.reserved = lambda binding, held=False: reserved(binding)


def forgets_who_held(node):
    """Tells a winner that it is alone as soon as it has asked."""
    leases = node.core.leases
    reply = leases.reply
    leases.reply = lambda renew, acting, informed: (leases._earlier.clear(), reply(renew, acting=acting, informed=informed))[1]


@pytest.mark.parametrize("broken", [believes_its_append, forgets_who_held])
def test_a_broken_hand_over_is_found_out(broken):
    def world(customise):
        return lambda seed: World(seed, customise=customise, faults=NoFaults(lag_s=0.3), quiet_at=0, drained=DRAINED)

    seed = caught(world(broken), "two live bindings", until_s=60)
    assert seed is not None
    world(None)(seed).run()


# broken coordinators and winners


def never_listens(node):
    acting = node.core.desk.acting
    acting.may_place = lambda shard, since_block: acting.is_acting(shard)


def all_ranks_act(node):
    """Three coordinators at once, each sure that it is the only one: not broken, only the worst case."""
    node.core.desk.acting._should_act = lambda above, now: True


def appends_what_is_stale(node):
    """Takes no notice of others' appends, and when it meets one, appends behind it."""
    all_ranks_act(node)
    never_listens(node)
    node.core.desk._stale = lambda shard: None
    answer, next_ = ShardAppends.on_answer, ShardAppends.next

    def on_append(shard, sequence, outcome):
        appends = node.core.desk._appends[shard]
        flight = appends._flight
        if outcome == "conflict" and flight is not None:
            appends._flight, appends._queue = None, flight.batch + appends._queue
            return []
        return node.core.desk._landed(shard, answer(appends, sequence, outcome))

    def next_append(shard):
        appends = node.core.desk._shard(shard)
        appends._queue = [replace(waiting, base=appends.news) for waiting in appends._queue]
        return next_(appends, node.view.log(shard)[-1].sequence if node.view.log(shard) else 0)

    node.core.desk.on_append = on_append
    node.core.desk._next = next_append


def starts_on_old_knowledge(node):
    node.core.holdings._is_sole = lambda progress: True


def forgets_leases(node):
    node.core.desk.leases.get = lambda key: None


def never_replaces(node):
    node.core.leases.expired = list


def never_stops(node):
    node.core.holdings.on_renew_reply = lambda key, peer, reply: []


def forgets_its_promises(node):
    """Accepts without a journal entry that survives."""
    node.journal.bindings.put = lambda binding: None


AWAY = ((2, 6.0, 40.0), (3, 6.0, 40.0))
MANY = (2, 1, 1, 1)
"""Rounds of several workloads: one round places all replicas of one."""
LOST = ((2, 6.0, 1e9),)
RENEWED_AND_AWAY = {"falls": lambda node, effect: isinstance(effect, AskRenewal), "fallen_s": 20.0}
"""Appended, not final yet, and then away for longer than a lease."""


@pytest.mark.parametrize(
    ("broken", "faults", "more"),
    [
        (never_listens, {"crash": 0.05, "lag_s": 1.0}, {"replicas": MANY}),
        (appends_what_is_stale, {}, {}),
        (starts_on_old_knowledge, {"lag_s": 1.0}, RENEWED_AND_AWAY),
        (forgets_leases, {}, {}),
        (never_replaces, {}, {"killed": LOST}),
        (never_stops, {}, {"killed": AWAY}),
        (forgets_its_promises, {}, {}),
    ],
)
def test_a_broken_twin_is_found_out(broken, faults, more):
    def world(customise):
        return lambda seed: World(seed, customise=customise, faults=NoFaults(**faults), **more)

    seed = caught(world(broken), "", until_s=45)
    assert seed is not None
    world(None)(seed).run()


def test_three_coordinators_at_once_are_held_apart_by_the_log():
    for seed in range(6):
        World(seed, customise=all_ranks_act, faults=NoFaults(lag_s=1.0)).run(until_s=200)


# a coordinator that dies at any step


def asks_for(step):
    """The first time that a coordinator asks for it."""

    def falls(node, effect):
        if isinstance(step, type) and issubclass(step, Message):
            signed = effect.message if isinstance(effect, Send) and effect.protocol == ROUND else None
            return signed is not None and isinstance(open_any(signed.signer, encode(signed), CLUSTER)[0], step)
        return isinstance(effect, step)

    return falls


@pytest.mark.parametrize("step", [Open, Inputs, ReleaseRequest, Offer, KeyRequest, Append, Bound], ids=lambda step: step.__name__)
def test_a_stand_in_goes_on_wherever_the_coordinator_died_for_good(step):
    """The first node to ask for ``step`` dies before it is begun: what it had asked for before goes on."""
    for seed in seeds(max(6, HISTORIES // 20)):
        world = World(seed, falls=asks_for(step), faults=NoFaults(lag_s=1.0), nodes=5, committee=4)
        world.run(until_s=200)
        assert world.falls is None, seed


# a coordinator that cheats: what honest members never release, and broken ones do


def cheat(monkeypatch, change):
    """Node EVIL's openings are changed before it signs them."""

    def make(local, parts, opened, **rest):
        evil = local.peer == World.evil_peer
        return Round(local, parts, change(local, opened) if evil else opened, **rest)

    monkeypatch.setattr(desk, "Round", make)


def another_circuit(local, opened):
    return msgspec.structs.replace(opened, circuit="reveal-everything")


def one_candidate_less(local, opened):
    return msgspec.structs.replace(opened, candidates=opened.candidates[:-1])


def one_round_for_everything(node):
    """All coordinators' rounds have one id: everything about them is right, but that it was used before."""
    bytes_of = node.core.local.random.bytes
    node.core.local.random.bytes = lambda count: b"once and for all" if count == 16 else bytes_of(count)


def forgets_rounds(node):
    """Neither the journal nor memory keeps what a round was used for; and candidates take part in it again."""
    one_round_for_everything(node)
    core = node.core
    core.member._rounds.spend = lambda *request: node.journal.rounds.spent.setdefault(request[1], (request[:1], [])) != ()
    ask, tell, open_ = core.member.on_release_request, core.member.on_telemetry, core.candidate.on_open

    def on_release_request(sender, request):
        core.member._requests.clear()
        return ask(sender, request)

    def on_telemetry(signer, telemetry, signed):
        core.member._telemetry.pop((signer, telemetry.round), None)
        return tell(signer, telemetry, signed)

    def on_open(sender, opened, signed):
        core.candidate._rounds.clear()
        return open_(sender, opened, signed)

    core.member.on_release_request, core.member.on_telemetry, core.candidate.on_open = on_release_request, on_telemetry, on_open


def without(check):
    def broken(node):
        node.core.member._checks = [one for one in MEMBER_CHECKS if one is not check]
        evaluator = node.core.local.epoch.evaluator
        if evaluator is not None:
            evaluator.circuits = {**CIRCUITS, "reveal-everything": 4}

    return broken


@pytest.mark.parametrize(
    ("change", "broken", "match"),
    [
        (another_circuit, without(circuit_is_registered), "unregistered circuit"),
        (one_candidate_less, without(candidates_are_complete), "omitted candidate"),
    ],
)
def test_a_cheating_coordinator_gets_nothing_from_honest_members(monkeypatch, change, broken, match):
    cheat(monkeypatch, change)

    def world(customise):
        return lambda seed: World(seed, customise=customise, faults=NoFaults(), quiet_at=0, evil=EVIL)

    assert caught(world(broken), match, until_s=25, must_settle=False) is not None
    for seed in seeds(HISTORIES // 6):
        World(seed, evil=EVIL).run(until_s=40, must_settle=False)


def test_a_round_is_decided_once_whatever_its_coordinator_opens_under_its_name():
    def world(customise, **more):
        return lambda seed: World(seed, customise=customise, replicas=(2, 1) * 3, **more)

    calm = {"faults": NoFaults(), "quiet_at": 0}
    assert caught(world(forgets_rounds, **calm), "spent round", first=6, until_s=25, must_settle=False) is not None
    for seed in seeds(HISTORIES // 6):
        world(one_round_for_everything)(seed).run(until_s=40, must_settle=False)


def counts_no_candidates(node):
    node.core.member._over_budget = lambda entry, case: None


def test_no_candidate_is_in_more_decisions_than_the_policy_allows():
    def world(customise, **more):
        return lambda seed: World(seed, customise=customise, replicas=(1,) * 6, decisions_max=3, **more)

    calm = {"faults": NoFaults(), "quiet_at": 0}
    assert caught(world(counts_no_candidates, **calm), "more decisions", until_s=40, must_settle=False) is not None
    stopped = 0
    for seed in seeds(max(6, HISTORIES // 6)):
        run = world(None)(seed)
        run.run(until_s=40, must_settle=False)
        stopped += any(reasons.BUDGET_EXHAUSTED in node.reports.history for node in run.nodes)
    assert stopped, "it is told why nothing is placed any more"


def test_no_namespace_has_more_decisions_than_the_registry_allows():
    def world(customise, **more):
        return lambda seed: World(seed, customise=customise, replicas=(1,) * 6, namespace_limit=3, **more)

    calm = {"faults": NoFaults(), "quiet_at": 0}
    assert caught(world(counts_no_candidates, **calm), "in one namespace", until_s=40, must_settle=False) is not None
    stopped = 0
    for seed in seeds(max(6, HISTORIES // 6)):
        run = world(None)(seed)
        run.run(until_s=40, must_settle=False)
        stopped += any(reasons.NAMESPACE_LIMIT in node.reports.history for node in run.nodes)
    assert stopped, "it is told why nothing is placed any more"


def copies(node):
    """Commits for ever to telemetry that another node made for an earlier round (given to it by a member in the conspiracy)."""
    world, encryptor = node.world, node.core.local.epoch.encryptor
    make = encryptor.telemetry

    def telemetry(free, score, **how):
        members = [one.core.member for one in world.nodes if one.core is not None]
        held = [vector for member in members for (peer, _), vector in member._telemetry.items() if peer != node.peer]
        if node.number == EVIL and world.now - world.began > 1.0:
            world.stolen = world.stolen or held[:1]
        return world.stolen[0] if node.number == EVIL and world.stolen else make(free, score, **how)

    encryptor.telemetry = telemetry


def copies_unnoticed(node):
    copies(node)
    without(telemetry_is_fresh)(node)


def copies_unnoticed_after_a_restart(node):
    """The journal does not keep whose telemetry was used."""
    copies(node)
    node.journal.rounds.used_by = lambda telemetry: None


def test_a_copied_ciphertext_is_never_evaluated_by_honest_members():
    def world(customise, **faults):
        return lambda seed: World(
            seed, customise=customise, faults=NoFaults(**faults), quiet_at=40 if faults else 0, replicas=(2, 1) * 3
        )

    assert caught(world(copies_unnoticed), "copied ciphertext", until_s=25, must_settle=False) is not None
    assert (
        caught(world(copies_unnoticed_after_a_restart, crash=0.2), "copied ciphertext", until_s=40, must_settle=False) is not None
    )
    for seed in seeds(HISTORIES // 6):
        World(seed, customise=copies, replicas=(2, 1) * 3).run(until_s=40, must_settle=False)


def test_telemetry_that_never_comes_only_costs_its_candidate_the_round():
    def mute(node):
        if node.number == EVIL:
            node.core.candidate.on_inputs = lambda sender, inputs: []

    world = World(3, customise=mute, faults=NoFaults(), quiet_at=0)
    world.run(until_s=120)
    assert not any(binding for binding in world.nodes[EVIL].journal.bindings.all())
    assert telemetry_is_here in MEMBER_CHECKS

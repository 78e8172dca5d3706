"""A seeded simulator of whole clusters: virtual time, a chain with a fence, nodes that crash, and a network that may do anything.

It performs the effects of real :class:`veil.placement.core.Core` objects and watches from outside: the log, what each node
holds, and every partial decryption. It knows nothing of how placement decides.
"""

import hashlib
import heapq
import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from random import Random as Dice

from placement_doubles import (
    CIRCUITS,
    CLUSTER,
    FIRST_BLOCK,
    GIB,
    DiceRandom,
    MemoryJournal,
    Reports,
    SimpleCapacity,
    StaticView,
    VirtualClock,
    Workload,
    evaluate_now,
    identity_of,
    key_epoch_of,
    node_row,
    parts_of,
)

from veil.errors import Untrusted, VeilError
from veil.fhe.decision import order_of
from veil.fhe.ports import Figures
from veil.placement import reasons
from veil.placement.core import Core
from veil.placement.effects import REFETCH_S, ROUND, Append, AskRenewal, Evaluate, Fetch, Send
from veil.placement.eligibility import anchored, eligible
from veil.placement.local import Local
from veil.placement.messages import open_any, open_passed
from veil.placement.ports import ReplicaKey, Wanted
from veil.placement.ranking import shard_of
from veil.placement.renewals import binding_key
from veil.placement.settings import DEV
from veil.store.rows import LogRow
from veil.types import RoundId
from veil.wire.codec import encode, sha256
from veil.wire.rounds import Commit, Missing, Offer, Open, Passed, Telemetry, Withheld, transcript_root
from veil.wire.signed import open_signed

SETTINGS = replace(DEV, lease_s=8.0, tick_s=0.4, finality="safe", cover_tick_s=0.0, backoff_max_s=8.0, offer_s=3.0, release_s=5.0)
FINAL_LAG = 1
DRAIN_AT_S = 12.0
SMALL = Figures(cpu_milli=500, memory_bytes=GIB, disk_bytes=GIB, gpu_count=0)
NODE = Figures(cpu_milli=2000, memory_bytes=8 * GIB, disk_bytes=64 * GIB, gpu_count=0)


WATCHED = [kind.__struct_config__.tag.encode() for kind in (Telemetry, Commit, Missing)]


class Broken(AssertionError):
    """An invariant does not hold."""


HISTORIES = int(os.environ.get("VEIL_SIM_HISTORIES", "60"))
FIRST_SEED = int(os.environ.get("VEIL_SIM_SEED", "0"))
TALLY = Counter()
"""What all worlds of this process did, so that a long run can say what it looked at."""


def seeds(count=HISTORIES):
    """As many histories, in a row from the first seed."""
    return range(FIRST_SEED, FIRST_SEED + max(1, count))


class Faults:
    """How bad the world is. All are probabilities per message, append or second."""

    def __init__(self, dice, scale=1.0):
        self.lose = dice.choice([0, 0.05, 0.2]) * scale
        self.repeat = dice.choice([0, 0.1, 0.3]) * scale
        self.late = dice.choice([0, 0.1, 0.2]) * scale
        self.forge = dice.choice([0, 0.05]) * scale
        self.crash = dice.choice([0, 0.02, 0.05]) * scale
        self.die = dice.choice([0, 0.0005]) * scale
        """Per effect: of what a machine asked for at one moment, only the first part is begun."""
        self.answer_lost = dice.choice([0, 0.3]) * scale
        self.tx_lost = dice.choice([0, 0.1]) * scale
        self.reorg = dice.choice([0, 0.1]) * scale
        self.false_death = dice.choice([0, 0.03]) * scale
        self.lag_s = dice.choice([0.1, 1.0, 2.5])


class Chain:
    """Blocks of appends, with the fence of the registry."""

    def __init__(self):
        self.blocks = [[]]
        self.pending = []

    @property
    def number(self):
        return FIRST_BLOCK + len(self.blocks) - 1

    def rows(self, height):
        return [row for block in self.blocks[: max(0, height - FIRST_BLOCK + 1)] for row in block]

    def last(self, shard):
        return max((row.sequence for block in self.blocks for row in block if row.shard == shard), default=0)

    def submit(self, row, answer):
        self.pending.append((row, answer))

    def mine(self):
        self.blocks.append([])
        pending, self.pending = self.pending, []
        for row, answer in pending:
            if row.sequence != self.last(row.shard) + 1:
                answer("conflict")
                continue
            TALLY["appends"] += 1
            self.blocks[-1].append(replace(row, block=self.number))
            answer("appended")

    def reorg(self):
        """The last block is another one: its appends come again later, or never."""
        return self.blocks.pop() if len(self.blocks) > 3 else []


class LaggingView(StaticView):
    """What one node has read of the chain."""

    def __init__(self, chain, peers, key_epoch):
        super().__init__(peers, key_epoch=key_epoch)
        self.chain = chain
        self.final_lag = FINAL_LAG

    def read(self):
        """Catch up; true when something is new."""
        self.block = self.chain.number
        logs = {}
        for row in self.chain.rows(self.block):
            logs.setdefault(row.shard, {})[row.sequence] = row
        changed, self.logs = logs != self.logs, logs
        return changed


class Node:
    """One machine: its journal and runtime survive crashes, its core does not."""

    def __init__(self, world, number):
        self.world, self.number = world, number
        self.identity = identity_of(number)
        self.peer = self.identity.peer_id
        self.journal = MemoryJournal()
        self.core = None
        self.up_since = 0.0
        self.confirmed = {}
        self.fetching = {}
        self.reports = Reports()
        self.life = 0
        self.seen_dead = set()
        """Whom this node holds to be gone: views of that differ for a while."""

    def start(self):
        world = self.world
        self.life += 1
        self.up_since = world.now
        self.capacity = SimpleCapacity(world.clock, world.capacity)
        self.view = LaggingView(world.chain, world.peers, world.key_epoch)
        self.view.home_peers = {w.id: (world.nodes[0].peer,) for w in world.workloads} if world.nodes else {}
        for workload in world.workloads:
            self.view.add(*workload.rows())
        self.view.decisions_max = world.decisions_max
        self.view.namespace_limit = world.namespace_limit
        self.view.read()
        local = Local(
            identity=self.identity,
            cluster=CLUSTER,
            view=self.view,
            clock=world.clock,
            random=DiceRandom(world.dice),
            liveness=self,
            settings=world.settings,
            epoch=parts_of(world.key_epoch, self.peer),
        )
        bound_before = [b for b in self.journal.bindings.all() if b.state == "bound"]
        self.confirmed = {binding_key(binding): float("-inf") for binding in bound_before}
        self.fetching = {}
        self.core = Core(local, self.journal, self.capacity, self.reports, self.changed)
        world.customise(self)
        self.watch_decryptor(local)
        self.after_start = self.core.look_again(view_changed=True)

    def watch_decryptor(self, local):
        decryptor = local.epoch.decryptor
        if decryptor is None:
            return
        partial = decryptor.partial

        def watched(result, members):
            self.world.on_partial(self, result, members)
            return partial(result, members)

        decryptor.partial = watched

    def crash(self):
        self.core = None
        self.life += 1

    def gone(self, peer):
        return peer in self.seen_dead

    def changed(self):
        self.world.moved = True
        for binding in self.journal.bindings.all():
            if binding.state == "bound":
                self.confirmed.setdefault(binding_key(binding), self.world.now)
            if binding.state == "superseded":
                self.world.after(0.2, self.stop, binding_key(binding), self.life)

    def stop(self, key, life):
        if self.core is not None and life == self.life:
            self.world.perform(self, self.core.release(key))

    def live(self):
        """Replicas that run here and whose holder is in touch, as seen from outside."""
        if self.core is None:
            return []
        lease = self.world.settings.lease_s
        return [
            binding_key(binding)
            for binding in self.journal.bindings.all()
            if binding.state == "bound" and self.world.now - self.confirmed.get(binding_key(binding), -1e9) < lease
        ]


class World:
    """Runs one history. ``customise(node)`` may break a node's core on purpose, ``evil`` names one whose openings cheat."""

    evil_peer = None

    def __init__(
        self,
        seed,
        *,
        nodes=4,
        committee=3,
        threshold=2,
        replicas=(3, 2),
        policy="BinPack",
        apart=False,
        customise=None,
        faults=None,
        quiet_at=20.0,
        confidential=False,
        evil=None,
        killed=(),
        decisions_max=10_000,
        namespace_limit=0,
        falls=None,
        fallen_s=1e9,
        capacity=NODE,
        drained=None,
        cut=(),
    ):
        self.seed = seed
        self.dice = Dice(seed)
        self.clock = VirtualClock()
        self.began = self.clock.time
        self.queue, self.counter = [], 0
        self.settings = SETTINGS
        self.capacity = capacity
        self.drained, self.drains = drained, False
        """The number of a node that is cordoned and drained after a while, or None."""
        self.cut = cut
        """Pairs of nodes, by number: from the one to the other nothing gets through."""
        self.customise = customise or (lambda node: None)
        self.faults = faults or Faults(self.dice)
        self.quiet_s = quiet_at
        self.chain = Chain()
        self.blobs = {}
        self.moved = False
        self.down_until = {}
        self.kept_down = {}
        self.released = {}
        self.decisions_max = decisions_max
        self.namespace_limit = namespace_limit
        self.decided_in = {}
        """By member and namespace, the rounds that the member released."""
        self.decided = {}
        """By member and candidate, the rounds that the member released with that candidate in them."""
        self.true_orders = {}
        self.evaluated = {}
        """By round, the nodes that evaluated it."""
        self.offered = set()
        """By round, the nodes that an offer was made to."""
        self.delivered = {}
        """When a member got whose telemetry for which round, in which of its lives."""
        self.committed, self.searched = {}, {}
        """When a candidate's commitment came to a member itself, and when whose it was told to look for."""
        self.named = {}
        """When it said itself that it does not decide with that node."""
        self.offers = {}
        """How many offers were made that somebody had checked, and that nobody had."""
        self.stolen = []
        self.handed_over = []
        self.vectors = {}
        """By member, over its crashes: whose telemetry, for which round, its releases were about."""
        self.replays = []
        self.broken = ""
        TALLY["histories"] += 1
        self.falls, self.fallen_s = falls, fallen_s
        """Whether a node dies at an effect that it asks for (the first one does), and for how long."""
        self.nodes = []
        self.peers = [identity_of(number).peer_id for number in range(nodes)]
        World.evil_peer = self.peers[evil] if evil is not None else None
        self.key_epoch = key_epoch_of(self.peers[:committee], threshold)
        self.workloads = [
            Workload(
                f"w{index}",
                count,
                SMALL,
                self.peers[:committee],
                threshold,
                confidential=confidential,
                policy=policy,
                apart=apart,
            )
            for index, count in enumerate(replicas)
        ]
        for workload in self.workloads:
            self.blobs |= workload.blobs
        self.keys = [ReplicaKey(w.id, 1, index) for w in self.workloads for index in range(w.replicas)]
        self.nodes = [Node(self, number) for number in range(nodes)]
        self.by_peer = {node.peer: node for node in self.nodes}
        for node in self.nodes:
            node.start()
            self.perform(node, node.after_start)
            self.after(self.dice.random() * self.settings.tick_s, self.tick, node)
        self.after(1.0, self.mine)
        self.after(1.0, self.second)
        if drained is not None:
            self.after(DRAIN_AT_S, self.drain)
        for number, at_s, until_s in killed:
            self.after(at_s, self.kill, self.nodes[number], until_s)

    # time

    @property
    def now(self):
        return self.clock.time

    @property
    def quiet(self):
        return self.now - self.began >= self.quiet_s

    @property
    def all_back(self):
        return all(self.now >= until for until in self.kept_down.values() if until < self.began + 1e6)

    def chance(self, probability):
        return not self.quiet and probability > 0 and self.dice.random() < probability

    def after(self, delay_s, action, *arguments):
        self.counter += 1
        heapq.heappush(self.queue, (self.now + delay_s, self.counter, action, arguments))

    def run(self, until_s=120.0, settled_s=4.0, must_settle=True):
        """Until every replica has been bound and live for a while after the faults stopped. Raises Broken."""
        settled_since = None
        while self.queue:
            self.clock.time, _, action, arguments = heapq.heappop(self.queue)
            action(*arguments)
            if self.moved:
                self.check()
            if action == self.second and self.quiet and self.all_back:
                settled_since = (settled_since or self.now) if self.all_settled() else None
                if settled_since is not None and self.now - settled_since >= settled_s:
                    return
            if self.now - self.began > until_s:
                if not must_settle:
                    return
                raise Broken(f"seed {self.seed}: not every replica is bound: {self.describe()}")

    def describe(self):
        held = {
            key: [(n.number, b.state) for n in self.nodes for b in n.journal.bindings.all() if binding_key(b) == key]
            for key in self.keys
        }
        return {f"{key.object_id[16:18].hex()}/{key.replica}": value for key, value in held.items()}

    # invariants

    def holders(self, key):
        return [node for node in self.nodes if node.core and key in node.live()]

    def all_settled(self):
        there = [node for node in self.nodes if self.now >= self.kept_down.get(node.number, 0.0)]
        held = [binding for node in there for binding in node.journal.bindings.all()]
        settled = len(held) == len(self.keys) and all(binding.state == "bound" for binding in held)
        if self.drained is not None:
            settled = settled and self.drains and not self.nodes[self.drained].journal.bindings.all()
        return settled and all(len(self.holders(key)) == 1 for key in self.keys)

    def check(self):
        self.moved = False
        running = {}
        for node in self.nodes:
            if node.core is None:
                continue
            for key in node.live():
                if key in running:
                    raise Broken(
                        f"seed {self.seed}: two live bindings of replica {key.replica}: {running[key]} and {node.number}"
                    )
                running[key] = node.number

    def on_partial(self, node, result, members):
        """Called before every partial decryption: what is decrypted, and may it be?"""
        TALLY["partials"] += 1
        entry = next((e for e in node.core.member._requests.values() if e.result == result), None)
        if entry is None:
            raise Broken("a release of something that was not evaluated here")
        opened = entry.open
        if opened.circuit not in CIRCUITS:
            raise Broken(f"seed {self.seed}: a release for an unregistered circuit")
        purpose = (opened.object_id, opened.replicas, opened.circuit, sha256(result))
        known, quorums = self.released.setdefault((node.number, opened.round), (purpose, [set(members)]))
        if known != purpose:
            raise Broken(f"seed {self.seed}: a release for a spent round")
        if set(members) not in quorums:
            quorums.append(set(members))
        if len(quorums) > 2 or not all(a < b for a, b in pairwise(quorums)):
            raise Broken(f"seed {self.seed}: partials for a third quorum, or for one that is not the first enlarged")
        if opened.round not in node.journal.rounds.spent:
            raise Broken(f"seed {self.seed}: a release that is not in the journal")
        able = eligible(node.view, anchored(node.view, opened.object_id).envelope)
        if able - set(opened.candidates) - set(opened.excluded):
            raise Broken(f"seed {self.seed}: a release with an omitted candidate")
        self.watch_exclusions(node, entry)
        self.watch_silence(node, entry)
        space = self.decided_in.setdefault((node.number, opened.object_id[:16]), set())
        space.add(opened.round)
        if 0 < self.namespace_limit < len(space):
            raise Broken(f"seed {self.seed}: more decisions in one namespace than the registry allows")
        for peer in entry.commits:
            rounds = self.decided.setdefault((node.number, peer), set())
            rounds.add(opened.round)
            if len(rounds) > self.decisions_max:
                raise Broken(f"seed {self.seed}: more decisions with one candidate than allowed")
            vector = node.core.member._telemetry.get((peer, RoundId(opened.round)))
            seen = self.vectors.setdefault(node.number, {})
            first = seen.setdefault(sha256(vector or b""), (peer, opened.round))
            if vector is not None and first != (peer, opened.round):
                raise Broken(f"seed {self.seed}: a release on a copied ciphertext")

    def watch_exclusions(self, node, entry):
        """A release over a round that leaves somebody out: no member takes for a reason what it has seen to be none."""
        for why in entry.exclusions:
            TALLY[f"left out as {why.reason}"] += 1
            if why.reason == reasons.GONE and not node.core.local.liveness.gone(why.peer):
                raise Broken(f"seed {self.seed}: a candidate is excluded as gone that the member sees alive")
            if why.reason == reasons.REFUSED and (why.round, why.peer) not in self.offered:
                raise Broken(f"seed {self.seed}: a candidate is excluded that refused no offer")
            of = (node.number, node.life, why.peer, why.round)
            here_s, said_s = self.delivered.get(of, float("inf")), self.named.get(of, self.now)
            if why.reason == reasons.TELEMETRY_MISSING and here_s < said_s:
                raise Broken(f"seed {self.seed}: a candidate is excluded as silent whose telemetry the member has")

    def watch_silence(self, node, entry):
        """A release over inputs without some candidate's commitment: the member has looked for it too, and not found it."""
        round, enough_s = entry.open.round, self.settings.commit_s / 4
        at_s, searched = self.searched.get((node.number, node.life, round), (float("inf"), set()))
        for peer in set(entry.open.candidates) - set(entry.commits):
            TALLY["did not commit"] += 1
            if peer not in searched or self.now < at_s + enough_s:
                raise Broken(f"seed {self.seed}: a release without a candidate that nobody looked for")
            if self.committed.get((node.number, node.life, peer, round), float("inf")) <= at_s + enough_s:
                raise Broken(f"seed {self.seed}: a release without a candidate whose commitment the member has")

    # what happens by itself

    def tick(self, node):
        if node.core is not None:
            self.draining(node)
            node.core.desk.set_wanted(self.wanted(node))
            self.perform(node, node.core.look_again())
        self.after(self.settings.tick_s, self.tick, node)

    def drain(self):
        """From now on one node is cordoned for whoever reads the chain, and asks to be rid of what it runs."""
        self.drains = True

    def draining(self, node):
        if not self.drains:
            return
        node.view.node_rows[self.drained] = node_row(self.drained, self.peers[self.drained], status="Cordoned")
        if node.number == self.drained:
            node.core.renewals.move(frozenset(binding_key(binding) for binding in node.core.holdings.bindings()))

    def wanted(self, node):
        acting = node.core.desk.acting
        return [
            Wanted(w.id, 1, index, "team", w.name)
            for w in self.workloads
            if acting.is_acting(shard_of(w.id))
            for index in range(w.replicas)
        ]

    def mine(self):
        if self.chance(self.faults.reorg):
            for row in self.chain.reorg():
                if self.dice.random() < 0.5:
                    self.chain.submit(row, lambda outcome: None)
            self.chain.mine()
        self.chain.mine()
        for node in self.nodes:
            self.after(self.dice.random() * self.faults.lag_s * (0.1 if self.quiet else 1), self.read, node, node.life)
        self.after(1.0, self.mine)

    def kill(self, node, until_s):
        """Down from now to ``until_s``, whatever else happens."""
        node.crash()
        self.down_until[node.number] = self.began + until_s
        self.kept_down[node.number] = self.began + until_s

    def read(self, node, life):
        if node.core is not None and node.life == life:
            node.view.read()
            self.perform(node, node.core.look_again(view_changed=True))

    def crash(self, node, life):
        """At some moment of the second, unless it has crashed otherwise."""
        if node.core is not None and node.life == life:
            TALLY["crashes"] += 1
            node.crash()
            self.down_until[node.number] = self.now + self.dice.choice([0.5, 3.0, 12.0])

    def second(self):
        for node in self.nodes:
            if node.core is not None and self.chance(self.faults.crash):
                self.after(self.dice.random(), self.crash, node, node.life)
            elif node.core is None and self.now < self.kept_down.get(node.number, 0.0):
                continue
            elif node.core is None and (self.now >= self.down_until.get(node.number, 0.0) or self.quiet):
                node.start()
                self.perform(node, node.after_start)
        dead = {n.peer for n in self.nodes if n.core is None}
        if self.chance(self.faults.false_death):
            dead.add(self.dice.choice(self.peers))
        for node in self.nodes:
            self.after(0.0 if self.quiet else 0.9 * self.dice.random(), self.see, node, dead)
        self.after(1.0, self.second)

    def see(self, node, dead):
        """What the mesh tells ``node`` of who is gone, and perhaps wrongly of one more."""
        wrong = {self.dice.choice(self.peers)} if self.chance(self.faults.false_death) else set()
        node.seen_dead = (dead | wrong) - {node.peer}

    # effects

    def perform(self, node, effects):
        for effect in effects:
            if node.core is not None and self.chance(self.faults.die):
                self.crash(node, node.life)
            if node.core is not None and self.falls is not None and self.falls(node, effect):
                self.falls = None
                self.kill(node, self.now - self.began + self.fallen_s)
            if node.core is None:
                return
            match effect:
                case Send():
                    self.watch(node, effect)
                    self.send(node, effect.peer, encode(effect.message), effect.protocol, self.now + effect.deadline_s)
                case AskRenewal():
                    self.ask(node, effect)
                case Evaluate():
                    self.after(0.3 + 0.3 * self.dice.random(), self.evaluate, node, node.life, effect)
                case Fetch():
                    self.fetch(node, effect.digest)
                case Append():
                    self.append(node, effect)

    def watch(self, node, effect):
        """Called for every message of ``node``: an offer goes to the node that the true decision names, whatever members say.

        Only an offer that says itself that nobody checked may be the work of a liar.
        """
        message, _ = (
            open_any(effect.message.signer, encode(effect.message), CLUSTER) if effect.protocol == ROUND else (None, None)
        )
        if isinstance(message, Withheld) and message.reason in reasons.SPOILT:
            for peer in message.peers:
                self.named.setdefault((node.number, node.life, peer, message.round), self.now)
        if not isinstance(message, Offer):
            return
        self.offered.add((opened_of(message.open).round, effect.peer))
        true = self.true_orders.get(message.transcript, [])
        self.offers[message.checked] = self.offers.get(message.checked, 0) + 1
        if message.checked and true[message.place : message.place + 1] != [effect.peer]:
            raise Broken(f"seed {self.seed}: a checked offer to a node that the decision does not name there")

    def remember_truth(self, node, effect):
        """The true order of an evaluation's candidates: a fake result is in clear."""
        entry = node.core.member._requests.get(effect.round)
        if entry is None:
            return
        transcript = transcript_root(entry.request.open, entry.request.inputs, sha256(entry.result))
        spec = CIRCUITS.get(entry.open.circuit)
        if spec is not None:
            bits = entry.result[-spec.result_bits :]
            places = order_of(spec.shape, list(bits), len(entry.open.candidates))
            self.true_orders[transcript] = [entry.open.candidates[place] for place in places]

    def travel_s(self):
        return self.dice.uniform(0.3, 4.0) if self.chance(self.faults.late) else self.dice.uniform(0.001, 0.03)

    def send(self, node, to, payload, protocol, deadline):
        receiver = self.by_peer[to]
        if receiver is node:
            self.after(0.0, self.deliver, receiver, receiver.life, node.peer, payload, protocol)
            return
        if self.chance(self.faults.lose) or receiver.core is None or (node.number, receiver.number) in self.cut:
            TALLY["messages lost"] += 1
            if self.now + 0.4 < deadline:
                self.after(0.4, self.resend, node, node.life, to, payload, protocol, deadline)
            return
        for _ in range(2 if self.chance(self.faults.repeat) else 1):
            self.after(self.travel_s(), self.deliver, receiver, None, node.peer, payload, protocol)
        if self.chance(self.faults.forge):
            self.forge(receiver, node.peer, payload, protocol)

    def resend(self, node, life, to, payload, protocol, deadline):
        if node.core is not None and node.life == life:
            self.send(node, to, payload, protocol, deadline)

    def forge(self, receiver, sender, payload, protocol):
        """The same bytes changed, by another sender, or an old message once more."""
        TALLY["messages forged"] += 3
        self.replays.append((sender, payload, protocol))
        changed = bytearray(payload)
        changed[self.dice.randrange(len(changed))] ^= 1 << self.dice.randrange(8)
        stranger = self.dice.choice(self.peers)
        old = self.dice.choice(self.replays)
        self.after(self.travel_s(), self.deliver, receiver, None, sender, bytes(changed), protocol)
        self.after(self.travel_s(), self.deliver, receiver, None, stranger, payload, protocol)
        self.after(self.travel_s(), self.deliver, receiver, None, *old)

    def deliver(self, receiver, life, sender, payload, protocol):
        if receiver.core is None or life not in (None, receiver.life):
            return
        if protocol == "round/1":
            self.remember_delivery(receiver, sender, payload)
            self.perform(receiver, receiver.core.receive(sender, payload))
        else:
            with suppress(Untrusted):
                receiver.core.receive_pending(sender, payload)

    def remember_delivery(self, receiver, sender, payload):
        """What a member gets to see of candidates, whoever passes it on."""
        if not any(tag in payload for tag in WATCHED):
            return
        with suppress(Untrusted):
            message, signed = open_any(sender, payload, CLUSTER)
            if isinstance(message, Passed):
                message, signed = open_passed(message, CLUSTER), message.message
            of = (receiver.number, receiver.life, signed.signer)
            if isinstance(message, Telemetry):
                self.delivered.setdefault((*of, message.round), self.now)
            elif isinstance(message, Commit) and signed.signer == sender:
                self.committed.setdefault((*of, message.round), self.now)
            elif isinstance(message, Missing) and message.what == "commitments":
                searched = set(message.peers)
                self.searched.setdefault((receiver.number, receiver.life, opened_of(message.open).round), (self.now, searched))

    def ask(self, node, effect):
        receiver = self.by_peer[effect.peer]
        if receiver is not node and (self.chance(self.faults.lose) or receiver.core is None):
            return
        delay = 0.0 if receiver is node else self.travel_s()
        self.after(delay, self.renew, receiver, node, node.life, effect, self.now)

    def renew(self, receiver, node, life, effect, sent):
        if receiver.core is None:
            return
        reply, effects = receiver.core.receive_renewal(node.peer, encode(effect.message))
        self.perform(receiver, effects)
        if not self.chance(self.faults.lose):
            self.after(0.01, self.answer, receiver.peer, node, life, effect, reply, sent)

    def answer(self, peer, node, life, effect, reply, sent):
        if node.core is None or node.life != life:
            return
        if reply.keep and reply.informed:
            self.moved = True
            node.confirmed[effect.key] = max(sent, node.confirmed.get(effect.key, 0))
        self.perform(node, node.core.on_renew_reply(effect.key, peer, reply))

    def evaluate(self, node, life, effect):
        if node.core is None or node.life != life:
            return
        try:
            result = evaluate_now(
                node.core.local.parts_of(effect.epoch).evaluator, effect.circuit, effect.demand, effect.telemetry
            ).result
        except VeilError:
            result = None
        self.evaluated.setdefault(effect.round, set()).add(node.number)
        effects = node.core.on_evaluated(effect.round, result)
        if result is not None:
            self.remember_truth(node, effect)
        self.perform(node, effects)

    def fetch(self, node, wanted):
        if node.fetching.get(wanted, 0) > self.now:
            return
        found = None if self.chance(self.faults.lose) else self.blobs.get(wanted)
        travel_s = self.travel_s()
        node.fetching[wanted] = self.now + travel_s + (0.0 if found else REFETCH_S)
        self.after(travel_s, self.content, node, node.life, wanted, found)

    def content(self, node, life, wanted, found):
        if node.core is not None and node.life == life:
            self.perform(node, node.core.on_content(wanted, found))

    def append(self, node, effect):
        self.blobs[sha256(effect.data)] = effect.data
        row = LogRow(
            shard=effect.shard,
            sequence=effect.sequence,
            root=effect.root,
            count=effect.count,
            data=sha256(effect.data),
            sender=f"operator-{node.number}",
            block=0,
        )
        life = node.life

        def answer(outcome):
            if self.chance(self.faults.answer_lost):
                outcome = "unknown"
            self.after(self.travel_s(), self.appended, node, life, effect, outcome)

        if self.chance(self.faults.tx_lost):
            self.after(1.0, self.appended, node, life, effect, "unknown")
            return
        self.after(self.travel_s(), self.chain.submit, row, answer)

    def appended(self, node, life, effect, outcome):
        if node.core is not None and node.life == life:
            self.perform(node, node.core.on_append(effect.shard, effect.sequence, outcome))


def opened_of(signed):
    return open_signed(signed, CLUSTER, Open)


def hash_of(text):
    return hashlib.sha256(text.encode()).digest()

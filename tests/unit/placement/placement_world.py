"""A seeded simulator of whole clusters: virtual time, a chain with a fence, nodes that crash, and a network that may do anything.

It performs the effects of real :class:`veil.placement.core.Core` objects and counts from outside who holds what;
:class:`placement_watch.Watch` looks at messages and partial decryptions.
"""

import heapq
from contextlib import suppress
from random import Random as Dice

from placement_doubles import (
    VirtualClock,
    Workload,
    evaluate_now,
    identity_of,
    key_epoch_of,
    node_row,
)
from placement_nodes import DRAIN_AT_S, NODE, SETTINGS, SMALL, TALLY, Broken, Chain, Faults, Node
from placement_watch import Watch

from veil.errors import Untrusted, VeilError
from veil.placement.effects import REFETCH_S, Append, AskRenewal, Evaluate, Fetch, Send
from veil.placement.ports import ReplicaKey, Wanted
from veil.placement.ranking import shard_of
from veil.placement.renewals import binding_key
from veil.store.rows import LogRow
from veil.wire.codec import encode, sha256


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
        self.decisions_max = decisions_max
        self.namespace_limit = namespace_limit
        self.watch = Watch(self)
        self.stolen = []
        self.handed_over = []
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
                    self.watch.sent(node, effect)
                    self.send(node, effect.peer, encode(effect.message), effect.protocol, self.now + effect.deadline_s)
                case AskRenewal():
                    self.ask(node, effect)
                case Evaluate():
                    self.after(0.3 + 0.3 * self.dice.random(), self.evaluate, node, node.life, effect)
                case Fetch():
                    self.fetch(node, effect.digest)
                case Append():
                    self.append(node, effect)

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
            self.watch.delivery(receiver, sender, payload)
            self.perform(receiver, receiver.core.receive(sender, payload))
        else:
            with suppress(Untrusted):
                receiver.core.receive_pending(sender, payload)

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
        self.watch.evaluated.setdefault(effect.round, set()).add(node.number)
        effects = node.core.on_evaluated(effect.round, result)
        if result is not None:
            self.watch.truth(node, effect)
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

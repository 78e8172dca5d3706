"""What a simulated cluster is made of: how bad its world is, its chain with a fence, and machines that crash."""

import os
from collections import Counter
from dataclasses import replace

from placement_doubles import (
    CLUSTER,
    FIRST_BLOCK,
    GIB,
    DiceRandom,
    MemoryJournal,
    Reports,
    SimpleCapacity,
    StaticView,
    identity_of,
    parts_of,
)

from veil.fhe.ports import Figures
from veil.placement.core import Core
from veil.placement.local import Local
from veil.placement.renewals import binding_key
from veil.placement.settings import DEV

SETTINGS = replace(DEV, lease_s=8.0, tick_s=0.4, finality="safe", cover_tick_s=0.0, backoff_max_s=8.0, offer_s=3.0, release_s=5.0)
FINAL_LAG = 1
DRAIN_AT_S = 12.0
SMALL = Figures(cpu_milli=500, memory_bytes=GIB, disk_bytes=GIB, gpu_count=0)
NODE = Figures(cpu_milli=2000, memory_bytes=8 * GIB, disk_bytes=64 * GIB, gpu_count=0)


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
            self.world.watch.partial(self, result, members)
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

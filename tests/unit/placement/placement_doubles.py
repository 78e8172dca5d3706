"""In-memory doubles of what placement reads and writes in place: chain view, journal, capacity, reports, identities."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import veil.wire.signed
from veil.errors import SignatureInvalid
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.fake import FakeCombiner, FakeDecryptor, FakeEncryptor, FakeEvaluator
from veil.fhe.ports import Figures
from veil.fhe.sharing import split_secret
from veil.identity import Identity, seal
from veil.placement.ports import EpochParts
from veil.store.journal.rounds import is_one_more
from veil.store.rows import LogRow, NodeRow, ObjectRow
from veil.types import Secret
from veil.wire.codec import digest, encode
from veil.wire.nodes import CircuitInfo, KeyEpoch
from veil.wire.objects import (
    Body,
    ContainerResources,
    Demand,
    DemandEnvelope,
    Envelope,
    Resources,
    demand_id,
    encode_envelope,
    object_id,
)
from veil.wire.sealed import make_part, new_content_key

GIB = 1 << 30
CLUSTER = hashlib.sha256(b"a test cluster").digest()
SPECS = [CircuitSpec("default", shape, size) for size in (4, 8) for shape in ("choose", "rank")]
CIRCUITS = {spec.name: spec for spec in SPECS}
FIRST_BLOCK = 250
"""So that the term changes early in a history."""


class CheapIdentity(Identity):
    """Signatures by hash: anybody could make them, but the simulator forges nothing that it does not mean to."""

    def sign(self, data):
        return hashlib.sha512(b"cheap" + self.peer_id + data).digest()


def cheap_verify(peer, data, signature):
    if signature != hashlib.sha512(b"cheap" + peer + data).digest():
        raise SignatureInvalid("not a signature")


def use_cheap_signatures(monkeypatch):
    monkeypatch.setattr(veil.wire.signed, "verify", cheap_verify)


def identity_of(number, kind=CheapIdentity):
    return kind(Secret(hashlib.sha256(b"node %d" % number).digest()))


class DiceRandom:
    def __init__(self, dice):
        self.dice = dice

    def bytes(self, count):
        return self.dice.randbytes(count)


class VirtualClock:
    def __init__(self):
        self.time = 1_000_000.0

    def now_s(self):
        return self.time

    def monotonic_s(self):
        return self.time


class MemoryBindings:
    def __init__(self):
        self.rows = {}
        self.fail = False

    def put(self, binding):
        self.rows[binding.object_id, binding.generation, binding.replica] = binding

    def get(self, *key):
        return self.rows.get(key)

    def all(self):
        return list(self.rows.values())

    def remove(self, *key):
        self.rows.pop(key, None)


class MemoryRounds:
    def __init__(self):
        self.spent = {}
        self.decided = Counter()
        self.users = {}

    def spend(self, epoch, round, owner, object_id, replicas, circuit, quorum, evaluation, at_s, telemetry):
        purpose = (epoch, owner, object_id, tuple(replicas), circuit, evaluation)
        if round not in self.spent:
            self.decided.update((epoch, candidate) for candidate in telemetry)
            for candidate, digest in telemetry.items():
                self.users.setdefault(digest, (candidate, round))
        known, quorums = self.spent.setdefault(round, (purpose, [tuple(quorum)]))
        if known != purpose:
            return False
        if tuple(quorum) != quorums[-1]:
            if len(quorums) > 1 or not is_one_more(quorums[-1], quorum):
                return False
            quorums.append(tuple(quorum))
        return True

    def is_spent(self, round):
        return round in self.spent

    def decisions(self, epoch, candidate):
        return self.decided[epoch, candidate]

    def of_namespace(self, epoch, namespace):
        return sum(1 for (at, _, of, *_), _ in self.spent.values() if (at, of[:16]) == (epoch, namespace))

    def used_by(self, telemetry):
        return self.users.get(telemetry)

    def count(self, epoch):
        return sum(1 for purpose, _ in self.spent.values() if purpose[0] == epoch)


class MemoryCounters:
    def __init__(self):
        self.values = {}

    def value(self, name):
        return self.values.get(name, 0)

    def raise_to(self, name, value):
        self.values[name] = max(value, self.value(name))


class MemoryJournal:
    def __init__(self):
        self.counters = MemoryCounters()
        self.bindings = MemoryBindings()
        self.rounds = MemoryRounds()


class SimpleCapacity:
    """Exact: reservations end by themselves unless confirmed."""

    def __init__(self, clock, total):
        self.clock, self._total, self.taken = clock, total, {}

    def _live(self, without=None):
        now = self.clock.monotonic_s()
        return [figures for key, (figures, until) in self.taken.items() if until > now and key != without]

    def free(self, without=None):
        used = self._live(without)
        return Figures(**{name: getattr(self._total, name) - sum(getattr(f, name) for f in used) for name in Figures.__slots__})

    def total(self):
        return self._total

    def reserve(self, key, figures, ttl_s):
        free = self.free(without=key)
        if any(getattr(free, name) < getattr(figures, name) for name in Figures.__slots__):
            return False
        self.taken[key] = (figures, self.clock.monotonic_s() + ttl_s)
        return True

    def confirm(self, key):
        self.taken[key] = (self.taken[key][0], float("inf"))

    def restore(self, key, figures):
        self.taken[key] = (figures, float("inf"))

    def release(self, key):
        self.taken.pop(key, None)


class Reports:
    def __init__(self):
        self.shown, self.ended, self.history = {}, [], []

    def report(self, object_id, generation, replica, status, bound):
        self.shown[object_id, generation, replica] = (status, bound)
        self.history.append(status.reason)

    def gone(self, object_id, generation, replica):
        self.ended.append((object_id, generation, replica))
        self.shown.pop((object_id, generation, replica), None)


@dataclass
class Workload:
    """One workload with everything that admission makes of it."""

    name: str
    replicas: int
    figures: Figures
    committee: list
    threshold: int
    epoch: int = 1
    confidential: bool = False
    homes: tuple = ()
    selector: dict = field(default_factory=dict)
    tolerations: dict = field(default_factory=dict)
    policy: str = "BinPack"
    apart: bool = False
    vouched: bool = False

    def __post_init__(self):
        self.id = object_id("team", self.name)
        self.blobs = {}
        resources = Resources(containers={"main": ContainerResources(**{n: getattr(self.figures, n) for n in Figures.__slots__})})
        self.resources = self._seal("resources", encode(resources))
        body = Body(spec={"template": {"containers": [{"name": "main", "image": "busybox"}]}})
        self.template = self._seal("template", encode(body)) if self.confidential else b""
        self.body = b"" if self.confidential else self._keep(body)
        vector = FakeEncryptor(self.epoch).demand(self.figures)
        self.demand = self._keep(Demand(object_id=self.id, epoch=self.epoch, resources=self.resources, vector=vector))

    def _keep(self, message):
        self.blobs[digest(message)] = encode(message)
        return digest(message)

    def _seal(self, piece, plain):
        key = new_content_key()
        shares = split_secret(key.reveal(), len(self.committee), self.threshold)
        sealed = [seal(peer, share) for peer, share in zip(self.committee, shares, strict=True)]
        part = make_part(
            plain,
            key,
            piece=piece,
            object_id=self.id,
            epoch=self.epoch,
            threshold=self.threshold,
            shares=sealed,
            homes=self.homes,
        )
        return self._keep(part)

    def rows(self, generation=1, block=FIRST_BLOCK, owner="0xowner", template=None):
        """``template``: generation and block in which the template last changed; None: in these."""
        since, at = template or (generation, block)
        envelope = Envelope(
            kind="Workload",
            namespace="team",
            name=self.name,
            uid=bytes(16),
            replicas=self.replicas,
            policy=self.policy,
            anti_affinity=self.apart,
            vouched_labels=self.vouched,
            node_selector=self.selector,
            tolerations=self.tolerations,
            body=self.body,
            resources=self.resources,
            template=self.template,
        )
        demand = DemandEnvelope(object_id=self.id, epoch=self.epoch, resources=self.resources, demand=self.demand)
        seed = hashlib.sha256(b"block %d" % block).digest()
        common = {"owner": owner, "block": block, "block_hash": seed, "template_block": at}
        common["template_block_hash"] = hashlib.sha256(b"block %d" % at).digest()
        return [
            ObjectRow(
                kind=2,
                object_id=self.id,
                generation=generation,
                envelope=encode_envelope(envelope),
                template_generation=since,
                **common,
            ),
            ObjectRow(
                kind=6,
                object_id=demand_id(self.id, self.epoch),
                generation=1,
                envelope=encode_envelope(demand),
                template_generation=1,
                **common,
            ),
        ]


def key_epoch_of(committee, threshold, *, max_decryptions=10_000, epoch=1):
    circuits = tuple(
        CircuitInfo(
            name=name, profile=spec.profile, shape=spec.shape, candidates=spec.candidates, server=bytes(32), client=bytes(32)
        )
        for name, spec in CIRCUITS.items()
    )
    return KeyEpoch(
        epoch=epoch,
        mode="threshold",
        parameters="plain",
        threshold=threshold,
        committee=tuple(committee),
        public_key=bytes(32),
        evaluation_keys=bytes(32),
        circuits=circuits,
        encoding=bytes(32),
        classes=(),
        known_input=bytes(32),
        max_decryptions=max_decryptions,
        flooding_bits=9,
        shares=(),
    )


def parts_of(key_epoch, peer):
    """The epoch's working parts as ``peer`` has them."""
    epoch, committee = key_epoch.epoch, list(key_epoch.committee)
    member = committee.index(peer) + 1 if peer in committee else 0
    evaluator = FakeEvaluator(epoch, CIRCUITS)
    evaluator.started = True
    return EpochParts(
        key_epoch=key_epoch,
        encryptor=FakeEncryptor(epoch),
        combiner=FakeCombiner(epoch, threshold=key_epoch.threshold),
        evaluator=evaluator if member else None,
        decryptor=FakeDecryptor(epoch, member, threshold=key_epoch.threshold) if member else None,
    )


def evaluate_now(evaluator, circuit, demand, telemetry):
    """The fake evaluator never waits, so that no loop is needed."""
    coroutine = evaluator.evaluate(circuit, demand, telemetry)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the fake evaluator waits")


class StaticView:
    """A ClusterView that a test writes."""

    def __init__(self, peers, *, key_epoch=None, block=FIRST_BLOCK):
        self.block, self.epoch = block, key_epoch
        self.objects = {}
        self.logs = {}
        self.node_rows = [node_row(number, peer) for number, peer in enumerate(peers)]
        self.callbacks = []
        self.home_peers = {}
        self.members = tuple(sorted(peers))
        self.final_lag = 0
        self.profile_name = "default"
        self.decisions_max = 10_000
        self.namespace_limit = 0

    def add(self, *rows):
        for row in rows:
            self.objects[row.kind, row.object_id] = row

    def append(self, shard, sequence, root, data=bytes(32), sender="operator-0", block=None):
        row = LogRow(shard=shard, sequence=sequence, root=root, count=1, data=data, sender=sender, block=block or self.block)
        self.logs.setdefault(shard, {})[sequence] = row
        return row

    def object(self, kind, object_id):
        return self.objects.get((kind, object_id))

    def nodes(self):
        return list(self.node_rows)

    def log(self, shard):
        return [row for _, row in sorted(self.logs.get(shard, {}).items())]

    def log_at(self, shard, sequence):
        return self.logs.get(shard, {}).get(sequence)

    def finality(self, level):
        return self.block - (0 if level == "latest" else self.final_lag)

    def term_members(self, term):
        return self.members

    def term_seed(self, term):
        return b"seed of %d" % term

    def subscribe(self, callback):
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def key_epoch(self):
        return self.epoch

    def profile(self):
        return self.profile_name

    def decisions_per_candidate(self):
        return self.decisions_max

    def decision_limit(self, object_id):
        return self.namespace_limit

    def homes(self, object_id):
        return self.home_peers.get(object_id, ())


def node_row(number, peer, **changes):
    values = {"peer": peer, "operator": f"operator-{number}", "status": "Active", "proven": True, "name": f"node-{number}"}
    return NodeRow(**(values | changes))


class Liveness:
    def __init__(self):
        self.dead = set()

    def gone(self, peer):
        return peer in self.dead

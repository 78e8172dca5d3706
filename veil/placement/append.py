"""From accepted leaves to the placement log: one append per shard at a time, however many leaves wait.

The log's sequence is the fence. A leaf is appended at the sequence that follows what the coordinator knew when it opened the
round; if anybody appended meanwhile, what it knew is stale, the leaf is dropped and nobody starts anything. An append whose
answer is lost is neither repeated elsewhere nor given up before the log shows what took its sequence, because the transaction
may still be on its way.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from veil.placement.effects import Append, Effects
from veil.placement.local import Local
from veil.placement.outcome import Accepted
from veil.placement.ports import ReplicaKey
from veil.types import Digest, Generation, ObjectId, PeerId, Shard
from veil.wire.codec import encode
from veil.wire.merkle import is_in, leaf_hash, proof_of, root_of
from veil.wire.rounds import Bound, Leaf, LeafBatch

LEAVES_MAX = 1024
"""Leaves in one append: what a LeafBatch takes."""

PROOFS_REMEMBERED = 8192
"""Leaves and proofs whose hashes are not computed again."""

EXPIRY_MARGIN_S = 1
"""A reservation that ends sooner than this is not worth an append: the winner would have let it go."""


def key_of(leaf: Leaf) -> ReplicaKey:
    return ReplicaKey(ObjectId(leaf.object_id), Generation(leaf.generation), leaf.replica)


def make_bound(shard: Shard, sequence: int, leaves: list[Leaf], index: int) -> Bound:
    """The proof of the leaf at ``index``."""
    hashes = [leaf_hash(leaf) for leaf in leaves]
    return Bound(leaf=leaves[index], shard=shard, sequence=sequence, root=root_of(hashes), proof=proof_of(hashes, index))


@lru_cache(maxsize=PROOFS_REMEMBERED)
def hash_of(leaf: Leaf) -> Digest:
    """:func:`veil.wire.merkle.leaf_hash`, remembered: a binding's leaf comes with each of its renewals."""
    return leaf_hash(leaf)


@lru_cache(maxsize=PROOFS_REMEMBERED)
def proves(bound: Bound) -> bool:
    """Whether the proof leads from the leaf to the root. Says nothing about the log."""
    return is_in(hash_of(bound.leaf), bound.proof, bound.root)


def leaf_is_appended(local: Local, bound: Bound, *, final: bool = False) -> bool:
    """Whether this node's own view of the log has the leaf in an append that counts (``final``: deep enough to act on)."""
    row = local.view.log_at(bound.shard, bound.sequence)
    if row is None or row.root != bound.root or not proves(bound):
        return False
    if final and row.block > local.view.finality(local.settings.finality):
        return False
    return local.ranking.counts(row)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One accepted leaf; ``base`` counts the appends of others that were known when its round was opened."""

    accepted: Accepted
    base: int
    held: bool = False
    """Another node holds the replica until this one is ready to take it over."""

    @property
    def key(self) -> ReplicaKey:
        return key_of(self.accepted.leaf)


@dataclass(slots=True)
class _Flight:
    """One append under way."""

    sequence: int
    batch: list[Waiting]
    root: Digest
    effect: Append
    retry_s: float
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """The log has them: tell the winners."""

    bounds: list[Bound]
    accepted: list[Accepted]


@dataclass(slots=True)
class ShardAppends:
    """One shard's queue and its append under way. Its owner moves ``news`` on when somebody else appends."""

    local: Local
    shard: Shard
    news: int = 0
    """The count of others' appends: leaves of rounds that were opened at another one are dropped."""
    last_own: int = 0
    _queue: list[Waiting] = field(default_factory=list)
    _flight: _Flight | None = None

    def add(self, waiting: Waiting) -> None:
        assert waiting.key not in self, "a replica is appended once at a time"
        self._queue.append(waiting)

    def __contains__(self, key: ReplicaKey) -> bool:
        """Whether a leaf of that replica waits or is under way."""
        return any(waiting.key == key for waiting in [*self._queue, *(self._flight.batch if self._flight else [])])

    def supersedes(self, bound: Bound) -> bool:
        """Whether a later leaf of the same replica is under way, so that ``bound`` cannot be counted on any more."""
        flight, key = self._flight, key_of(bound.leaf)
        return flight is not None and flight.sequence > bound.sequence and any(w.key == key and not w.held for w in flight.batch)

    def take_back(self, key: ReplicaKey, *, but_held: bool = False) -> None:
        """Somebody holds that replica after all: append nothing for it, unless it is under way (``but_held``: or is to follow
        a holder that wants to be rid of it)."""
        self._queue = [waiting for waiting in self._queue if waiting.key != key or (but_held and waiting.held)]

    def next(self, last_seen: int) -> Effects:
        """Begin the next append, or repeat the present one when its answer is overdue. ``last_seen``: the log's end here."""
        now = self.local.now()
        if self._flight is not None:
            flight = self._flight
            flight.in_doubt = flight.in_doubt or all(self._expired(waiting, margin_s=0) for waiting in flight.batch)
            if flight.in_doubt or now < flight.retry_s:
                return []
            flight.retry_s = now + self.local.settings.append_retry_s
            return [flight.effect]
        self._queue = [w for w in self._queue if w.base == self.news and not self._expired(w, EXPIRY_MARGIN_S)]
        batch, self._queue = self._queue[:LEAVES_MAX], self._queue[LEAVES_MAX:]
        if not batch:
            return []
        self._flight = self._depart(max(last_seen, self.last_own) + 1, batch)
        return [self._flight.effect]

    def _depart(self, sequence: int, batch: list[Waiting]) -> _Flight:
        hashes = tuple(leaf_hash(waiting.accepted.leaf) for waiting in batch)
        root = root_of(hashes)
        data = encode(LeafBatch(shard=self.shard, sequence=sequence, leaves=hashes))
        holders = tuple(dict.fromkeys(PeerId(waiting.accepted.leaf.peer) for waiting in batch))
        effect = Append(self.shard, sequence, root, len(batch), data, holders)
        return _Flight(sequence, batch, root, effect, float("inf"))

    def _expired(self, waiting: Waiting, margin_s: int) -> bool:
        return self.local.wall_s() + margin_s >= waiting.accepted.expires_s

    def on_answer(self, sequence: int, outcome: str) -> Appended | None:
        """What the chain said of an append: ``appended``, ``conflict``, or ``unknown`` when it did not answer."""
        flight = self._flight
        if flight is None or flight.sequence != sequence:
            return None
        if outcome == "appended":
            return self._landed(flight)
        if outcome == "conflict":
            flight.in_doubt = True
            return self.settle()
        flight.retry_s = self.local.now() + self.local.settings.append_retry_s
        return None

    def settle(self) -> Appended | None:
        """Look whether the log shows what took the sequence under way: this append, or somebody else's."""
        flight = self._flight
        if flight is None:
            return None
        row = self.local.view.log_at(self.shard, flight.sequence)
        if row is None:
            return None
        if row.root == flight.root:
            return self._landed(flight)
        self._flight = None
        return None

    def give_up(self) -> int | None:
        """Forget an append in doubt whose reservations are over: should it land yet, it counts as somebody else's.

        Gives back its sequence.
        """
        flight = self._flight
        if flight is None or not flight.in_doubt or not all(self._expired(w, -2 * EXPIRY_MARGIN_S) for w in flight.batch):
            return None
        self._flight, self.last_own = None, 0
        return flight.sequence

    def _landed(self, flight: _Flight) -> Appended:
        self._flight = None
        self.last_own = flight.sequence
        leaves = [waiting.accepted.leaf for waiting in flight.batch]
        bounds = [make_bound(self.shard, flight.sequence, leaves, index) for index in range(len(leaves))]
        return Appended(bounds, [waiting.accepted for waiting in flight.batch])

"""Who coordinates a shard in a term: rendezvous hashing over the term's members, the same for every reader of the chain.

The seed and the members are those of the last block before the term, so that nobody can choose them once the term runs and
no view of who is alive comes in: liveness only lets the next rank act. In a cluster that is younger than a term there is no
such block yet; then the peers that are Active now are ranked, and any of them may append (readers then agree on what counts,
which matters more than who acts).
"""

import hashlib
from functools import lru_cache

from veil.placement.ports import ClusterView
from veil.placement.settings import COORDINATORS
from veil.store.rows import LogRow, NodeRow
from veil.types import SHARDS, TERM_BLOCKS, ClusterId, ObjectId, PeerId, Shard, Term

ACTIVE = "Active"

REMEMBERED = 4096
"""Hashes and orders that are asked for at every tick."""


@lru_cache(maxsize=REMEMBERED)
def shard_of(object_id: ObjectId) -> Shard:
    """The shard whose log an object's replicas are in."""
    return Shard(int.from_bytes(hashlib.sha256(b"veil/shard.1" + object_id).digest()[:8], "big") % SHARDS)


def term_of(block: int) -> Term:
    return Term(block // TERM_BLOCKS)


@lru_cache(maxsize=REMEMBERED)
def order(shard: Shard, term: Term, members: tuple[PeerId, ...], seed: bytes) -> tuple[PeerId, ...]:
    """All members, highest weight first."""
    prefix = b"veil/rank.1" + term.to_bytes(8, "big") + shard.to_bytes(1, "big") + hashlib.sha256(seed).digest()
    return tuple(sorted(members, key=lambda peer: hashlib.sha256(prefix + peer).digest(), reverse=True))


class Ranking:
    """The ranks as ``view`` shows them now. Nothing is remembered: a reorg of a term's last block changes them."""

    def __init__(self, view: ClusterView, cluster: ClusterId) -> None:
        self._view = view
        self._cluster = cluster

    def term(self) -> Term:
        """The term of the newest block here."""
        return term_of(self._view.finality("latest"))

    def ranks(self, shard: Shard, term: Term) -> tuple[PeerId, ...]:
        """All of the term's members, coordinator first."""
        members = self._view.term_members(term)
        if not members:
            return order(shard, term, tuple(row.peer for row in self._active()), self._cluster)
        return order(shard, term, members, self._view.term_seed(term))

    def coordinators(self, shard: Shard, term: Term) -> tuple[PeerId, ...]:
        """Those whose messages and appends count, in the order in which they act."""
        return self.ranks(shard, term)[:COORDINATORS]

    def may_coordinate(self, peer: PeerId, shard: Shard, term: Term) -> bool:
        """Whether ``peer`` may open rounds of ``shard`` in ``term``, which is this node's own or one beside it."""
        return abs(term - self.term()) <= 1 and peer in self.coordinators(shard, term)

    def is_coordinator_of(self, peer: PeerId, object_id: ObjectId) -> bool:
        """Whether ``peer`` may coordinate the object's shard in the present term."""
        return peer in self.coordinators(shard_of(object_id), self.term())

    def counts(self, row: LogRow) -> bool:
        """Whether an append counts: its sender operates one of the coordinators of the shard in the term of its block."""
        term = term_of(row.block)
        peers = self.coordinators(Shard(row.shard), term) if self._view.term_members(term) else None
        nodes = [node for node in self._view.nodes() if node.proven and (peers is None or node.peer in peers)]
        return any(node.operator == row.sender for node in nodes)

    def _active(self) -> list[NodeRow]:
        return [row for row in self._view.nodes() if row.proven and row.status == ACTIVE]

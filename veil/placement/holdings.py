"""What this node holds: from a reservation to a binding that its agent runs, and to its end.

A reservation becomes a binding by the log alone: when this node's own view shows the append with its leaf. A Bound message
only brings the proof sooner; without it the node finds its leaf in the LeafBatch of each new append of the shard, so that a
coordinator that dies after its append takes nothing with it. A reservation that ends is let go for good: a proof that comes
later is refused, because others have counted on its end.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from veil.errors import WireInvalid
from veil.placement import reasons
from veil.placement.append import key_of, leaf_is_appended
from veil.placement.effects import Effects, Fetch
from veil.placement.eligibility import anchored, anchored_in
from veil.placement.local import Local
from veil.placement.opening import is_member, open_with, total_of
from veil.placement.ports import BindingTable, CapacityPort, ReplicaKey
from veil.placement.ranking import shard_of
from veil.placement.renewals import Renewals, binding_key
from veil.placement.tails import LogTails
from veil.store.journal import Binding
from veil.types import Digest, ObjectId, PeerId
from veil.wire.codec import decode, encode
from veil.wire.merkle import leaf_hash, proof_of, root_of
from veil.wire.objects import Resources, SealedPart
from veil.wire.rounds import Bound, Decline, InstanceStatus, KeyShare, Leaf, LeafBatch, RenewReply

log = logging.getLogger(__name__)

SEARCHED_AFTER_RESTART = 32
"""Appends of a shard that are searched for a reservation's leaf after a restart."""


@dataclass(slots=True)
class _Progress:
    """What is known of one binding beside its journal entry."""

    searched: int
    """The last sequence whose leaves were looked at."""
    proof: Bound | None = None
    content: Digest | None = None
    sealed: SealedPart | None = None
    shares: dict[int, bytes] = field(default_factory=dict)
    seen_s: float = 0.0
    """When the log was last seen to have the leaf (monotonic)."""
    sole_s: float | None = None
    """When this node last knew that nobody else holds the replica (monotonic): at its append, or by a coordinator's word."""
    held: bool = False
    """Whether another node may hold it yet when it is appended, so that only a coordinator's word counts."""
    hindrance: str = ""
    """Why nobody has taken it over yet, as a coordinator last said."""
    keyless_since_s: float | None = None
    """Since when only the key of a confidential template is missing."""


class Holdings:
    """This node's bindings. ``changed`` is called whenever :meth:`bindings` gives something else."""

    def __init__(
        self,
        local: Local,
        table: BindingTable,
        capacity: CapacityPort,
        renewals: Renewals,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.local = local
        self.changed = changed
        self._table = table
        self._capacity = capacity
        self._renewals = renewals
        self._tails = LogTails(local.view)
        self._held = {binding_key(binding): binding for binding in table.all()}
        self._progress: dict[ReplicaKey, _Progress] = {}
        for key, binding in self._held.items():
            self._adopt(key, binding)

    def _adopt(self, key: ReplicaKey, binding: Binding) -> None:
        """After a restart: what was promised or is running still takes its room, also where the machine has become smaller.

        A reservation that ends without an append gives it back when this node looks at it (:meth:`look_again`).
        """
        self._capacity.restore(key, total_of(decode(binding.resources, Resources)))
        last = self._tails.of(shard_of(key.object_id)).sequence
        self._progress[key] = _Progress(max(0, last - SEARCHED_AFTER_RESTART), seen_s=self.local.now(), held=True)

    # what is held

    def bindings(self) -> list[Binding]:
        """Reserved, bound (run them) and superseded (stop them, then :meth:`release`)."""
        return list(self._held.values())

    def holds(self, key: ReplicaKey) -> bool:
        """Whether the replica is bound here, or its leaf is appended."""
        binding = self._held.get(key)
        return binding is not None and bool(binding.bound)

    def reserved(self, binding: Binding, *, held: bool = False) -> None:
        """A new reservation, durable when this returns; one of an earlier round is replaced. ``held``: another node runs it."""
        key = binding_key(binding)
        self._put(key, binding)
        self._progress[key] = _Progress(self._tails.of(shard_of(key.object_id)).sequence, held=held)

    def release(self, key: ReplicaKey) -> Effects:
        """Nothing of the replica runs here any more: forget it, and say so once."""
        binding = self._held.get(key)
        if binding is None:
            return []
        stopped = InstanceStatus(phase="Terminating", reason=reasons.STOPPED, observed_s=self.local.wall_s())
        effects = self._renewals.renew(binding, stopped) if binding.bound else []
        self._drop(key)
        return effects

    # what is heard

    def on_bound(self, sender: PeerId, bound: Bound) -> Effects:
        """A proof. Taken once the log shows it; refused when the reservation is over."""
        key = key_of(bound.leaf)
        binding = self._held.get(key)
        if bound.leaf.peer != self.local.peer:
            return []
        if binding is None or binding.leaf != encode(bound.leaf) or binding.state == "superseded":
            return [
                self.local.send(sender, Decline(round=bound.leaf.round, replicas=(bound.leaf.replica,), reason=reasons.RELEASED))
            ]
        if binding.bound:
            return self._renewals.renew(binding)
        self._progress[key].proof = bound
        return self._look_at(key)

    def on_content(self, wanted: Digest, content: bytes | None) -> Effects:
        """Leaves of an append, or what is to be run."""
        if content is None:
            return []
        effects: Effects = []
        for key in list(self._held):
            if self._progress[key].content == wanted:
                self._on_template(key, content)
            elif self._held[key].bound == b"":
                self._on_batch(key, wanted, content)
            effects += self._look_at(key)
        return effects

    def on_key_share(self, sender: PeerId, share: KeyShare) -> Effects:
        """A share of the key of a confidential template."""
        effects: Effects = []
        for key, binding in list(self._held.items()):
            mine = decode(binding.leaf, Leaf).round == share.round and self._progress[key].content == share.part
            if share.piece == "template" and mine and is_member(self.local, sender, share.member):
                self._progress[key].shares[share.member] = share.share
                self._open_template(key)
                effects += self._look_at(key)
        return effects

    def on_renew_reply(self, key: ReplicaKey, peer: PeerId, reply: RenewReply) -> Effects:
        binding = self._held.get(key)
        if binding is None or not self._renewals.counts(binding, peer):
            return []
        if not reply.keep:
            return self._end(key, reply.reason)
        if reply.reason:
            self._progress[key].hindrance = reply.reason
        if reply.informed:
            self._progress[key].sole_s = self.local.now()
        return self._look_at(key)

    def hindrance(self, key: ReplicaKey) -> str:
        """Why a replica that is to move has not moved: a condition's reason, or empty."""
        return self._progress[key].hindrance if key in self._progress else ""

    def renew_now(self, key: ReplicaKey) -> Effects:
        binding = self._held.get(key)
        return self._renewals.renew(binding) if binding and binding.bound else []

    def look_again(self, *, view_changed: bool = True) -> Effects:
        """The view or the clock has moved; the clock alone does nothing to what is bound."""
        due = [key for key, binding in self._held.items() if view_changed or binding.state != "bound"]
        effects = [effect for key in due for effect in self._look_at(key)]
        return effects + self._renewals.due(self._held.values())

    # how a binding goes on

    def _look_at(self, key: ReplicaKey) -> Effects:
        binding = self._held.get(key)
        if binding is None or binding.state == "superseded":
            return []
        if not binding.bound:
            return self._look_for_leaf(key, binding)
        return self._look_at_leaf(key, binding)

    def _look_for_leaf(self, key: ReplicaKey, binding: Binding) -> Effects:
        if self.local.wall_s() >= binding.expires_s:
            log.info("a reservation ended without an append")
            self._drop(key)
            return []
        progress = self._progress[key]
        if progress.proof is not None and leaf_is_appended(self.local, progress.proof):
            held = replace(binding, bound=encode(progress.proof))
            self._put(key, held)
            self._capacity.confirm(key)
            progress.seen_s = self.local.now()
            progress.sole_s = None if progress.held else progress.seen_s
            return [*self._renewals.renew(held), *self._look_at_leaf(key, held)]
        tail = self._tails.of(shard_of(key.object_id))
        effects: Effects = [Fetch(row.data) for row in tail.after(progress.searched)]
        return effects + self._want_template(key, binding)

    def _look_at_leaf(self, key: ReplicaKey, binding: Binding) -> Effects:
        """Appended: watch that it stays so; run it once it is deep enough and its template is here."""
        progress, bound = self._progress[key], decode(binding.bound, Bound)
        if leaf_is_appended(self.local, bound):
            progress.seen_s = self.local.now()
        row = self.local.view.log_at(bound.shard, bound.sequence)
        replaced = row is not None and row.root != bound.root
        lost = binding.state == "reserved" and self.local.now() - progress.seen_s > self.local.settings.lease_s
        if replaced or lost:
            return self._end(key, reasons.SUPERSEDED)
        if binding.state == "bound":
            return []
        if not leaf_is_appended(self.local, bound, final=True):
            return self._want_template(key, binding)
        if binding.template:
            if not self._is_sole(progress):
                return []
            self._put(key, replace(binding, state="bound"))
            log.info("round %s bound", bound.leaf.round.hex()[:8])
            return self.renew_now(key)
        return self._want_key(key, binding)

    def _is_sole(self, progress: _Progress) -> bool:
        """Nothing is started on old knowledge: a node that was away for a lease may have been replaced meanwhile."""
        return progress.sole_s is not None and self.local.now() - progress.sole_s < self.local.settings.lease_s

    def _want_key(self, key: ReplicaKey, binding: Binding) -> Effects:
        """A sealed template whose key does not come within a lease: its coordinator is gone, let another place it anew."""
        progress, now = self._progress[key], self.local.now()
        if progress.sealed is not None:
            progress.keyless_since_s = now if progress.keyless_since_s is None else progress.keyless_since_s
            if now - progress.keyless_since_s > self.local.settings.lease_s:
                return self._end(key, reasons.KEY_UNAVAILABLE)
        return self._want_template(key, binding)

    def _end(self, key: ReplicaKey, reason: str) -> Effects:
        binding = self._held[key]
        log.info("a binding ends: %s", reason)
        if binding.state == "reserved":
            return self.release(key)
        if binding.state == "bound":
            self._put(key, replace(binding, state="superseded"))
        return []

    def _put(self, key: ReplicaKey, binding: Binding) -> None:
        self._table.put(binding)
        self._held[key] = binding
        self.changed()

    def _drop(self, key: ReplicaKey) -> None:
        self._table.remove(*key)
        self._capacity.release(key)
        self._renewals.forget(key)
        del self._held[key], self._progress[key]
        self.changed()

    # contents

    def _on_batch(self, key: ReplicaKey, wanted: Digest, content: bytes) -> None:
        """Make the proof out of an append's leaves, if ours is among them."""
        try:
            batch = decode(content, LeafBatch)
        except WireInvalid:
            return
        row = self.local.view.log_at(batch.shard, batch.sequence)
        leaf = decode(self._held[key].leaf, Leaf)
        hashes = [Digest(item) for item in batch.leaves]
        if row is None or row.data != wanted or batch.shard != shard_of(key.object_id) or row.root != root_of(hashes):
            return
        progress = self._progress[key]
        if batch.sequence == progress.searched + 1:
            progress.searched = batch.sequence
        if (mine := leaf_hash(leaf)) in hashes:
            proof = proof_of(hashes, hashes.index(mine))
            progress.proof = Bound(leaf=leaf, shard=batch.shard, sequence=batch.sequence, root=row.root, proof=proof)

    def _want_template(self, key: ReplicaKey, binding: Binding) -> Effects:
        """Ask for what is to be run: a public body, or the sealed template (whose key comes after the append)."""
        progress = self._progress[key]
        if binding.template or progress.sealed is not None:
            return []
        found = anchored_in(self.local.view, key.object_id, decode(binding.leaf, Leaf).epoch)
        if found is None or found.generation != key.generation:
            return []
        progress.content = Digest(found.envelope.template or found.envelope.body)
        return [Fetch(progress.content)] if progress.content else []

    def _on_template(self, key: ReplicaKey, content: bytes) -> None:
        found, progress = anchored(self.local.view, key.object_id), self._progress[key]
        if found is None or found.generation != key.generation or self._held[key].template:
            return
        if not found.envelope.template:
            self._put(key, replace(self._held[key], template=content))
            return
        try:
            progress.sealed = decode(content, SealedPart)
        except WireInvalid:
            log.warning("a sealed template that is none")
            return
        self._open_template(key)

    def _open_template(self, key: ReplicaKey) -> None:
        progress = self._progress[key]
        plain = open_with(progress.sealed, progress.shares, "template", ObjectId(key.object_id))
        if plain is not None and not self._held[key].template:
            self._put(key, replace(self._held[key], template=plain))
            progress.shares.clear()

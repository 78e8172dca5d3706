"""Who holds what, as this node hears it: the lease table of coordinators, stand-ins and home nodes.

A lease lives by renewals. Every renewal carries its proof, so that a node with empty state learns everything from the first
cadence it hears. Of two holders of one replica the later append wins; the earlier one is told to stop when it next renews.
"""

from dataclasses import dataclass

from veil.placement import reasons
from veil.placement.append import hash_of, key_of, leaf_is_appended
from veil.placement.eligibility import WORKLOAD, anchored
from veil.placement.local import Local
from veil.placement.ports import ReplicaKey
from veil.placement.settings import SILENT_LEASES, UNHEARD_LEASES
from veil.types import PeerId
from veil.wire.rounds import Bound, Decline, InstanceStatus, Renew, RenewReply


@dataclass(slots=True)
class Lease:
    """One holder. ``heard_s`` is monotonic; until ``renewed`` it is when the append was seen."""

    bound: Bound
    heard_s: float
    renewed: bool
    status: InstanceStatus

    @property
    def peer(self) -> PeerId:
        return PeerId(self.bound.leaf.peer)


def rank_of(bound: Bound) -> tuple[int, bytes]:
    """Later appends win; within one append (which no honest coordinator does) the greater leaf."""
    return bound.sequence, hash_of(bound.leaf)


class LeaseTable:
    """All leases known here."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self._leases: dict[ReplicaKey, Lease] = {}
        self._retired: dict[ReplicaKey, bool] = {}
        """Replicas that are not wanted any more, and whether they have gone."""

    def get(self, key: ReplicaKey) -> Lease | None:
        return self._leases.get(key)

    def all(self) -> dict[ReplicaKey, Lease]:
        return dict(self._leases)

    # what is heard

    def appended(self, bound: Bound) -> None:
        """This node's own append: its winner has one lease to be heard."""
        key = key_of(bound.leaf)
        known = self._leases.get(key)
        if known is None or rank_of(known.bound) < rank_of(bound):
            waiting = InstanceStatus(phase="Pending", reason=reasons.STARTING, observed_s=self.local.wall_s())
            self._leases[key] = Lease(bound, self.local.now(), False, waiting)

    def heard(self, sender: PeerId, renew: Renew) -> bool:
        """Take a renewal in. False when it changes nothing: forged, not in the log as seen here, or of an earlier holder."""
        bound, key = renew.bound, key_of(renew.bound.leaf)
        if bound.leaf.peer != sender or not leaf_is_appended(self.local, bound):
            return False
        known = self._leases.get(key)
        if known is not None and rank_of(known.bound) > rank_of(bound):
            return False
        if renew.status.reason == reasons.STOPPED:
            self._leases.pop(key, None)
            return True
        self._leases[key] = Lease(bound, self.local.now(), True, renew.status)
        return True

    def reply(self, renew: Renew, *, acting: bool, informed: bool) -> RenewReply:
        """What the holder is told. Only an acting coordinator ends a binding, and only for what it knows.

        ``informed``: it has listened long enough to know of every holder.
        """
        key = key_of(renew.bound.leaf)
        known = self._leases.get(key)
        if known is not None and rank_of(known.bound) > rank_of(renew.bound):
            return RenewReply(keep=False, reason=reasons.SUPERSEDED)
        if not acting or not leaf_is_appended(self.local, renew.bound):
            return RenewReply(keep=True)
        reason = self._unwanted(key)
        return RenewReply(keep=not reason, reason=reason, informed=informed)

    def refused(self, sender: PeerId, decline: Decline) -> list[ReplicaKey]:
        """The winner of an append says that it does not hold these (any more): their leases are over at once."""
        over = [
            key
            for key, lease in self._leases.items()
            if lease.peer == sender and lease.bound.leaf.round == decline.round and key.replica in decline.replicas
        ]
        for key in over:
            del self._leases[key]
        return over

    # what is wanted

    def retire(self, key: ReplicaKey) -> None:
        """Its Instance object is gone: whoever holds it is to stop."""
        self._retired.setdefault(key, False)

    def want(self, key: ReplicaKey) -> None:
        self._retired.pop(key, None)

    def is_retired(self, key: ReplicaKey) -> bool:
        """Not wanted any more: what is heard of it is not shown, or its Instance object would come back."""
        return key in self._retired

    def retiring(self) -> list[ReplicaKey]:
        """Retired replicas that have not gone yet."""
        return [key for key, gone in self._retired.items() if not gone]

    def has_gone(self, key: ReplicaKey) -> None:
        """Nobody holds it. Should a holder turn up yet, it is told to stop."""
        self._retired[key] = True

    def _unwanted(self, key: ReplicaKey) -> str:
        """Why nobody is to hold ``key``, empty when somebody may. Its append is in this view, so its workload once was."""
        if key in self._retired:
            return reasons.RETIRED
        row = self.local.view.object(WORKLOAD, key.object_id)
        if row is None or row.deleting:
            return reasons.DELETED
        found = anchored(self.local.view, key.object_id)
        if found is not None and found.generation == key.generation and key.replica >= found.envelope.replicas:
            return reasons.SCALED_DOWN
        return ""

    # time

    def expired(self) -> list[ReplicaKey]:
        """Leases that are over: silent for a lease and not alive for SWIM, or silent for longer. They are dropped."""
        over = []
        for key, lease in list(self._leases.items()):
            silent_s = self.local.now() - lease.heard_s
            patience = SILENT_LEASES if lease.renewed else UNHEARD_LEASES
            if self.local.liveness.gone(lease.peer):
                patience = 1
            if silent_s >= patience * self.local.settings.lease_s:
                del self._leases[key]
                over.append(key)
        return over

    def unheard(self) -> list[Lease]:
        """Own appends whose winner has not renewed yet: tell it again."""
        return [lease for lease in self._leases.values() if not lease.renewed]

"""Who holds what, as this node hears it: the lease table of coordinators, stand-ins and home nodes.

A lease lives by renewals. Every renewal carries its proof, so that a node with empty state learns everything from the first
cadence it hears. Of two holders of one replica the later append wins; the earlier one is told to stop when it next renews.

A replica that moves away from a node that is drained is handed over: its holder is told to stop once the later winner could
start, and the winner is told that it is alone once the holder has said that it stopped, or is over as any lease is.
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
    moving: bool = False
    """Its holder wants to be rid of it."""
    hindrance: str = ""
    """Why no other node has taken over what is moving."""

    @property
    def peer(self) -> PeerId:
        return PeerId(self.bound.leaf.peer)

    @property
    def could_start(self) -> bool:
        """Whether its winner lacks nothing but the word that nobody else holds the replica."""
        waits = (reasons.WAITING_FOR_FINALITY, reasons.WAITING_FOR_KEY)
        return self.renewed and self.status.reason not in waits


def rank_of(bound: Bound) -> tuple[int, bytes]:
    """Later appends win; within one append (which no honest coordinator does) the greater leaf."""
    return bound.sequence, hash_of(bound.leaf)


class LeaseTable:
    """All leases known here."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self._leases: dict[ReplicaKey, Lease] = {}
        self._earlier: dict[ReplicaKey, dict[PeerId, Lease]] = {}
        """Holders of earlier appends that have not said yet that they have stopped."""
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
            self._put(key, Lease(bound, self.local.now(), False, waiting))

    def _put(self, key: ReplicaKey, lease: Lease) -> None:
        """The present one. Who was heard before, and was another, may run on until it says that it has stopped."""
        before, self._leases[key] = self._leases.get(key), lease
        if before is not None and before.renewed and before.peer != lease.peer:
            self._earlier.setdefault(key, {})[before.peer] = before
        self._forget_earlier(key, lease.peer)

    def _forget_earlier(self, key: ReplicaKey, peer: PeerId) -> None:
        others = self._earlier.get(key, {})
        others.pop(peer, None)
        if not others:
            self._earlier.pop(key, None)

    def _drop(self, key: ReplicaKey) -> bool:
        """Its lease is over. An earlier holder that is still there has it again; whether nobody has it any more."""
        del self._leases[key]
        others = self._earlier.get(key)
        if not others:
            return True
        last = max(others.values(), key=lambda lease: rank_of(lease.bound))
        self._forget_earlier(key, last.peer)
        self._leases[key] = last
        return False

    def heard(self, sender: PeerId, renew: Renew) -> bool:
        """Take a renewal in. False when it changes nothing: forged, not in the log as seen here, or of an earlier holder."""
        bound, key = renew.bound, key_of(renew.bound.leaf)
        if bound.leaf.peer != sender or not leaf_is_appended(self.local, bound):
            return False
        known, stopped = self._leases.get(key), renew.status.reason == reasons.STOPPED
        lease = Lease(bound, self.local.now(), True, renew.status, renew.moving)
        if known is not None and rank_of(known.bound) > rank_of(bound):
            if stopped:
                self._forget_earlier(key, sender)
            elif known.peer != sender:
                self._earlier.setdefault(key, {})[sender] = lease
            return False
        if stopped:
            return known is None or self._drop(key)
        if known is not None and known.bound == bound:
            lease.hindrance = known.hindrance
        self._put(key, lease)
        return True

    def reply(self, renew: Renew, *, acting: bool, informed: bool) -> RenewReply:
        """What the holder is told. Only an acting coordinator ends a binding, and only for what it knows.

        ``informed``: it has listened long enough to know of every holder.
        """
        key = key_of(renew.bound.leaf)
        known = self._leases.get(key)
        if known is not None and rank_of(known.bound) > rank_of(renew.bound):
            runs_on = renew.moving and not known.could_start
            return RenewReply(keep=runs_on, reason="" if runs_on else reasons.SUPERSEDED)
        if not acting or not leaf_is_appended(self.local, renew.bound):
            return RenewReply(keep=True)
        if reason := self._unwanted(key):
            return RenewReply(keep=False, reason=reason, informed=informed)
        hindrance = known.hindrance if known is not None and renew.moving else ""
        return RenewReply(keep=True, reason=hindrance, informed=informed and key not in self._earlier)

    def refused(self, sender: PeerId, decline: Decline) -> list[ReplicaKey]:
        """The winner of an append says that it does not hold these (any more): their leases are over at once."""
        over = [
            key
            for key, lease in self._leases.items()
            if lease.peer == sender and lease.bound.leaf.round == decline.round and key.replica in decline.replicas
        ]
        return [key for key in over if self._drop(key)]

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
        for key, others in list(self._earlier.items()):
            for peer in [peer for peer, lease in others.items() if self._is_over(lease)]:
                self._forget_earlier(key, peer)
        over = [key for key, lease in self._leases.items() if self._is_over(lease)]
        return [key for key in over if self._drop(key)]

    def _is_over(self, lease: Lease) -> bool:
        patience = SILENT_LEASES if lease.renewed else UNHEARD_LEASES
        if self.local.liveness.gone(lease.peer):
            patience = 1
        return self.local.now() - lease.heard_s >= patience * self.local.settings.lease_s

    def holds(self, peer: PeerId) -> bool:
        """Whether ``peer`` has a lease that is not over."""
        others = [lease for earlier in self._earlier.values() for lease in earlier.values()]
        return any(lease.peer == peer and not self._is_over(lease) for lease in (*self._leases.values(), *others))

    def unheard(self) -> list[Lease]:
        """Own appends whose winner has not renewed yet: tell it again."""
        return [lease for lease in self._leases.values() if not lease.renewed]

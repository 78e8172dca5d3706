"""The winner's side of leases: it tells the coordinators and home nodes, at a constant cadence, what it holds and how it is.

Renewals go to all ranks that may act for the shard, so that whoever takes over has heard of the binding or will within a
cadence. Only one of those ranks can end a binding, by its reply.
"""

from collections.abc import Iterable

from veil.placement import reasons
from veil.placement.append import leaf_is_appended
from veil.placement.effects import AskRenewal, Effects
from veil.placement.local import Local
from veil.placement.ports import ReplicaKey
from veil.store.journal import Binding
from veil.types import PeerId, Shard
from veil.wire.codec import decode
from veil.wire.rounds import Bound, InstanceStatus, Renew


def binding_key(binding: Binding) -> ReplicaKey:
    return ReplicaKey(binding.object_id, binding.generation, binding.replica)


class Renewals:
    """When to renew what, to whom, and what the replies mean."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self.moving: frozenset[ReplicaKey] = frozenset()
        """What this node runs and wants to be rid of."""
        self._status: dict[ReplicaKey, InstanceStatus] = {}
        self._due_s: dict[ReplicaKey, float] = {}

    def status_changed(self, key: ReplicaKey, status: InstanceStatus) -> None:
        """What the agent says; it goes out with the next renewal (at once where the settings say so)."""
        before = self._status.get(key)
        self._status[key] = status
        shown = (before.phase, before.ready, before.reason) if before else None
        if self.local.settings.renew_on_change and shown != (status.phase, status.ready, status.reason):
            self._due_s[key] = self.local.now()

    def move(self, keys: frozenset[ReplicaKey]) -> None:
        """Exactly these are to move to other nodes from now on."""
        for key in keys - self.moving:
            self._due_s[key] = self.local.now()
        self.moving = keys

    def status_of(self, key: ReplicaKey) -> InstanceStatus | None:
        """What the agent last said of it."""
        return self._status.get(key)

    def forget(self, key: ReplicaKey) -> None:
        self._status.pop(key, None)
        self._due_s.pop(key, None)

    def due(self, bindings: Iterable[Binding]) -> Effects:
        """Renewals of those whose time has come."""
        now, effects = self.local.now(), Effects()
        for binding in bindings:
            key = binding_key(binding)
            if binding.bound and now >= self._due_s.get(key, 0.0):
                effects += self.renew(binding)
        return effects

    def renew(self, binding: Binding, status: InstanceStatus | None = None) -> Effects:
        """One renewal now, to everybody who should hear it."""
        key, bound = binding_key(binding), decode(binding.bound, Bound)
        self._due_s[key] = self.local.now() + self.local.settings.renew_s
        moving = key in self.moving and binding.state == "bound"
        message = self.local.sign(Renew(bound=bound, status=status or self._status_of(binding), moving=moving))
        return [AskRenewal(peer, key, message) for peer in self._receivers(Shard(bound.shard), key)]

    def counts(self, binding: Binding, peer: PeerId) -> bool:
        """Whether a reply of ``peer`` means anything: it is one of the shard's coordinators."""
        if not binding.bound:
            return False
        shard = Shard(decode(binding.bound, Bound).shard)
        return peer in self.local.ranking.coordinators(shard, self.local.ranking.term())

    def _status_of(self, binding: Binding) -> InstanceStatus:
        """Of what is reserved, the reason tells the coordinator whether it could start now."""
        if binding.state == "superseded":
            return self._status.get(binding_key(binding)) or InstanceStatus(phase="Terminating", reason=reasons.SUPERSEDED)
        if binding.state == "reserved":
            reason = reasons.WAITING_FOR_KEY
            if binding.template:
                final = leaf_is_appended(self.local, decode(binding.bound, Bound), final=True)
                reason = reasons.WAITING_FOR_HOLDER if final else reasons.WAITING_FOR_FINALITY
            return InstanceStatus(phase="Pending", reason=reason, observed_s=self.local.wall_s())
        starting = InstanceStatus(phase="Pending", reason=reasons.STARTING, observed_s=self.local.wall_s())
        return self._status.get(binding_key(binding), starting)

    def _receivers(self, shard: Shard, key: ReplicaKey) -> list[PeerId]:
        ranks = self.local.ranking.coordinators(shard, self.local.ranking.term())
        return list(dict.fromkeys([*ranks, *self.local.view.homes(key.object_id)]))

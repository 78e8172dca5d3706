"""What placement sees of the cluster: the projection, with the key epoch and the home nodes that only the node knows."""

import logging
from collections.abc import Callable

from veil.chain.ports import NodeStatus
from veil.chain.records import Right, role_address
from veil.errors import WireInvalid
from veil.node.envelopes import envelope_of
from veil.store.projection import Projection
from veil.store.rows import LogRow, NodeRow, ObjectRow
from veil.store.transcripts import TRANSCRIPT_RETENTION_S
from veil.types import Address, ObjectId, PeerId
from veil.wire.nodes import KeyEpoch, Profile
from veil.wire.objects import KINDS
from veil.wire.policy import ClusterPolicy, read_policy

log = logging.getLogger(__name__)


class NodeView:
    """Implements placement's ClusterView."""

    def __init__(self, projection: Projection, key_epoch: Callable[[], KeyEpoch | None]) -> None:
        self._projection = projection
        self._key_epoch = key_epoch

    def object(self, kind: int, object_id: ObjectId) -> ObjectRow | None:
        """A Workload whose envelope is not that of this object is none."""
        row = self._projection.object(kind, object_id)
        unreadable = row is not None and kind == KINDS["Workload"] and not row.deleting and envelope_of(row) is None
        return None if unreadable else row

    def nodes(self) -> list[NodeRow]:
        return self._projection.nodes()

    def log(self, shard: int) -> list[LogRow]:
        return self._projection.log(shard)

    def log_at(self, shard: int, sequence: int) -> LogRow | None:
        return self._projection.log_at(shard, sequence)

    def finality(self, level: str) -> int:
        return self._projection.finality(level)

    def term_members(self, term: int) -> tuple[PeerId, ...]:
        return self._projection.term_members(term)

    def term_seed(self, term: int) -> bytes:
        return self._projection.term_seed(term)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._projection.subscribe(callback)

    def key_epoch(self) -> KeyEpoch | None:
        return self._key_epoch()

    def profile(self) -> Profile | None:
        policy = self._policy()
        return policy.profile if policy is not None else None

    def decisions_per_candidate(self) -> int:
        return (self._policy() or ClusterPolicy()).decisions_per_candidate

    def decision_limit(self, object_id: ObjectId) -> int:
        return self._projection.decision_limit(object_id[:16])

    def transcript_retention_s(self) -> int:
        """How long transcripts are kept, by the cluster's policy; the default while that cannot be read."""
        policy = self._policy()
        return policy.transcript_retention_s if policy is not None else TRANSCRIPT_RETENTION_S

    def _policy(self) -> ClusterPolicy | None:
        try:
            return read_policy(self._projection.policy())
        except WireInvalid as error:
            log.warning("the cluster's policy cannot be read: %s", error)
            return None

    def homes(self, object_id: ObjectId) -> tuple[PeerId, ...]:
        return self._named_homes(object_id) or ()

    def may_be_home(self, object_id: ObjectId, peer: PeerId) -> bool:
        """Whether ``peer`` is a home node of a workload that exists, or would be for all that is known here."""
        row = self._projection.object(KINDS["Workload"], object_id)
        homes = self._named_homes(object_id)
        return row is not None and (homes is None or peer in homes)

    def _named_homes(self, object_id: ObjectId) -> tuple[PeerId, ...] | None:
        """None while the registry names none: whoever made the namespace is about to."""
        row = self._projection.object(KINDS["Workload"], object_id)
        known = row is not None and envelope_of(row) is not None
        return (self._projection.namespace(object_id[:16]).homes or None) if known else None

    def may_read(self, object_id: ObjectId, peer: PeerId) -> bool:
        """Whether ``peer`` may read what is sealed to the namespace's home nodes: it is one, or its operator may view."""
        return peer in self.homes(object_id) or self.may_view(object_id[:16], peer)

    def may_view(self, namespace: bytes, peer: PeerId) -> bool:
        """Whether the operator of ``peer`` has the right to view ``namespace`` (16 bytes), or owns it."""
        node = self._projection.node(peer)
        space = self._projection.object(KINDS["Namespace"], ObjectId(namespace + bytes(16)))
        if node is None or space is None or not node.proven or node.status == NodeStatus.GONE:
            return False
        given = Right(self._projection.rights(namespace, space.owner, node.operator))
        return Right.VIEW in given or self._owns(space.owner, node.operator)

    def _owns(self, owner: Address, account: Address) -> bool:
        """Whether ``account`` is ``owner``, or holds the role that it stands for."""
        return owner == account or any(
            role_address(role) == owner and account in holders for role, holders in self._projection.roles().items()
        )

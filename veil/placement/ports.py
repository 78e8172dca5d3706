"""What placement asks of the rest of the node.

The chain's projection and the journal are read and written in place (they are this node's own and answer at once); whatever
leaves the process or takes time is an effect (:mod:`veil.placement.effects`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from veil.fhe.ports import Combiner, Decryptor, Encryptor, Evaluator, Figures
from veil.store.journal import Binding
from veil.store.rows import LogRow, NodeRow, ObjectRow
from veil.types import Digest, Epoch, Generation, ObjectId, PeerId, RoundId
from veil.wire.nodes import KeyEpoch, Profile
from veil.wire.rounds import Bound, InstanceStatus


class ReplicaKey(NamedTuple):
    """One replica of one template generation: what is bound to at most one node."""

    object_id: ObjectId
    generation: Generation
    replica: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A replica that has an Instance object here. ``generation`` is its template's."""

    object_id: ObjectId
    generation: Generation
    replica: int
    namespace: str
    name: str

    @property
    def key(self) -> ReplicaKey:
        return ReplicaKey(self.object_id, self.generation, self.replica)


class ClusterView(Protocol):
    """What the chain says, as far as this node has read it (:class:`veil.store.projection.Projection`), and its key epoch."""

    def object(self, kind: int, object_id: ObjectId) -> ObjectRow | None: ...

    def nodes(self) -> list[NodeRow]: ...

    def log(self, shard: int) -> list[LogRow]: ...

    def log_at(self, shard: int, sequence: int) -> LogRow | None: ...

    def finality(self, level: str) -> int: ...

    def term_members(self, term: int) -> tuple[PeerId, ...]: ...

    def term_seed(self, term: int) -> bytes: ...

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]: ...

    def key_epoch(self) -> KeyEpoch | None:
        """The epoch that this node works with; None while the chain has none or its material is not here."""
        ...

    def profile(self) -> Profile | None:
        """Of placement rounds, by the cluster's policy; None when that cannot be read."""
        ...

    def decisions_per_candidate(self) -> int:
        """What the cluster's policy allows of one key epoch; the default while it cannot be read."""
        ...

    def decision_limit(self, object_id: ObjectId) -> int:
        """What the registry allows of one key epoch to all workloads of the object's namespace together; 0 for no limit."""
        ...

    def homes(self, object_id: ObjectId) -> tuple[PeerId, ...]:
        """The home nodes of the object's namespace, as far as they are known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochParts:
    """One key epoch as working parts; ``evaluator`` and ``decryptor`` only on committee members."""

    key_epoch: KeyEpoch
    encryptor: Encryptor
    combiner: Combiner
    evaluator: Evaluator | None = None
    decryptor: Decryptor | None = None


class SpentRounds(Protocol):
    """The journal's record of released decryptions."""

    def spend(
        self,
        epoch: Epoch,
        round: RoundId,
        owner: str,
        object_id: ObjectId,
        replicas: Sequence[int],
        circuit: str,
        quorum: Sequence[int],
        evaluation: bytes,
        at_s: int,
        telemetry: Mapping[PeerId, Digest],
    ) -> bool:
        """Durable once it returns. False when the round was spent on anything else; one member more is the same, once."""
        ...

    def is_spent(self, round: RoundId) -> bool: ...

    def decisions(self, epoch: Epoch, candidate: PeerId) -> int:
        """Rounds of ``epoch`` that were spent with ``candidate`` in them."""
        ...

    def of_namespace(self, epoch: Epoch, namespace: bytes) -> int:
        """Rounds of ``epoch`` that were spent for workloads of ``namespace`` (16 bytes)."""
        ...

    def used_by(self, telemetry: Digest) -> tuple[PeerId, RoundId] | None:
        """Whose telemetry, in which of the spent rounds, had that digest."""
        ...

    def count(self, epoch: Epoch) -> int: ...


class BindingTable(Protocol):
    """The journal's record of what this node has promised or holds."""

    def put(self, binding: Binding) -> None:
        """Durable once it returns."""
        ...

    def get(self, object_id: ObjectId, generation: Generation, replica: int) -> Binding | None: ...

    def all(self) -> list[Binding]: ...

    def remove(self, object_id: ObjectId, generation: Generation, replica: int) -> None: ...


class CounterTable(Protocol):
    """The journal's named numbers, which never go back."""

    def value(self, name: str) -> int:
        """0 for one that nobody has raised yet."""
        ...

    def raise_to(self, name: str, value: int) -> None:
        """Durable once it returns; changes nothing when it is that high already."""
        ...


class Journal(Protocol):
    """The part of the journal that placement writes."""

    @property
    def rounds(self) -> SpentRounds: ...

    @property
    def bindings(self) -> BindingTable: ...

    @property
    def counters(self) -> CounterTable: ...


class CapacityPort(Protocol):
    """This node's resources, exactly."""

    def free(self) -> Figures: ...

    def total(self) -> Figures: ...

    def reserve(self, key: ReplicaKey, figures: Figures, ttl_s: float) -> bool:
        """Take ``figures`` for ``key`` if they are free (what ``key`` has already counts as free); False when they are not."""
        ...

    def confirm(self, key: ReplicaKey) -> None:
        """No TTL any more."""
        ...

    def restore(self, key: ReplicaKey, figures: Figures) -> None:
        """Count ``figures`` as taken by ``key`` until it is released, whether they fit or not."""
        ...

    def release(self, key: ReplicaKey) -> None: ...


class ReportPort(Protocol):
    """Where this node shows what it hears of replicas."""

    def report(
        self, object_id: ObjectId, generation: Generation, replica: int, status: InstanceStatus, bound: Bound | None
    ) -> None: ...

    def gone(self, object_id: ObjectId, generation: Generation, replica: int) -> None: ...


class Liveness(Protocol):
    """Who is alive, as SWIM sees it from here."""

    def gone(self, peer: PeerId) -> bool:
        """DEAD, LEFT, or not a member at all."""
        ...

"""What Veil asks of the chain: a few writes, and every event once, in order, with the way back after a reorg."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from veil.chain.extension import Extension
from veil.chain.records import DisputeStatus
from veil.types import Address, ClusterId, Digest, Generation, ObjectId, PeerId, Shard

ENVELOPE_MAX_BYTES = 512
"""What :meth:`Chain.apply_object` takes at most; the registry checks the same figure."""

INFO_MAX_BYTES = 1024
"""What :meth:`Registry.publish_node_info` takes at most."""

POLICY_MAX_BYTES = 4096
"""What :meth:`Registry.set_policy` takes at most."""


class Finality(StrEnum):
    """How deep a block must be before it is acted on; which action waits for which is policy."""

    LATEST = "latest"
    SAFE = "safe"
    FINALIZED = "finalized"


@dataclass(frozen=True, slots=True)
class Head:
    """The registry's ``head()``: how many events there were, and the hash chain over them."""

    rv: int
    accumulator: bytes


EMPTY_HEAD = Head(0, bytes(24))
"""The head before the first event: where a follower without a cursor begins, with ``from_block=0``."""


@dataclass(frozen=True, slots=True)
class Block:
    """``head``: the registry's head after it, where a caller that stored the block also stored that."""

    number: int
    hash: bytes
    timestamp_s: int
    head: Head | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectApplied:
    """``deleting``: a delete waits for finalizers; ``envelope`` is empty then and the last one still holds."""

    rv: int
    kind: int
    object_id: ObjectId
    generation: Generation
    owner: Address
    envelope: bytes
    deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDeleted:
    rv: int
    kind: int
    object_id: ObjectId
    generation: Generation


class NodeStatus(StrEnum):
    PENDING = "Pending"
    ACTIVE = "Active"
    CORDONED = "Cordoned"
    LEAVING = "Leaving"
    GONE = "Gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRegistered:
    """``proof`` is the peer key's Ed25519 signature over its PossessionProof; empty until proven."""

    rv: int
    peer: PeerId
    operator: Address
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfoPublished:
    """``info`` is an encoded Signed NodeInfo."""

    rv: int
    peer: PeerId
    info: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatusChanged:
    rv: int
    peer: PeerId
    status: NodeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMarkedDown:
    rv: int
    peer: PeerId
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMarkedUp:
    """The way back from NodeMarkedDown, by the node's own operator, in a higher incarnation."""

    rv: int
    peer: PeerId
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementsAppended:
    """``sender`` is the operator whose transaction it was."""

    rv: int
    shard: Shard
    sequence: int
    root: Digest
    count: int
    data: Digest
    sender: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged:
    rv: int
    policy: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceOwnerChanged:
    """``object_id`` is the Namespace's. An owner that is a role has an address that stands for it."""

    rv: int
    object_id: ObjectId
    owner: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessChanged:
    """What the present owner of ``namespace`` (16 bytes) lets ``account`` do: a :class:`veil.chain.records.Right`."""

    rv: int
    namespace: bytes
    account: Address
    rights: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChanged:
    """``account`` holds ``role`` (32 bytes) from now on, or no longer."""

    rv: int
    role: bytes
    account: Address
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HomePeersChanged:
    rv: int
    namespace: bytes
    peers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionLimitChanged:
    """``per_epoch`` 0: no limit of its own. The namespace of zeros stands for those that have none."""

    rv: int
    namespace: bytes
    per_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLabelsChanged:
    """``by`` vouches for the labels with that digest."""

    rv: int
    peer: PeerId
    labels: Digest
    by: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRootChanged:
    """``images`` is the digest of the list that the mesh keeps; a ``root`` of zeros allows every image."""

    rv: int
    root: Digest
    images: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCommitted:
    """``name``: Keccak-256 of the reference without a digest. A ``manifest`` of zeros takes a commitment back."""

    rv: int
    name: Digest
    manifest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPublished:
    """``digest`` is that of the KeyEpoch blob."""

    rv: int
    epoch: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochActivated:
    """Every epoch before this one is retired."""

    rv: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRetired:
    rv: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeOpened:
    """Also one that lapsed and is opened again. Not kept by the projection (:mod:`veil.chain.disputes` reads them)."""

    rv: int
    dispute: Digest
    accused: PeerId
    by: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeClosed:
    """``status`` is UPHELD, REJECTED or LAPSED."""

    rv: int
    dispute: Digest
    accused: PeerId
    status: DisputeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent:
    """An event of the registry that no reader needs (stake, notes, pauses): counted in the chain."""

    rv: int
    name: str


ChainEvent = (
    ObjectApplied
    | ObjectDeleted
    | NodeRegistered
    | NodeInfoPublished
    | NodeStatusChanged
    | NodeMarkedDown
    | NodeMarkedUp
    | PlacementsAppended
    | PolicyChanged
    | NamespaceOwnerChanged
    | AccessChanged
    | RoleChanged
    | HomePeersChanged
    | DecisionLimitChanged
    | NodeLabelsChanged
    | ImageRootChanged
    | ImageCommitted
    | EpochPublished
    | EpochActivated
    | EpochRetired
    | DisputeOpened
    | DisputeClosed
    | OtherEvent
)


@dataclass(frozen=True, slots=True)
class BlockEvents:
    """One block's events, in order; ``head`` is the registry's head after them, verified."""

    block: Block
    events: tuple[ChainEvent, ...]
    head: Head


@dataclass(frozen=True, slots=True)
class Rollback:
    """Blocks above ``to_block`` are no longer canonical: undo what they did."""

    to_block: int


@dataclass(frozen=True, slots=True)
class Finalized:
    """Everything up to ``block`` has reached the level ``finality``."""

    finality: Finality
    block: int


class Receipt(Protocol):
    @property
    def tx_hash(self) -> bytes: ...

    @property
    def block(self) -> int: ...

    @property
    def gas_used(self) -> int: ...


class Chain(Protocol):
    """Raises ChainUnavailable; Conflict (generation, sequence); Forbidden; NotFound; LimitExceeded; HeadMismatch."""

    cluster: ClusterId
    operator: Address
    """The account that signs this client's transactions."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def apply_object(
        self, kind: int, object_id: ObjectId, expected: Generation, envelope: bytes, *, finalizers: int = 0
    ) -> Generation:
        """Create (``expected`` 0) or update; gives back the new generation."""
        ...

    async def delete_object(self, kind: int, object_id: ObjectId, expected: Generation) -> None: ...

    async def append_placements(self, shard: Shard, sequence: int, root: Digest, count: int, data: Digest) -> Receipt:
        """Raises Conflict when ``sequence`` is not the log's last + 1: somebody else appended."""
        ...

    async def set_node_status(self, peer: PeerId, status: NodeStatus) -> None:
        """By the node's own operator or an administrator."""
        ...

    async def sign_mark_down(self, peer: PeerId, incarnation: int) -> bytes:
        """This operator's signature (65 bytes) for :meth:`mark_down`. Accusers exchange these over the mesh."""
        ...

    def mark_down_signer(self, peer: PeerId, incarnation: int, signature: bytes) -> Address | None:
        """Whose signature for :meth:`mark_down` that is; None when it is none."""
        ...

    async def down_floor(self, peer: PeerId) -> int:
        """The incarnation that the next :meth:`mark_down` of ``peer`` must be over; 0 for a node that was never marked."""
        ...

    async def down_signers(self) -> int:
        """k of :meth:`mark_down`, as the registry counts now."""
        ...

    async def mark_down(self, peer: PeerId, incarnation: int, signatures: Sequence[bytes]) -> None:
        """Needs signatures of k distinct operators. ``incarnation`` must be over :meth:`down_floor`: Conflict otherwise; and at
        most a day ahead of the chain's time: LimitExceeded otherwise. Forbidden when signatures are too few or by others."""
        ...

    async def mark_up(self, peer: PeerId, incarnation: int) -> None:
        """By the node's own operator, with an ``incarnation`` over the marked one."""
        ...

    async def placement_sequence(self, shard: Shard) -> int:
        """The sequence of the shard's last append, 0 for none."""
        ...

    async def head(self) -> Head: ...

    def follow(
        self, *, from_block: int, from_head: Head, known: Sequence[Block] = ()
    ) -> AsyncIterator[BlockEvents | Rollback | Finalized]:
        """Every block with events after ``from_block`` (the cursor: what the caller has stored), gap-checked against
        ``head()``; Rollback and Finalized as they happen; blocks without events are reported only to move the cursor.
        ``known`` are the newest stored blocks, newest last, for finding the fork point after a restart. Never ends by itself;
        an endpoint that is away is waited for (it raises only HeadMismatch)."""
        ...


class Registry(Chain, Extension, Protocol):
    """The calls of those who run a cluster; what :mod:`veil.placement` and :mod:`veil.agent` need is :class:`Chain` alone."""

    async def register_node(self, peer: PeerId, operator: Address) -> None:
        """A Pending node without a proof."""
        ...

    async def prove_node(self, peer: PeerId, proof: bytes) -> None: ...

    async def register_node_with_proof(self, peer: PeerId, operator: Address, proof: bytes) -> None:
        """AlreadyExists when the peer is registered."""
        ...

    async def approve_node(self, peer: PeerId) -> None:
        """Pending to Active; the proof is checked by every reader, so check it before."""
        ...

    async def remove_node(self, peer: PeerId) -> None: ...

    async def publish_node_info(self, peer: PeerId, info: bytes) -> None: ...

    async def remove_finalizer(self, kind: int, object_id: ObjectId, mask: int) -> None: ...

    async def set_policy(self, policy: bytes) -> None: ...

    async def get_policy(self) -> bytes: ...

    async def set_down_signers(self, count: int) -> None:
        """k of :meth:`Chain.mark_down`; 0 for min(3, floor(members / 2) + 1)."""
        ...

    async def anchor_deployment(self, assignment: Digest) -> bool: ...

    async def verify_placement(self, shard: Shard, sequence: int, leaf: Digest, proof: Sequence[Digest]) -> bool: ...

"""What Veil asks of the chain: a few writes, and every event once, in order, with the way back after a reorg."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from veil.types import Address, ClusterId, Digest, Generation, ObjectId, PeerId, Shard


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


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    hash: bytes
    timestamp_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectApplied:
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
class PlacementsAppended:
    """``sender`` is the operator whose transaction it was, ``block`` where it stands."""

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
class EpochPublished:
    """``digest`` is that of the KeyEpoch blob."""

    rv: int
    epoch: int
    digest: Digest
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent:
    """An event of the registry that the projection does not need (stake, notes, disputes, roles): counted in the chain."""

    rv: int
    name: str


ChainEvent = (
    ObjectApplied
    | ObjectDeleted
    | NodeRegistered
    | NodeInfoPublished
    | NodeStatusChanged
    | NodeMarkedDown
    | PlacementsAppended
    | PolicyChanged
    | EpochPublished
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
    tx_hash: bytes
    block: int
    gas_used: int


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

    async def mark_down(self, peer: PeerId, incarnation: int, signatures: Sequence[bytes]) -> None: ...

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

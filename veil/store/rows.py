"""The rows of the projection: what the chain says, as values."""

from dataclasses import dataclass, field

from veil.types import Address, Digest, Epoch, Generation, ObjectId, PeerId, Shard
from veil.wire.nodes import NodeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRow:
    """One chain-held object. ``block`` and ``block_hash`` are those of the block that created ``generation``.

    ``template_generation`` is the generation in which anything but replicas and labels last changed, with its block and that
    block's hash. A deleted object that is created again begins with a new one.
    """

    kind: int
    object_id: ObjectId
    generation: Generation
    owner: Address
    envelope: bytes
    deleting: bool = False
    block: int
    block_hash: bytes = b""
    template_generation: Generation
    template_block: int
    template_block_hash: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One registered peer.

    ``proven``: the peer's key has signed for ``operator``. ``name``, ``labels`` and ``taints`` come from ``info``; a name that an
    earlier registration has already gets a suffix, so that names are unique. ``down_incarnation``: the incarnation that was
    marked down, None when no mark stands. ``registered_rv`` orders registrations. ``vouched`` is the digest of labels
    that ``vouched_by`` vouched for on the chain, empty for none: while the node says that it has others, none of them count.
    """

    peer: PeerId
    operator: Address
    status: str
    proven: bool = False
    info: NodeInfo | None = None
    down_incarnation: int | None = None
    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    taints: dict[str, str] = field(default_factory=dict)
    registered_rv: int = 0
    vouched: Digest = Digest(b"")
    vouched_by: Address = Address("")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRow:
    """What the registry says of a namespace beside its object: its home nodes, and the decisions of one key epoch that it may
    use (0 for no limit of its own)."""

    namespace: bytes
    homes: tuple[PeerId, ...] = ()
    decision_limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesRow:
    """Which images are allowed: the Merkle root, and the digest of the list of them that the mesh keeps."""

    root: Digest
    images: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """``digest`` is that of the KeyEpoch blob."""

    epoch: Epoch
    digest: Digest
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One append to a shard's placement log. ``data`` is the digest of its LeafBatch."""

    shard: Shard
    sequence: int
    root: Digest
    count: int
    data: Digest
    sender: Address
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """One block that was applied, and the registry's head after it."""

    number: int
    hash: bytes
    timestamp_s: int
    rv: int
    accumulator: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the projection stands: go on after ``block``. ``known``: the newest applied blocks, newest last."""

    block: int
    rv: int
    accumulator: bytes
    known: tuple[BlockRow, ...] = ()

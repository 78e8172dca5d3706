"""What a chain-held object consists of: the public envelope, the body, the sealed secret parts, the demand.

The envelope is the only part that is on the chain. It holds digests of the others. Digests of sealed parts are digests of
ciphertexts under a fresh key: they say nothing about the content.
"""

import hashlib
from math import isfinite
from typing import Annotated, Any, Literal

from msgspec import Meta
from msgspec.structs import replace

from veil.errors import LimitExceeded, WireInvalid
from veil.types import TAINTS_MAX, ObjectId
from veil.wire.codec import Message, decode, encode

ENVELOPE_MAX_BYTES = 512
"""What the registry takes in an event."""

BODY_MAX_BYTES = 256 * 1024
NAME_MAX_CHARS = 63
LABELS_MAX = 16
REPLICAS_MAX = 1000

Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
UInt = Annotated[int, Meta(ge=0, le=2**63 - 1)]
OptionalDigest = Annotated[bytes, Meta(max_length=32)]
"""32 bytes, or empty for none."""

KINDS: dict[str, int] = {"Namespace": 1, "Workload": 2, "Job": 3, "CronJob": 4, "GitSource": 5, "Demand": 6}
"""The kinds of the registry's generic object path and their numbers on chain."""


def object_id(namespace: str, name: str) -> ObjectId:
    """16 bytes of SHA-256 of the namespace, then 16 of the name (a Namespace itself has an empty name).

    The registry reads the namespace's half for its access control, without ever learning more than the hash.
    """
    return ObjectId(
        hashlib.sha256(b"veil/namespace.1" + namespace.encode()).digest()[:16]
        + (hashlib.sha256(b"veil/name.1" + name.encode()).digest()[:16] if name else bytes(16))
    )


class Envelope(Message, frozen=True, tag="veil/envelope.4"):
    """The public part of an object, in the registry's event. Generation and owner are the registry's own fields.

    A generation that changes more than ``replicas`` and ``labels`` is a new template generation (:func:`same_template`).
    """

    kind: Literal["Namespace", "Workload", "Job", "CronJob", "GitSource"]
    namespace: str
    name: Name
    uid: Bytes16
    labels: Annotated[dict[str, str], Meta(max_length=LABELS_MAX)] = {}
    replicas: Annotated[int, Meta(ge=0, le=REPLICAS_MAX)] = 0
    policy: str = ""
    node_selector: Annotated[dict[str, str], Meta(max_length=LABELS_MAX)] = {}
    tolerations: Annotated[dict[str, str], Meta(max_length=TAINTS_MAX)] = {}
    """Taints, by name and value, of nodes that may take it all the same."""
    region: Annotated[str, Meta(max_length=NAME_MAX_CHARS)] = ""
    """Towards which the policy LowestLatency places; empty for other policies."""
    anti_affinity: bool = False
    """At most one replica of a generation on a node."""
    vouched_labels: bool = False
    """Only on nodes for whose labels an administrator vouches."""
    body: OptionalDigest = b""
    """The public body's digest; empty when the object is confidential (or has none)."""
    resources: OptionalDigest = b""
    """Digest of the SealedPart with the exact resources."""
    template: OptionalDigest = b""
    """Digest of the SealedPart with the whole template, when confidential."""


def same_template(before: bytes, after: bytes) -> bool:
    """Whether a change from one encoded envelope to the other leaves running replicas alone.

    It does when replicas and labels are all that differs: what runs (body, resources, template) and where it may run (policy,
    node selector, vouched labels, tolerations) is the same. An envelope that cannot be read is like no other.
    """
    if before == after:
        return True
    try:
        first, second = decode(before, Envelope), decode(after, Envelope)
    except WireInvalid:
        return False
    return replace(first, replicas=0, labels={}) == replace(second, replicas=0, labels={})


class Body(Message, frozen=True, tag="veil/body.1"):
    """The public template of an object: JSON values only (ValueError otherwise), without any resource figure."""

    spec: dict[str, Any]

    def __post_init__(self) -> None:
        _require_json(self.spec)


def _require_json(value: Any) -> None:
    """CBOR can carry much more: what would not come out of a JSON text as it went in is refused."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key that is not a string")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _require_json(item)
    elif not (value is None or isinstance(value, (bool, str))) and not _is_json_number(value):
        raise ValueError(f"{type(value).__name__} is not a JSON value")


def _is_json_number(value: Any) -> bool:
    return (isinstance(value, int) and -(2**63) <= value < 2**63) or (isinstance(value, float) and isfinite(value))


class SealedPart(Message, frozen=True, tag="veil/sealed-part.1"):
    """A secret part under its own fresh content key (XSalsa20-Poly1305, libsodium secretbox).

    The key's Shamir shares go to the epoch's committee, each sealed to its member, in committee order; the key itself is
    sealed to each home node.
    """

    piece: Literal["resources", "template"]
    object_id: Bytes32
    epoch: UInt
    threshold: Annotated[int, Meta(ge=1, le=64)]
    box: Annotated[bytes, Meta(max_length=BODY_MAX_BYTES)]
    shares: Annotated[tuple[bytes, ...], Meta(max_length=64)]
    homes: Annotated[tuple[tuple[Bytes32, bytes], ...], Meta(max_length=3)]


class Resources(Message, frozen=True, tag="veil/resources.1"):
    """The plaintext of a ``resources`` part, padded to a constant size before it is boxed. Units: see each field."""

    containers: Annotated[dict[str, "ContainerResources"], Meta(max_length=32)]


class ContainerResources(Message, frozen=True, tag="veil/container-resources.1"):
    """One container's exact request (and limit: they are one thing here)."""

    cpu_milli: UInt = 0
    memory_bytes: UInt = 0
    disk_bytes: UInt = 0
    gpu_count: UInt = 0


class Demand(Message, frozen=True, tag="veil/demand.1"):
    """A workload's demand as a ciphertext of one epoch: its own object, outside the workload's generation.

    ``resources`` is the digest of the sealed part whose figures were encrypted: members refuse a demand of another one.
    """

    object_id: Bytes32
    epoch: UInt
    resources: Bytes32
    vector: bytes


class DemandEnvelope(Message, frozen=True, tag="veil/demand-envelope.2"):
    """What the chain holds of a Demand (kind 6, object id = :func:`demand_id`).

    The workload's envelope names sealed parts for the committee of the epoch in which they were sealed. For a later epoch the
    demand names the same parts with their content keys shared to that epoch's committee, so that a new generation is not needed.
    """

    object_id: Bytes32
    epoch: UInt
    resources: Bytes32
    """The ``resources`` of the workload's envelope, from whose figures the demand was made."""
    demand: Bytes32
    shared_resources: OptionalDigest = b""
    """Digest of the part for this epoch's committee; empty where ``resources`` itself is for it."""
    shared_template: OptionalDigest = b""
    """The same of a confidential template."""


def demand_id(of: ObjectId, epoch: int) -> ObjectId:
    """The object id of the demand of ``of`` in ``epoch``: in the same namespace half, so that the same people may write it."""
    tail = hashlib.sha256(b"veil/demand-id.1" + of + epoch.to_bytes(8, "big")).digest()[:16]
    return ObjectId(of[:16] + tail)


def encode_envelope(envelope: Envelope | DemandEnvelope) -> bytes:
    """Canonical bytes. Raises LimitExceeded past ENVELOPE_MAX_BYTES, naming what takes the room."""
    data = encode(envelope)
    if len(data) > ENVELOPE_MAX_BYTES:
        raise LimitExceeded(
            f"the public envelope takes {len(data)} bytes, ENVELOPE_MAX_BYTES is {ENVELOPE_MAX_BYTES}",
            hint="shorten or drop labels and nodeSelector entries: they are the only parts that grow",
        )
    return data

"""What a node says of itself in the registry, and what a key epoch publishes."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from veil.identity import Identity
from veil.types import TAINTS_MAX, Address, ClusterId, Digest, PeerId
from veil.wire.codec import Message, digest
from veil.wire.objects import LABELS_MAX, Bytes16, Bytes32, Name, UInt
from veil.wire.signed import sign, verify_signature

JOURNALS_MAX = 8
"""Epochs for which a node's info can name a journal: those that are not retired."""


class NodeInfo(Message, frozen=True, tag="veil/node-info.3"):
    """Signed by the node's key and published with its registration; the newest ``sequence`` counts."""

    peer: Bytes32
    sequence: UInt
    name: Name
    addresses: Annotated[tuple[str, ...], Meta(max_length=8)]
    """libp2p multiaddrs without the /p2p part."""
    labels: Annotated[dict[str, str], Meta(max_length=LABELS_MAX)] = {}
    taints: Annotated[dict[str, str], Meta(max_length=TAINTS_MAX)] = {}
    """What keeps new replicas off, unless their workload tolerates every one of them by name and value."""
    gateway: str = ""
    """Where the API is reached, for people of the node's own organisation; may be empty."""
    journals: Annotated[tuple[tuple[UInt, Bytes16], ...], Meta(max_length=JOURNALS_MAX)] = ()
    """Which of this node's journals took its key share of an epoch, by epoch: no other one may use that share."""


HOSTNAME_LABEL = "kubernetes.io/hostname"
"""The label that every node has of itself: its name."""


class NodeLabels(Message, frozen=True, tag="veil/node-labels.1"):
    """What somebody vouches for with a digest in the registry: a node's labels, but for HOSTNAME_LABEL."""

    labels: Annotated[dict[str, str], Meta(max_length=LABELS_MAX)] = {}


def labels_digest(labels: Mapping[str, str]) -> Digest:
    """Of all of ``labels`` but HOSTNAME_LABEL, in whatever order."""
    return digest(NodeLabels(labels={name: value for name, value in labels.items() if name != HOSTNAME_LABEL}))


class PossessionProof(Message, frozen=True, tag="veil/possession.1"):
    """What the peer key signs to be registered: that this operator may speak for it. Verified by every reader."""

    peer: Bytes32
    operator: str


def prove_possession(identity: Identity, cluster: ClusterId, operator: Address) -> bytes:
    """What goes with a node's registration: the 64 bytes of its key's signature over the PossessionProof for ``operator``."""
    return sign(identity, cluster, PossessionProof(peer=identity.peer_id, operator=operator)).signature


def check_possession(proof: bytes, cluster: ClusterId, peer: PeerId, operator: Address) -> None:
    """Raises Untrusted unless ``proof`` is what :func:`prove_possession` makes for exactly these."""
    verify_signature(proof, cluster, PossessionProof(peer=peer, operator=operator), by=peer)


Profile = Literal["default", "precise"]
"""How finely sizes and left-over levels are compared (docs/concepts/placement.md)."""

Shape = Literal["choose", "rank"]
"""What a circuit's result says: ``choose`` marks the best candidates, ``rank`` orders all those that fit."""


class ClassReport(Message, frozen=True, tag="veil/class-report.1"):
    """Which determinism classes a machine's evaluators reach (:mod:`veil.fhe.probe`), signed by its node for a ceremony."""

    peer: Bytes32
    parameters: Literal["plain", "flooded"]
    inputs: Bytes32
    """Digest of the probe's circuit, keys and ciphertexts: only classes of the same inputs can be compared."""
    classes: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=8)]


class CircuitInfo(Message, frozen=True, tag="veil/circuit.2"):
    """One registered circuit: its profile, its shape, its size, the digests of its server part and its public parameters."""

    name: Name
    """Unique in its epoch, for example ``default-choose-4``."""
    profile: Profile
    shape: Shape
    candidates: Annotated[int, Meta(ge=1, le=64)]
    server: Bytes32
    """Digest of Concrete's server archive."""
    client: Bytes32
    """Digest of Concrete's client specification."""


class KeyEpoch(Message, frozen=True, tag="veil/key-epoch.2"):
    """Everything public about one epoch; its digest is on chain, itself and what it names are blobs."""

    epoch: UInt
    mode: Literal["threshold", "designated"]
    """``designated``: one node holds the whole key; there is nobody to check it."""
    parameters: Literal["plain", "flooded"]
    threshold: Annotated[int, Meta(ge=1, le=64)]
    committee: Annotated[tuple[Bytes32, ...], Meta(max_length=64)]
    public_key: Bytes32
    evaluation_keys: Bytes32
    circuits: Annotated[tuple[CircuitInfo, ...], Meta(max_length=32)]
    encoding: Bytes32
    """Digest of the JSON text that says how figures become a table, or slots of one (:mod:`veil.fhe.encoding`)."""
    classes: Annotated[tuple[Bytes32, ...], Meta(max_length=8)]
    """Known answers of the determinism classes that evaluators may be in (the digest of one evaluation's output)."""
    known_input: Bytes32
    """Digest of the ciphertexts that the known answer is computed from."""
    max_decryptions: UInt
    flooding_bits: UInt
    shares: Annotated[tuple[bytes, ...], Meta(max_length=64)]
    """The secret key's Shamir shares' digests, in committee order: each sealed share is a blob for its member."""

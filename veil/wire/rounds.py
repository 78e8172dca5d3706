"""The messages of a placement round (DESIGN section 4), in the order in which they are sent.

All travel sealed to their receiver and signed by their author. ``round`` binds each to one round; a message whose round is
unknown, over or spent is dropped.
"""

from typing import Annotated, Literal

from msgspec import Meta

from veil.types import Digest
from veil.wire.codec import Message, encode, sha256
from veil.wire.objects import Bytes16, Bytes32, OptionalDigest, UInt
from veil.wire.signed import Signed

CANDIDATES_MAX = 64
REPLICAS_PER_ROUND_MAX = 32
"""Replicas of one workload that one round places: its decision orders all candidates, so that more cost only offers."""

REASON_MAX_CHARS = 200

Reason = Annotated[str, Meta(max_length=REASON_MAX_CHARS)]
Index = Annotated[int, Meta(ge=0, lt=1000)]
Replicas = Annotated[tuple[Index, ...], Meta(min_length=1, max_length=REPLICAS_PER_ROUND_MAX)]
"""Ascending."""

Place = Annotated[int, Meta(ge=0, lt=CANDIDATES_MAX)]
"""Where a candidate stands in the order that the round decided, from 0."""


class Open(Message, frozen=True, tag="veil/open.2"):
    """Coordinator → candidates and committee: a round begins, for replicas of one workload. Times are Unix seconds."""

    round: Bytes16
    shard: Annotated[int, Meta(ge=0, lt=16)]
    term: UInt
    object_id: Bytes32
    generation: UInt
    """The template's: the one in which what runs, or where it may run, last changed."""
    replicas: Replicas
    epoch: UInt
    circuit: str
    demand: Bytes32
    """Digest of the Demand blob, as anchored."""
    candidates: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=CANDIDATES_MAX)]
    """In the order of the beacon: position in the circuit, and the order in which ties are broken."""
    expires_s: UInt
    excluded: Annotated[tuple[Bytes32, ...], Meta(max_length=CANDIDATES_MAX)] = ()
    """Active nodes left out; members are told why (:class:`Exclusions`), others only that they are."""
    optimistic: bool = False
    """Candidates round what they have free up by one size, because nobody fitted otherwise. They still check exactly."""


class Commit(Message, frozen=True, tag="veil/commit.1"):
    """Candidate → coordinator: the digest of its telemetry, before any telemetry moves."""

    round: Bytes16
    telemetry: Bytes32


class Missing(Message, frozen=True, tag="veil/missing.1"):
    """What has not come and may be with, or be got by, the receiver: a committee member.

    Of commitments, by the round's coordinator: the member asks those candidates too, and passes on what they answer. Of
    telemetry, by another member: it passes on what it has.
    """

    open: Signed
    what: Literal["commitments", "telemetry"]
    peers: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=CANDIDATES_MAX)]


class Passed(Message, frozen=True, tag="veil/passed.1"):
    """Committee member → candidate, coordinator or member: an Open, Commit or Telemetry that somebody else signed."""

    message: Signed


class Inputs(Message, frozen=True, tag="veil/inputs.1"):
    """Coordinator → candidates and committee: all commits (each a Signed Commit, in the order of ``Open.candidates``).

    A candidate that committed nothing in time is absent; its cells are padded with an infeasible constant.
    """

    round: Bytes16
    commits: Annotated[tuple[Signed, ...], Meta(max_length=CANDIDATES_MAX)]


class Telemetry(Message, frozen=True, tag="veil/telemetry.1"):
    """Candidate → each committee member: ONE fresh ciphertext of constant size, the content of its Commit."""

    round: Bytes16
    epoch: UInt
    vector: bytes
    """Opaque: described by the epoch's encoding."""


class Exclusion(Message, frozen=True, tag="veil/exclusion.1"):
    """Why a round leaves out one node that could be a candidate."""

    peer: Bytes32
    reason: Reason
    """Of a closed list (:mod:`veil.placement.exclusions`)."""
    round: Annotated[bytes, Meta(max_length=16)] = b""
    """The earlier round of the same workload in which the node showed the reason; empty for ``Gone``."""
    word: Signed | None = None
    """For a reuse or a spent budget, which not everybody can see: the Withheld of the committee member that says so."""


class Exclusions(Message, frozen=True, tag="veil/exclusions.1"):
    """Coordinator → committee members: a reason for each of ``Open.excluded``, in that order. Kept with the transcript."""

    round: Bytes16
    exclusions: Annotated[tuple[Exclusion, ...], Meta(max_length=CANDIDATES_MAX)] = ()


class ReleaseRequest(Message, frozen=True, tag="veil/release-request.2"):
    """Coordinator → committee member: everything that the member must check before it decrypts its part."""

    open: Signed
    inputs: Signed
    exclusions: Signed
    evaluation: OptionalDigest
    """The digest of the result ciphertexts as reported by a member, empty in the first request of a round."""
    members: Annotated[tuple[int, ...], Meta(min_length=1, max_length=64)]
    """The quorum: the 1-based Shamir indices of the members asked, sorted. A partial is made for each of its threshold-sized
    subsets, so that with one member more than the threshold a wrong one shows, and with two more it can be named."""


class Partial(Message, frozen=True, tag="veil/partial.1"):
    """A committee member's partial decryption of the result it evaluated itself; small, so that others can be shown it."""

    round: Bytes16
    member: Annotated[int, Meta(ge=1, le=64)]
    members: Annotated[tuple[int, ...], Meta(min_length=1, max_length=64)]
    evaluation: Bytes32
    """SHA-256 of the result ciphertexts."""
    transcript: Bytes32
    """Of the signed opening, the signed inputs and ``evaluation``: ties the partial to what its author checked."""
    partial: bytes


class Release(Message, frozen=True, tag="veil/release.1"):
    """Committee member → coordinator: its signed Partial, and what it decrypts."""

    partial: Signed
    result: bytes
    """The result ciphertexts, so that the coordinator, which may evaluate nothing, can combine."""


class Withheld(Message, frozen=True, tag="veil/withheld.1"):
    """Committee member → coordinator: it does not release, and why (a stable reason, then words)."""

    round: Bytes16
    reason: Reason
    message: Reason = ""
    peers: Annotated[tuple[Bytes32, ...], Meta(max_length=CANDIDATES_MAX)] = ()
    """The nodes that it is about: whose telemetry is missing, or is a copy; who is left out without a reason."""


class Offer(Message, frozen=True, tag="veil/offer.3"):
    """Coordinator → a node that the round chose: some of the round's replicas."""

    open: Signed
    transcript: Bytes32
    place: Place
    replicas: Replicas
    checked: bool
    """Whether more key holders than needed agreed on the decision."""
    held: bool = False
    """Another node still runs the replicas and wants to be rid of them: they start here when the coordinator says that it has
    stopped (``informed``)."""


class KeyShare(Message, frozen=True, tag="veil/key-share.1"):
    """Committee member → winner: its share of a sealed part's content key."""

    round: Bytes16
    piece: Literal["resources", "template"]
    part: Bytes32
    member: Annotated[int, Meta(ge=1, le=64)]
    share: bytes


class Accept(Message, frozen=True, tag="veil/accept.2"):
    """Winner → coordinator: capacity is reserved until ``expires_s`` for these of the replicas offered, not for the others."""

    round: Bytes16
    offered: Replicas
    replicas: Replicas
    salts: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=REPLICAS_PER_ROUND_MAX)]
    """One for each of ``replicas``: blinds its leaf for everybody else."""
    expires_s: UInt


class Decline(Message, frozen=True, tag="veil/decline.2"):
    """Winner → coordinator: it does not take, or no longer holds, the replicas. ``reason`` is stable and has no figures."""

    round: Bytes16
    replicas: Replicas
    reason: Reason


class Leaf(Message, frozen=True, tag="veil/leaf.2"):
    """One placement: the preimage of a leaf of the shard's log. Known to winner and coordinator (and their auditors)."""

    salt: Bytes32
    object_id: Bytes32
    generation: UInt
    """The template's, as in Open."""
    replica: Index
    round: Bytes16
    epoch: UInt
    transcript: Bytes32
    peer: Bytes32
    checked: bool
    """As the winner was offered it."""


class Bound(Message, frozen=True, tag="veil/bound.2"):
    """Coordinator → winner: the leaf is appended; here is its proof."""

    leaf: Leaf
    shard: Annotated[int, Meta(ge=0, lt=16)]
    sequence: UInt
    root: Bytes32
    proof: Annotated[tuple[Bytes32, ...], Meta(max_length=16)]


class KeyRequest(Message, frozen=True, tag="veil/key-request.2"):
    """Coordinator → committee members: release the content key's share to the chosen node.

    ``partials`` prove the choice: a member combines them itself and checks that the decision names ``winner``. It needs no
    memory of the round for that, so that one which restarted, or was not asked to decrypt, can answer.
    """

    open: Signed
    inputs: Signed
    winner: Bytes32
    place: Place
    piece: Literal["resources", "template"]
    partials: Annotated[tuple[Signed, ...], Meta(min_length=1, max_length=64)]
    result: bytes
    bound: Bound | None = None
    """The appended leaf: required for ``template``."""


class LeafBatch(Message, frozen=True, tag="veil/leaf-batch.1"):
    """The data of one append (``dataDigest``): leaf hashes in order. A blob."""

    shard: Annotated[int, Meta(ge=0, lt=16)]
    sequence: UInt
    leaves: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=1024)]


class Transcript(Message, frozen=True, tag="veil/round-transcript.2"):
    """What its author keeps of one round, so that the decision can be checked afterwards. Never sent by itself.

    A coordinator has all partials and the result, a committee member its own partial and the telemetry that it evaluated.
    """

    open: Signed
    inputs: Signed
    exclusions: Signed
    evaluation: Bytes32
    """SHA-256 of the result ciphertexts, as its author had them."""
    partials: Annotated[tuple[Signed, ...], Meta(min_length=1, max_length=64)]
    """Each a Signed Partial."""
    result: bytes = b""
    """The result ciphertexts; empty at a committee member, which can evaluate again."""
    telemetry: Annotated[tuple[bytes, ...], Meta(max_length=CANDIDATES_MAX)] = ()
    """The vectors, in the order of ``Inputs.commits``, whose digests they have; empty at a coordinator, which never had them."""


class InstanceStatus(Message, frozen=True, tag="veil/instance-status.1"):
    """What the winner (or, before there is one, the coordinator) says of one replica. No figures of capacity or demand."""

    phase: Literal["Pending", "Creating", "Running", "Succeeded", "Failed", "Terminating"]
    reason: Reason = ""
    message: Reason = ""
    restarts: UInt = 0
    exit_code: int = 0
    ready: bool = False
    started_s: UInt = 0
    observed_s: UInt = 0


class Renew(Message, frozen=True, tag="veil/renew.3"):
    """Winner → coordinator, first stand-in and home nodes, at a constant cadence: it holds this replica, in this state."""

    bound: Bound
    status: InstanceStatus
    moving: bool = False
    """Its node is being drained: it runs on until another node is ready to take it over."""


class RenewReply(Message, frozen=True, tag="veil/renew-reply.2"):
    """Coordinator → winner: keep it, or stop it (superseded, scaled down, deleted, another generation)."""

    keep: bool
    reason: Reason = ""
    """Why it is to stop; of a replica that is to move, why it has not been taken over yet."""
    informed: bool = False
    """The author acts for the shard and has listened for a lease: with ``keep`` it says that nobody else holds the replica."""


class Pending(Message, frozen=True, tag="veil/pending.1"):
    """Coordinator → home nodes: what keeps a replica unplaced, in the words of a condition. Never a figure."""

    object_id: Bytes32
    generation: UInt
    """The template's, as in Open."""
    replica: Index
    status: InstanceStatus


def transcript_root(opened: Signed, inputs: Signed, evaluation: Digest) -> Digest:
    """What a leaf says about its round: digest over the signed opening, the signed inputs and the evaluation."""
    return sha256(b"veil/transcript.1" + sha256(encode(opened)) + sha256(encode(inputs)) + evaluation)

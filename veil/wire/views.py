"""Looking at what is sealed to a namespace's home nodes: a node whose operator may view it → a home node."""

from typing import Annotated

from msgspec import Meta

from veil.wire.codec import Message
from veil.wire.objects import Bytes16, Bytes32, OptionalDigest, UInt
from veil.wire.rounds import Bound, Index, InstanceStatus

KEYS_MAX = 2
"""Of one workload: to its resources, and to its template where that is confidential."""

VIEW_REPLICAS_MAX = 4096
"""Of one workload, of all its generations together."""


class ViewQuestion(Message, frozen=True, tag="veil/view-question.1"):
    """The workloads of a namespace, a page at a time."""

    namespace: Bytes16
    after: OptionalDigest = b""
    """The id of the last workload of the page before; empty for the first page."""
    known: OptionalDigest = b""
    """Digest of the answer that the asker has to the same question; empty for none."""


class ViewedReplica(Message, frozen=True, tag="veil/viewed-replica.1"):
    """What the home node last heard of one replica."""

    generation: UInt
    replica: Index
    status: InstanceStatus
    bound: Bound | None


class ViewedWorkload(Message, frozen=True, tag="veil/viewed-workload.1"):
    """The keys to its sealed parts, and its replicas."""

    object_id: Bytes32
    keys: Annotated[tuple[tuple[Bytes32, Bytes32], ...], Meta(max_length=KEYS_MAX)]
    """By the digest of the SealedPart; whoever has that can tell whether a key opens it."""
    replicas: Annotated[tuple[ViewedReplica, ...], Meta(max_length=VIEW_REPLICAS_MAX)]


class ViewAnswer(Message, frozen=True, tag="veil/view-answer.1"):
    """One page, in the order of ids; ``workloads`` is None where it is the known one."""

    workloads: tuple[ViewedWorkload, ...] | None
    more: bool

"""What the machines of a round ask for: whatever leaves this process or takes time.

A machine is given values and gives back a list of these, to be begun in order. What was journalled before a machine returned
is durable before its first effect is begun, so that no promise leaves the node that a crash could make it forget.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from veil.placement.ports import ReplicaKey
from veil.types import Digest, PeerId, RoundId, Shard
from veil.wire.rounds import Bound, InstanceStatus, Transcript
from veil.wire.signed import Signed

ROUND = "round/1"
RENEW = "renew/1"
PENDING = "pending/1"

REFETCH_S = 0.5
"""Between two attempts to get a content that nobody reachable had."""


@dataclass(frozen=True, slots=True)
class Send:
    """One message, one way; lost ones are sent again within ``deadline_s`` (receivers take repetitions)."""

    peer: PeerId
    message: Signed
    protocol: str = ROUND
    deadline_s: float = 5.0


@dataclass(frozen=True, slots=True)
class AskRenewal:
    """Send a Renew and bring back the RenewReply (:meth:`Renewals.on_reply`). Never repeated: the next one is due soon."""

    peer: PeerId
    key: ReplicaKey
    message: Signed


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Have the evaluator of ``epoch`` run ``circuit``; evaluations queue."""

    round: RoundId
    epoch: int
    circuit: str
    demand: bytes
    telemetry: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Fetch:
    """A content by digest. Machines ask again until they have it: whoever performs this asks the mesh at most once at a time,
    and not within REFETCH_S of a failure."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Append:
    """One append to a shard's log. ``data`` is the encoded LeafBatch: kept here and pushed to ``holders`` first."""

    shard: Shard
    sequence: int
    root: Digest
    count: int
    data: bytes
    holders: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Show:
    """A replica's pending state has changed: report it here and tell the home nodes."""

    key: ReplicaKey
    status: InstanceStatus


@dataclass(frozen=True, slots=True)
class Gone:
    """A retired replica runs nowhere any more."""

    key: ReplicaKey


@dataclass(frozen=True, slots=True)
class Keep:
    """A round's transcript is to be kept for whoever checks the decision later. ``role``: of a coordinator, or of a member."""

    round: RoundId
    role: Literal["coordinator", "member"]
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class KeepLeaf:
    """What a leaf of the log stands for is to be kept as long as its round's transcript."""

    bound: Bound


Effect = Send | AskRenewal | Evaluate | Fetch | Append | Show | Gone | Keep | KeepLeaf
Effects = list[Effect]

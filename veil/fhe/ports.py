"""What placement asks of the cryptography: numbers in, ciphertexts, bits out. Knows nothing of nodes or workloads.

A *vector* is the opaque ciphertext of one candidate's table, or of the slots that one demand selects, of constant size. A
*result* is the concatenation of bit ciphertexts; :mod:`veil.fhe.decision` says what the bits mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from veil.types import Digest, Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A node's free resources or a workload's demand, in clear: never leaves the process that measured it."""

    cpu_milli: int
    memory_bytes: int
    disk_bytes: int
    gpu_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an evaluator made of its inputs."""

    result: bytes
    digest: Digest
    wall_s: float


class Encryptor(Protocol):
    """Encrypts under the epoch's PUBLIC key; needs numpy only. Raises FheUnavailable, CiphertextInvalid."""

    epoch: Epoch

    def left_over(self, free: Figures, capacity: Figures) -> float:
        """How empty a node is: 0 (full) to nearly 1. Never 1 or above."""
        ...

    def telemetry(self, free: Figures, score: float | None, *, optimistic: bool = False) -> bytes:
        """One fresh vector of what is free, rounded down, or up where ``optimistic`` (then the node may have to refuse).

        The least ``score`` (in [0, 1), rounded to levels) wins; from 1.0 on the candidate is infeasible whatever is asked. None
        is best-fit: the less would be left over of what is free, the better.
        """
        ...

    def demand(self, demand: Figures) -> bytes:
        """One fresh vector of what is asked; sizes rounded up. Raises LimitExceeded past the largest encodable size."""
        ...

    def check_telemetry(self, vector: bytes) -> None:
        """Raises CiphertextInvalid unless it has the form (length, epoch, key) of a telemetry vector."""
        ...

    def check_demand(self, vector: bytes) -> None: ...


class Evaluator(Protocol):
    """Evaluates registered circuits on ciphertexts; holds evaluation keys only. Raises FheUnavailable, CiphertextInvalid."""

    async def start(self) -> None:
        """Ready once its determinism class is one of the epoch's."""
        ...

    async def close(self) -> None: ...

    async def evaluate(self, circuit: str, demand: bytes, telemetry: Sequence[bytes | None]) -> Evaluation:
        """``telemetry`` in the order of the candidates; None and missing ones are padded as infeasible."""
        ...


class Decryptor(Protocol):
    """One committee member's share of the epoch's secret key. Not an oracle: its caller checks first."""

    member: int
    """Its 1-based Shamir index."""

    def partial(self, result: bytes, quorum: Sequence[int]) -> bytes:
        """This member's partial decryptions of every bit of ``result``, one for each threshold-subset of ``quorum`` it is in.

        A quorum has threshold to threshold + 2 members. The same for the same result and quorum, whenever asked, and a
        subset's part is the same in each quorum. Raises CiphertextInvalid for a foreign result or quorum.
        """
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """What a quorum's partials say."""

    bits: list[int]
    """Candidates first, "none fits" last."""
    checked: bool
    """Several subsets opened and one liar at most cannot have changed the bits. False for a quorum of the threshold."""
    liars: tuple[int, ...]
    """The member that sent wrong partials; empty also when it lied in too few subsets to be told from others in them."""


class Combiner(Protocol):
    """Puts partials together; holds nothing secret."""

    def open(self, result: bytes, quorum: Sequence[int], partials: Mapping[int, bytes]) -> Opened:
        """The bits, from the partials that members of ``quorum`` made for it.

        All of them, or as many as there are: with the threshold's number the bits are not checked. Raises FheUnavailable
        when there are fewer; PartialInvalid (with the member) for a malformed one;
        DecryptionDisputed when they contradict each other, or are no bits, and no single member explains it.
        """
        ...

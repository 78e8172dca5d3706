"""What a round comes to: a decision that others can be shown, leaves to append, or why replicas are left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from veil.fhe.decision import order_of
from veil.placement.eligibility import circuit_of
from veil.types import PeerId
from veil.wire.nodes import KeyEpoch
from veil.wire.rounds import Bound, Exclusion, KeyRequest, Leaf, Open
from veil.wire.signed import Signed


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows a committee member whom the round chose (again after the append, for the key of a confidential template)."""

    opened: Signed
    inputs: Signed
    members: tuple[int, ...]
    """Those whose partials these are."""
    partials: tuple[Signed, ...]
    result: bytes
    place: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """``leaf`` is to be appended before ``expires_s`` (Unix seconds)."""

    leaf: Leaf
    expires_s: int
    proof: Proof


@dataclass(frozen=True, slots=True)
class Failed:
    """Why replicas are left."""

    reason: str
    message: str = ""
    without: tuple[Exclusion, ...] = ()
    """Candidates that refused or spoilt it, to be left out of the next round, each with the reason."""
    disputed: frozenset[PeerId] = frozenset()
    """Nodes that it left out for a reason that committee members know to be wrong: the next round asks them."""


def candidates_in_order(epoch: KeyEpoch, opened: Open, bits: Sequence[int]) -> list[PeerId]:
    """The candidates in the order in which the decision has the replicas offered; empty when none fits."""
    circuit = circuit_of(epoch, opened.circuit)
    places = order_of(circuit.shape, bits, len(opened.candidates)) if circuit is not None else []
    return [PeerId(opened.candidates[place]) for place in places if place < len(opened.candidates)]


def key_request(proof: Proof, winner: PeerId, piece: Literal["resources", "template"], bound: Bound | None = None) -> KeyRequest:
    """What committee members are shown to release a content key's shares to ``winner``."""
    return KeyRequest(
        open=proof.opened,
        inputs=proof.inputs,
        winner=winner,
        place=proof.place,
        piece=piece,
        partials=proof.partials,
        result=proof.result,
        bound=bound,
    )

"""Who may say what, and the proof that they said it."""

from typing import Protocol

from veil.identity import Identity
from veil.mesh.messages import Claim
from veil.types import ClusterId, PeerId
from veil.wire.codec import decode
from veil.wire.signed import Signed, open_signed, sign

CLAIM_MAX_BYTES = 512
"""A claim with full metadata is below 400."""


class Signatory(Protocol):
    """Signs this member's claims and checks those of others. Simulations of thousands may bring a cheaper one."""

    peer_id: PeerId

    def sign(self, claim: Claim) -> Signed: ...

    def read(self, signed: Signed) -> Claim:
        """What it says, not yet verified. Raises WireInvalid."""
        ...

    def check(self, signed: Signed) -> None:
        """Raises SignatureInvalid unless its signer signed it, for this cluster."""
        ...


class KeySignatory:
    """With the node's Ed25519 key, in the domain of one cluster."""

    def __init__(self, identity: Identity, cluster: ClusterId) -> None:
        self.peer_id = identity.peer_id
        self._identity = identity
        self._cluster = cluster

    def sign(self, claim: Claim) -> Signed:
        return sign(self._identity, self._cluster, claim)

    def read(self, signed: Signed) -> Claim:
        return decode(signed.body, Claim, max_bytes=CLAIM_MAX_BYTES)

    def check(self, signed: Signed) -> None:
        open_signed(signed, self._cluster, Claim)

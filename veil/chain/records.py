"""What the registry's own functions take and give back: stakes, disputes, key epochs, rights in namespaces."""

import hashlib
import re
from dataclasses import dataclass
from enum import IntFlag, StrEnum

from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from veil.types import Address, Digest, PeerId
from veil.wire.codec import encode
from veil.wire.nodes import KeyEpoch


def role_id(name: str) -> bytes:
    """A role's 32 bytes on chain, of its name or of ``0x`` and 64 digits; ``DEFAULT_ADMIN_ROLE`` is the one over all others."""
    if re.fullmatch(r"0x[0-9a-f]{64}", name):
        return bytes.fromhex(name[2:])
    return bytes(32) if name == "DEFAULT_ADMIN_ROLE" else bytes(keccak(name.encode()))


def role_address(role: bytes) -> Address:
    """What stands for ``role`` (32 bytes) as the owner of a namespace; no account has that address."""
    preimage = abi_encode(["string", "bytes32"], ["veil.role", role])
    return Address(to_checksum_address(bytes(keccak(preimage))[:20]))


class Right(IntFlag):
    """What an account that is not the owner may do in a namespace."""

    NONE = 0
    EDIT = 1
    """Create, change and delete objects."""
    VIEW = 2
    """Read what is sealed to the home nodes; these nodes enforce it."""
    REQUEST = 4
    """With EDIT: also objects that make nodes decide about placements."""
    WRITE = EDIT | REQUEST
    ALL = EDIT | VIEW | REQUEST


@dataclass(frozen=True, slots=True)
class Owner:
    """Of a namespace: an account, or a role (32 bytes) and the address that stands for it; the zero address for nobody."""

    address: Address
    role: bytes = b""


class EpochStatus(StrEnum):
    NONE = "None"
    PREPARED = "Prepared"
    ACTIVE = "Active"
    RETIRED = "Retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochParts:
    """Digests of an epoch's public parts. ``threshold`` of the ``size`` members of the committee decrypt."""

    public_key: Digest
    evaluation_keys: Digest
    circuits: Digest
    """SHA-256 of the circuits' encodings, one after the other."""
    committee: Digest
    """SHA-256 of the members' peer IDs, one after the other."""
    size: int
    threshold: int

    @classmethod
    def of(cls, epoch: KeyEpoch) -> "EpochParts":
        """Of a published epoch: what the registry must say for it."""
        return cls(
            public_key=Digest(epoch.public_key),
            evaluation_keys=Digest(epoch.evaluation_keys),
            circuits=Digest(hashlib.sha256(b"".join(encode(circuit) for circuit in epoch.circuits)).digest()),
            committee=Digest(hashlib.sha256(b"".join(epoch.committee)).digest()),
            size=len(epoch.committee),
            threshold=epoch.threshold,
        )


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch as the registry has it; ``parts`` is None for one that it does not have."""

    status: EpochStatus
    digest: Digest
    parts: EpochParts | None


@dataclass(frozen=True, slots=True)
class Bond:
    """A node's stake. It may go from ``unbond_at_s`` on (while the node is Leaving) unless ``disputes`` are open."""

    amount_wei: int
    unbond_at_s: int
    disputes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StakeTerms:
    """``min_stake_wei``: below it no node is Active. A dispute that is open for ``resolve_period_s`` may lapse."""

    min_stake_wei: int
    dispute_bond_wei: int
    unbond_period_s: int
    resolve_period_s: int


class DisputeStatus(StrEnum):
    NONE = "None"
    OPEN = "Open"
    UPHELD = "Upheld"
    REJECTED = "Rejected"
    LAPSED = "Lapsed"


@dataclass(frozen=True, slots=True)
class Dispute:
    """``by`` put up ``bond_wei`` against ``accused``."""

    accused: PeerId
    by: Address
    deadline_s: int
    status: DisputeStatus
    bond_wei: int

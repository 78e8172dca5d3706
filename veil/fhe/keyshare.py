"""A committee member's share of the epoch's secret key, as it is sealed to that member and kept by it alone.

Beside the share it has a seed in common with each other member: from those, members derive shares of zero among themselves
that need no message.
"""

import hashlib
import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from veil.errors import CiphertextInvalid
from veil.fhe import threshold as arithmetic
from veil.fhe import vectors
from veil.fhe.threshold import FIELD, MEMBERS_MAX, VALUE_BYTES
from veil.types import Secret

_HEADER = struct.Struct(">4sBBBBQ16s")
_MAGIC = b"VLKS"
_VERSION = 2
SEED_BYTES = 32
_HINT = "open the sealed share of this epoch again"


def share_bytes(members: int) -> int:
    """The size of a packed share in a committee of ``members``."""
    return _HEADER.size + VALUE_BYTES * vectors.DIMENSION + SEED_BYTES * (members - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyShare:
    """What a Decryptor needs."""

    key: vectors.KeyName
    member: int
    members: int
    threshold: int
    values: tuple[int, ...] = field(repr=False)
    """One field element for each bit of the secret key."""
    pairwise: Mapping[int, bytes] = field(repr=False)
    """By each other member: the seed that only these two (and the dealer, once) have."""

    def to_secret(self) -> Secret:
        header = _HEADER.pack(_MAGIC, _VERSION, self.member, self.members, self.threshold, self.key.epoch, self.key.key_id)
        values = b"".join(value.to_bytes(VALUE_BYTES, "big") for value in self.values)
        return Secret(header + values + b"".join(self.pairwise[other] for other in _others(self.member, self.members)))

    @classmethod
    def from_secret(cls, secret: Secret) -> "KeyShare":
        """Raises CiphertextInvalid unless it is a share of this version."""
        data = secret.reveal()
        if len(data) < _HEADER.size:
            raise CiphertextInvalid(f"a key share of {len(data)} bytes", hint=_HINT)
        magic, version, member, members, threshold, epoch, key_id = _HEADER.unpack_from(data)
        sound = 1 <= threshold <= members <= MEMBERS_MAX and 1 <= member <= members
        if (magic, version) != (_MAGIC, _VERSION) or not sound or len(data) != share_bytes(members):
            raise CiphertextInvalid(f"a key share of an unknown form, {len(data)} bytes long", hint=_HINT)
        seeds = _HEADER.size + VALUE_BYTES * vectors.DIMENSION
        values = tuple(_chunks(data[_HEADER.size : seeds], VALUE_BYTES))
        numbers = tuple(int.from_bytes(value, "big") for value in values)
        if max(numbers) >= FIELD:
            raise CiphertextInvalid("a key share with values outside the field", hint=_HINT)
        pairwise = dict(zip(_others(member, members), _chunks(data[seeds:], SEED_BYTES), strict=True))
        name = vectors.KeyName(epoch, key_id)
        return cls(key=name, member=member, members=members, threshold=threshold, values=numbers, pairwise=pairwise)

    def flooding_seed(self) -> bytes:
        """The key of the PRF that derives this member's floods."""
        packed = b"".join(value.to_bytes(VALUE_BYTES, "big") for value in self.values)
        return hashlib.sha256(b"veil/flooding-seed/1" + self.member.to_bytes(1, "big") + packed).digest()


def deal(key: vectors.KeyName, secret: Sequence[int], members: int, threshold: int) -> list[KeyShare]:
    """The shares of members 1..``members``, of which ``threshold`` decrypt, with a fresh seed for each pair."""
    every = range(1, members + 1)
    seeds = {(low, high): secrets.token_bytes(SEED_BYTES) for low in every for high in every if low < high}
    dealt = arithmetic.deal(secret, members, threshold)
    return [
        KeyShare(
            key=key,
            member=member,
            members=members,
            threshold=threshold,
            values=tuple(values),
            pairwise={other: seeds[min(member, other), max(member, other)] for other in _others(member, members)},
        )
        for member, values in enumerate(dealt, 1)
    ]


def _others(member: int, members: int) -> list[int]:
    return [other for other in range(1, members + 1) if other != member]


def _chunks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]

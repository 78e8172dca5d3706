"""A committee member's share of the epoch's secret key, as it is sealed to that member and kept by it alone."""

import hashlib
import struct
from dataclasses import dataclass, field

from veil.errors import CiphertextInvalid
from veil.fhe import vectors
from veil.fhe.threshold import FIELD, MEMBERS_MAX, SHARE_VALUE_BYTES
from veil.types import Secret

_HEADER = struct.Struct(">4sBBBBQ16s")
_MAGIC = b"VLKS"
_VERSION = 1
SHARE_BYTES = _HEADER.size + SHARE_VALUE_BYTES * vectors.DIMENSION


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyShare:
    """What a Decryptor needs."""

    key: vectors.KeyName
    member: int
    members: int
    threshold: int
    values: tuple[int, ...] = field(repr=False)
    """One field element for each bit of the secret key."""

    def to_secret(self) -> Secret:
        header = _HEADER.pack(_MAGIC, _VERSION, self.member, self.members, self.threshold, self.key.epoch, self.key.key_id)
        return Secret(header + b"".join(value.to_bytes(SHARE_VALUE_BYTES, "big") for value in self.values))

    @classmethod
    def from_secret(cls, secret: Secret) -> "KeyShare":
        """Raises CiphertextInvalid unless it is a share of this version."""
        data = secret.reveal()
        if len(data) != SHARE_BYTES:
            raise CiphertextInvalid(f"a key share of {len(data)} bytes", hint="open the sealed share of this epoch again")
        magic, version, member, members, threshold, epoch, key_id = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        values = tuple(
            int.from_bytes(body[start : start + SHARE_VALUE_BYTES], "big") for start in range(0, len(body), SHARE_VALUE_BYTES)
        )
        sound = 1 <= threshold <= members <= MEMBERS_MAX and 1 <= member <= members and max(values) < FIELD
        if (magic, version) != (_MAGIC, _VERSION) or not sound:
            raise CiphertextInvalid("a key share of an unknown form", hint="open the sealed share of this epoch again")
        return cls(key=vectors.KeyName(epoch, key_id), member=member, members=members, threshold=threshold, values=values)

    def flooding_seed(self) -> bytes:
        """The key of the PRF that derives this member's masking."""
        packed = b"".join(value.to_bytes(SHARE_VALUE_BYTES, "big") for value in self.values)
        return hashlib.sha256(b"veil/flooding-seed/1" + self.member.to_bytes(1, "big") + packed).digest()

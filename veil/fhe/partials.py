"""The wire form of a partial decryption: which result, which set, whose, and one field element for each bit."""

import hashlib
import struct
from collections.abc import Sequence

from veil.errors import CiphertextInvalid
from veil.fhe.threshold import FIELD, MEMBERS_MAX, SHARE_VALUE_BYTES

_HEADER = struct.Struct(">4sBBH16s")
_MAGIC = b"VLPD"
_VERSION = 1


def check_members(members: Sequence[int], threshold: int) -> list[int]:
    """The set in canonical order. Raises CiphertextInvalid unless it has ``threshold`` or more distinct valid indices."""
    ordered = sorted(set(members))
    if len(ordered) != len(members) or len(ordered) < threshold or not all(1 <= member <= MEMBERS_MAX for member in ordered):
        raise CiphertextInvalid(
            f"{list(members)} is no set of at least {threshold} members", hint="name each member that decrypts, once"
        )
    return ordered


def pack(result: bytes, members: Sequence[int], member: int, parts: Sequence[int]) -> bytes:
    """The bytes that travel."""
    header = _HEADER.pack(_MAGIC, _VERSION, member, len(parts), _context(result, members))
    return header + b"".join(part.to_bytes(SHARE_VALUE_BYTES, "big") for part in parts)


def unpack(data: bytes, result: bytes, members: Sequence[int], member: int, count: int) -> list[int]:
    """The field elements. Raises CiphertextInvalid unless they are ``member``'s for that result and set."""
    if len(data) != _HEADER.size + count * SHARE_VALUE_BYTES:
        raise CiphertextInvalid(f"member {member} sent a partial of {len(data)} bytes", hint="ask it again, or use another set")
    found = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    parts = [int.from_bytes(body[start : start + SHARE_VALUE_BYTES], "big") for start in range(0, len(body), SHARE_VALUE_BYTES)]
    if found != (_MAGIC, _VERSION, member, count, _context(result, members)) or max(parts) >= FIELD:
        raise CiphertextInvalid(
            f"member {member} sent a partial of another result or set", hint="compare evaluations, then ask it again"
        )
    return parts


def _context(result: bytes, members: Sequence[int]) -> bytes:
    return hashlib.sha256(b"veil/partial/1" + bytes([len(members), *members]) + hashlib.sha256(result).digest()).digest()[:16]

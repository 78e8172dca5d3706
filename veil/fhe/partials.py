"""The wire form of a member's partials: which result, which quorum, whose, and one field element for each subset and bit."""

import hashlib
import struct
from collections.abc import Mapping, Sequence

from veil.errors import PartialInvalid
from veil.fhe.quorum import Subset, subsets
from veil.fhe.threshold import FIELD, VALUE_BYTES

_HEADER = struct.Struct(">4sBBBHH16s")
_MAGIC = b"VLPD"
_VERSION = 2


def pack(result: bytes, quorum: Subset, member: int, parts: Mapping[Subset, Sequence[int]]) -> bytes:
    """The bytes that travel: subset by subset in lexicographic order, row by row. ``result`` is the result's digest."""
    ordered = sorted(parts)
    count = len(parts[ordered[0]])
    header = _HEADER.pack(_MAGIC, _VERSION, member, len(ordered[0]), len(ordered), count, _context(result, quorum))
    return header + b"".join(value.to_bytes(VALUE_BYTES, "big") for subset in ordered for value in parts[subset])


def unpack(data: bytes, result: bytes, quorum: Subset, threshold: int, member: int, count: int) -> dict[Subset, list[int]]:
    """The field elements by subset. Raises PartialInvalid unless they are ``member``'s for that result and quorum."""
    mine = subsets(quorum, threshold, member)
    if len(data) != _HEADER.size + len(mine) * count * VALUE_BYTES:
        raise PartialInvalid(
            f"member {member} sent partials of {len(data)} bytes", member=member, hint="ask it again, or use another quorum"
        )
    body = data[_HEADER.size :]
    values = [int.from_bytes(body[start : start + VALUE_BYTES], "big") for start in range(0, len(body), VALUE_BYTES)]
    expected = (_MAGIC, _VERSION, member, threshold, len(mine), count, _context(result, quorum))
    if _HEADER.unpack_from(data) != expected or max(values) >= FIELD:
        raise PartialInvalid(
            f"member {member} sent partials of another result or quorum",
            member=member,
            hint="compare evaluations, then ask it again",
        )
    return {subset: values[place * count : (place + 1) * count] for place, subset in enumerate(mine)}


def _context(result: bytes, quorum: Subset) -> bytes:
    return hashlib.sha256(b"veil/partial/2" + bytes([len(quorum), *quorum]) + result).digest()[:16]

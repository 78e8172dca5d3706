"""How messages and what follows them are laid out in a stream, between peers and between a node and its meshd.

Between peers: 4 bytes of length, a head; then as many payload bytes as the head says. Between parent and child the payload's
length stands before the head, since any message there may have one.
"""

import struct

from veil.errors import WireInvalid
from veil.wire.codec import Message, encode

HEAD_MAX_BYTES = 4096
"""The head of a request, a reply or a blob; the largest is below 300 bytes."""

FRAME_MAX_BYTES = 4 * 1024 * 1024
"""One SWIM frame: a full exchange among 1,000 members is below 1 MB."""

_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size


def pack(head: Message) -> bytes:
    """``head`` with its length before it."""
    data = encode(head)
    return _LENGTH.pack(len(data)) + data


def unpack_length(data: bytes, max_bytes: int) -> int:
    """The length in 4 bytes. Raises WireInvalid past ``max_bytes``."""
    (length,) = _LENGTH.unpack(data)
    if length > max_bytes:
        raise WireInvalid(f"a frame of {length} bytes; at most {max_bytes} are taken")
    return int(length)

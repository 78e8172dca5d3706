"""Lists of byte strings in one byte string: between a node and its children, and in artifacts that have several parts.

A frame on a pipe is its length (8 bytes) and then such a list: a count (4 bytes) and for each part its length (8 bytes) and
its bytes.
"""

import struct
from collections.abc import Callable, Sequence

from veil.errors import CiphertextInvalid

FRAME_MAX_BYTES = 1 << 30
PARTS_MAX = 256

_COUNT = struct.Struct(">I")
LENGTH = struct.Struct(">Q")


def pack(parts: Sequence[bytes]) -> bytes:
    """The list as bytes."""
    pieces = [_COUNT.pack(len(parts))]
    for part in parts:
        pieces += [LENGTH.pack(len(part)), part]
    return b"".join(pieces)


def unpack(data: bytes) -> list[bytes]:
    """The parts. Raises CiphertextInvalid unless ``data`` is exactly such a list."""
    try:
        (count,) = _COUNT.unpack_from(data)
        if count > PARTS_MAX:
            raise CiphertextInvalid(f"{count} parts in a frame, at most {PARTS_MAX} are taken")
        position, parts = _COUNT.size, []
        for _ in range(count):
            (length,) = LENGTH.unpack_from(data, position)
            position += LENGTH.size
            parts.append(data[position : position + length])
            position += length
    except struct.error as error:
        raise CiphertextInvalid("a frame that ends too early", hint="fetch it again") from error
    if position != len(data):
        raise CiphertextInvalid("a frame of the wrong length", hint="fetch it again")
    return parts


def read_frame(read: Callable[[int], bytes]) -> list[bytes] | None:
    """The next frame of a blocking stream; None at its end. Raises CiphertextInvalid past FRAME_MAX_BYTES."""
    head = _exactly(read, LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    if length > FRAME_MAX_BYTES:
        raise CiphertextInvalid(f"a frame of {length} bytes, at most {FRAME_MAX_BYTES} are taken")
    body = _exactly(read, length)
    return unpack(body) if len(body) == length else None


def framed(parts: Sequence[bytes]) -> bytes:
    """What :func:`read_frame` reads."""
    body = pack(parts)
    return LENGTH.pack(len(body)) + body


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    pieces = []
    while count > 0:
        piece = read(count)
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)

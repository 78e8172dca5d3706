"""The wire forms of ciphertexts: vectors (telemetry, demand) and results.

A vector is a header, one ring element A and one body for each value: all values share A, so 9 digits cost 72 bytes more
than one. Its size depends on the layout only. A result is a header and whole LWE rows, one for each bit, in the evaluator's
order. Checks here are of form: any content of a well-formed vector is safe to evaluate, because the circuits sanitise.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from veil.errors import CiphertextInvalid
from veil.fhe import ring
from veil.fhe.encoding import MESSAGE_BITS

LAYOUT_VERSION = 1

DIMENSION = 2048
"""Of the LWE key that inputs and outputs are under; a power of two, which makes it a ring element's key."""

RESULT_BITS_MAX = 192
"""The rank of 64 candidates: two classes, and who fits not. Such a result fits in a message of the mesh."""

TELEMETRY: Literal[1] = 1
DEMAND: Literal[2] = 2
_RESULT: Literal[3] = 3

_HEADER = struct.Struct(">4sBBHQ16s")
_MAGIC = b"VLCT"
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class KeyName:
    """Which key a ciphertext is under."""

    epoch: int
    key_id: bytes
    """16 bytes of the public key's digest."""


def vector_bytes(values: int) -> int:
    """The size of a vector of ``values`` numbers."""
    return _HEADER.size + _WORD_BYTES * (DIMENSION + values)


def pack_vector(kind: Literal[1, 2], key: KeyName, mask: ring.Polynomial, bodies: ring.Polynomial) -> bytes:
    """The bytes that travel."""
    header = _HEADER.pack(_MAGIC, LAYOUT_VERSION, kind, len(bodies), key.epoch, key.key_id)
    return header + mask.astype("<u8").tobytes() + bodies.astype("<u8").tobytes()


def check_vector(data: bytes, kind: Literal[1, 2], key: KeyName, values: int) -> None:
    """Raises CiphertextInvalid unless length, kind, layout, epoch and key are the expected ones."""
    what = "telemetry" if kind == TELEMETRY else "demand"
    if len(data) != vector_bytes(values):
        raise CiphertextInvalid(
            f"a {what} vector of {len(data)} bytes, {vector_bytes(values)} expected",
            hint="encrypt it again with this version of veil",
        )
    _check_header(data, kind, key, values, what)


def check_candidates(telemetry: Sequence[bytes | None], candidates: int) -> None:
    """Raises CiphertextInvalid when there are more candidates than places."""
    if len(telemetry) > candidates:
        raise CiphertextInvalid(
            f"{len(telemetry)} candidates for {candidates} places", hint="use a larger circuit or fewer candidates"
        )


def expand(data: bytes) -> npt.NDArray[np.uint64]:
    """The LWE rows (values, DIMENSION + 1) of a checked vector."""
    words = np.frombuffer(data, dtype="<u8", offset=_HEADER.size).astype(np.uint64)
    bodies = words[DIMENSION:]
    return np.concatenate([ring.extract_masks(words[:DIMENSION], len(bodies)), bodies[:, None]], axis=1)


def trivial(numbers: list[int]) -> npt.NDArray[np.uint64]:
    """LWE rows that hold public numbers: mask 0. The same on every machine, so that padded evaluations agree."""
    rows = np.zeros((len(numbers), DIMENSION + 1), dtype=np.uint64)
    rows[:, -1] = encode(numbers)
    return rows


def encode(numbers: list[int]) -> ring.Polynomial:
    """Plaintexts as torus elements: one bit of padding, then MESSAGE_BITS."""
    return np.asarray(numbers, dtype=np.uint64) << np.uint64(63 - MESSAGE_BITS)


def pack_result(key: KeyName, rows: npt.NDArray[np.uint64]) -> bytes:
    """The bytes of an evaluation: ``rows`` is (bits, DIMENSION + 1)."""
    header = _HEADER.pack(_MAGIC, LAYOUT_VERSION, _RESULT, len(rows), key.epoch, key.key_id)
    return header + np.ascontiguousarray(rows, dtype="<u8").tobytes()


def open_result(data: bytes, key: KeyName) -> npt.NDArray[np.uint64]:
    """The rows of a result. Raises CiphertextInvalid unless it is one, under ``key``."""
    count = int.from_bytes(data[6:8], "big")
    size = _HEADER.size + count * (DIMENSION + 1) * _WORD_BYTES
    if len(data) != size or not 2 <= count <= RESULT_BITS_MAX:
        raise CiphertextInvalid(f"a result of {len(data)} bytes for {count} bits", hint="evaluate again")
    _check_header(data, _RESULT, key, count, "result")
    return np.frombuffer(data, dtype="<u8", offset=_HEADER.size).reshape(count, DIMENSION + 1).astype(np.uint64)


def _check_header(data: bytes, kind: int, key: KeyName, count: int, what: str) -> None:
    magic, version, found_kind, found_count, epoch, key_id = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, LAYOUT_VERSION):
        raise CiphertextInvalid(f"a {what} of an unknown layout", hint="all members of a round need the same version of veil")
    if (found_kind, found_count) != (kind, count):
        raise CiphertextInvalid(f"a ciphertext that is no {what} of {count} values", hint="send each ciphertext where it belongs")
    if (epoch, key_id) != (key.epoch, key.key_id):
        raise CiphertextInvalid(
            f"a {what} under another key than epoch {key.epoch}'s", hint="encrypt it again for the current epoch"
        )

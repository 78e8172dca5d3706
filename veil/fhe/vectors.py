"""The wire forms of ciphertexts: telemetry, demands, results.

Each is a header and ring elements or LWE rows, of constant size. Telemetry is one RLWE ciphertext, a table of 2048 slots; a
demand is the two rows of an RGSW ciphertext (:mod:`veil.fhe.selection`). Both travel with the highest bits of each coefficient
only: what is rounded off is noise. A result has one LWE row for each bit, in the evaluator's order. Checks here are of form, and
every form has one spelling: any content of a well-formed vector is safe to evaluate, because the circuits sanitise.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veil.errors import CiphertextInvalid
from veil.fhe import ring
from veil.fhe.encoding import MESSAGE_BITS

LAYOUT_VERSION = 2

DIMENSION = 2048
"""Of the LWE key that inputs and outputs are under; a power of two, which makes it a ring element's key."""

RESULT_BITS_MAX = 192
"""The rank of 64 candidates: two classes, and who fits not. Such a result fits in a message of the mesh."""

TELEMETRY_BITS = 32
"""Sent of each coefficient of a table. The rounding's noise is 2^35 of 2^64."""

DEMAND_BITS = 48
"""Sent of each coefficient of a demand's rows: what is rounded off stays below their own noise."""

_TELEMETRY, _DEMAND, _RESULT = 1, 2, 3
_TELEMETRY_SHAPE, _DEMAND_SHAPE = (2, DIMENSION), (2, 2, DIMENSION)

_HEADER = struct.Struct(">4sBBHQ16s")
_MAGIC = b"VLCT"
_WORD_BYTES = 8
_WORD_BITS = 64

TELEMETRY_BYTES = _HEADER.size + 2 * DIMENSION * TELEMETRY_BITS // 8
DEMAND_BYTES = _HEADER.size + 4 * DIMENSION * DEMAND_BITS // 8


@dataclass(frozen=True, slots=True)
class KeyName:
    """Which key a ciphertext is under."""

    epoch: int
    key_id: bytes
    """16 bytes of the public key's digest."""


def pack_telemetry(key: KeyName, table: ring.Polynomial) -> bytes:
    """The bytes of an RLWE ciphertext (mask and body, N)."""
    return _pack(_TELEMETRY, key, table, TELEMETRY_BITS)


def pack_demand(key: KeyName, rows: ring.Polynomial) -> bytes:
    """The bytes of the rows (2, mask and body, N) of an RGSW ciphertext."""
    return _pack(_DEMAND, key, rows, DEMAND_BITS)


def check_telemetry(data: bytes, key: KeyName) -> None:
    """Raises CiphertextInvalid unless length, kind, layout, epoch and key are those of telemetry under ``key``."""
    _check_vector(data, _TELEMETRY, key, TELEMETRY_BYTES, 2, "telemetry")


def check_demand(data: bytes, key: KeyName) -> None:
    """The same for a demand."""
    _check_vector(data, _DEMAND, key, DEMAND_BYTES, 4, "demand")


def open_telemetry(data: bytes, key: KeyName) -> ring.Polynomial:
    """The table's ciphertext (mask and body, N). Raises CiphertextInvalid as :func:`check_telemetry`."""
    check_telemetry(data, key)
    return _open(data, TELEMETRY_BITS, _TELEMETRY_SHAPE)


def open_demand(data: bytes, key: KeyName) -> ring.Polynomial:
    """The demand's rows (2, mask and body, N). Raises CiphertextInvalid as :func:`check_demand`."""
    check_demand(data, key)
    return _open(data, DEMAND_BITS, _DEMAND_SHAPE)


def check_candidates(telemetry: Sequence[bytes | None], candidates: int) -> None:
    """Raises CiphertextInvalid when there are more candidates than places."""
    if len(telemetry) > candidates:
        raise CiphertextInvalid(
            f"{len(telemetry)} candidates for {candidates} places", hint="use a larger circuit or fewer candidates"
        )


def trivial(numbers: list[int]) -> npt.NDArray[np.uint64]:
    """LWE rows that hold public numbers: mask 0. The same on every machine, so that padded evaluations agree."""
    rows = np.zeros((len(numbers), DIMENSION + 1), dtype=np.uint64)
    rows[:, -1] = encode(numbers)
    return rows


def encode(numbers: Sequence[int] | npt.NDArray[np.uint8]) -> ring.Polynomial:
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


def _pack(kind: int, key: KeyName, elements: ring.Polynomial, bits: int) -> bytes:
    """The highest ``bits`` of each word, rounded, after the header."""
    header = _HEADER.pack(_MAGIC, LAYOUT_VERSION, kind, elements.size // DIMENSION, key.epoch, key.key_id)
    rounded = elements + np.uint64(1 << (_WORD_BITS - bits - 1))
    words = np.ascontiguousarray(rounded, dtype="<u8").view(np.uint8).reshape(-1, _WORD_BYTES)
    return header + words[:, -bits // 8 :].tobytes()


def _open(data: bytes, bits: int, shape: tuple[int, ...]) -> ring.Polynomial:
    words = np.zeros((int(np.prod(shape)), _WORD_BYTES), dtype=np.uint8)
    words[:, -bits // 8 :] = np.frombuffer(data, dtype=np.uint8, offset=_HEADER.size).reshape(len(words), -1)
    return words.view("<u8").reshape(shape).astype(np.uint64)


def _check_vector(data: bytes, kind: int, key: KeyName, size_bytes: int, elements: int, what: str) -> None:
    if len(data) != size_bytes:
        raise CiphertextInvalid(
            f"a {what} vector of {len(data)} bytes, {size_bytes} expected", hint="encrypt it again with this version of veil"
        )
    _check_header(data, kind, key, elements, what)


def _check_header(data: bytes, kind: int, key: KeyName, count: int, what: str) -> None:
    magic, version, found_kind, found_count, epoch, key_id = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, LAYOUT_VERSION):
        raise CiphertextInvalid(f"a {what} of an unknown layout", hint="all members of a round need the same version of veil")
    if (found_kind, found_count) != (kind, count):
        raise CiphertextInvalid(f"a ciphertext that is no {what}", hint="send each ciphertext where it belongs")
    if (epoch, key_id) != (key.epoch, key.key_id):
        raise CiphertextInvalid(
            f"a {what} under another key than epoch {key.epoch}'s", hint="encrypt it again for the current epoch"
        )

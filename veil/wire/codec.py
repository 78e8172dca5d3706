"""Canonical bytes of every message that leaves a process.

A message is a frozen struct, written as a CBOR array ``[tag, field, …]`` in deterministic encoding (RFC 8949, section 4.2).
The tag names the type and its version (``veil/open.1``): a change of fields needs a new tag. Decoding refuses whatever
would not be encoded to the same bytes again, so that one value has one digest.
"""

import hashlib
import io
from typing import Any, TypeVar

import cbor2
import msgspec

from veil.errors import LimitExceeded, WireInvalid
from veil.types import Digest

MESSAGE_MAX_BYTES = 4 * 1024 * 1024
"""The largest message; what is larger travels as a blob."""


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """The base of all messages. Subclasses set ``tag="veil/<name>.<version>"``."""


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The canonical bytes of ``message``. Raises LimitExceeded past MESSAGE_MAX_BYTES."""
    data: bytes = cbor2.dumps(msgspec.to_builtins(message, builtin_types=(bytes,)), canonical=True)
    if len(data) > MESSAGE_MAX_BYTES:
        raise LimitExceeded(f"a {type(message).__name__} of {len(data)} bytes is over MESSAGE_MAX_BYTES={MESSAGE_MAX_BYTES}")
    return data


def decode(data: bytes, kind: type[M], *, max_bytes: int = MESSAGE_MAX_BYTES) -> M:
    """The ``kind`` that ``data`` encodes. Raises WireInvalid for anything that is not exactly its canonical bytes."""
    if len(data) > max_bytes:
        raise WireInvalid(f"{kind.__name__}: {len(data)} bytes, at most {max_bytes} are taken")
    try:
        value: Any = cbor2.load(io.BytesIO(data))
        message = msgspec.convert(value, kind, builtin_types=(bytes,), strict=True)
        canonical = encode(message)
    except (msgspec.ValidationError, cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireInvalid(f"{kind.__name__}: {error}") from error
    if canonical != data:
        raise WireInvalid(f"{kind.__name__}: not in canonical encoding")
    return message


def sha256(data: bytes) -> Digest:
    """The digest of a content."""
    return Digest(hashlib.sha256(data).digest())


def digest(message: Message) -> Digest:
    """SHA-256 of the canonical bytes."""
    return sha256(encode(message))

"""Requests and replies under seal, so that the transport, and the process that runs it, see only sizes.

Inside the seal, before the payload, stands a head that says what it is for: a request cannot be taken to another protocol
or be passed on as another peer's, a reply answers exactly one request. Who sent it is vouched for by Noise.
"""

import struct
from typing import TypeVar

from veil.errors import Untrusted, WireInvalid
from veil.identity import Identity, seal
from veil.mesh.messages import SealedReply, SealedRequest
from veil.types import PeerId
from veil.wire.codec import Message, decode, encode

M = TypeVar("M", bound=Message)

_LENGTH = struct.Struct(">H")


def seal_request(receiver: PeerId, sender: PeerId, protocol: str, nonce: bytes, payload: bytes) -> bytes:
    """Only ``receiver`` opens it. Raises Untrusted for a key that cannot be sealed to."""
    return seal(receiver, _join(SealedRequest(protocol=protocol, sender=sender, nonce=nonce), payload))


def open_request(identity: Identity, sender: PeerId, protocol: str, sealed: bytes) -> tuple[bytes, bytes]:
    """Nonce and payload of what ``sender`` asks of ``protocol``. Raises Untrusted if it was sealed for anything else."""
    head, payload = _split(identity.open(sealed), SealedRequest)
    if head.sender != sender or head.protocol != protocol:
        raise Untrusted("a request that was sealed by another peer or for another protocol")
    return head.nonce, payload


def seal_reply(receiver: PeerId, nonce: bytes, payload: bytes) -> bytes:
    """Only ``receiver``, who sent ``nonce``, opens it."""
    return seal(receiver, _join(SealedReply(nonce=nonce), payload))


def open_reply(identity: Identity, nonce: bytes, sealed: bytes) -> bytes:
    """The payload of the reply to the request with ``nonce``. Raises Untrusted if it answers another."""
    head, payload = _split(identity.open(sealed), SealedReply)
    if head.nonce != nonce:
        raise Untrusted("a reply to another request")
    return payload


def _join(head: Message, payload: bytes) -> bytes:
    data = encode(head)
    return _LENGTH.pack(len(data)) + data + payload


def _split(plaintext: bytes, kind: type[M]) -> tuple[M, bytes]:
    if len(plaintext) < _LENGTH.size:
        raise WireInvalid("a sealed message without a head")
    (length,) = _LENGTH.unpack_from(plaintext)
    end = _LENGTH.size + length
    return decode(plaintext[_LENGTH.size : end], kind), plaintext[end:]

"""A message with its author.

The signature covers the cluster, the message's own tag (part of its canonical bytes) and nothing outside the message, so
that it cannot be taken to another cluster or be read as another type.
"""

from typing import Annotated, TypeVar

from msgspec import Meta

from veil.errors import SignatureInvalid
from veil.identity import Identity, verify
from veil.types import ClusterId, PeerId
from veil.wire.codec import Message, decode, encode

M = TypeVar("M", bound=Message)

_DOMAIN = b"veil/signature.1"


class Signed(Message, frozen=True, tag="veil/signed.1"):
    """``body`` is the canonical encoding of a message, ``signature`` its Ed25519 signature by ``signer``."""

    signer: Annotated[bytes, Meta(min_length=32, max_length=32)]
    body: bytes
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


def sign(identity: Identity, cluster: ClusterId, message: Message) -> Signed:
    """``message`` signed by this node for this cluster."""
    body = encode(message)
    return Signed(signer=identity.peer_id, body=body, signature=identity.sign(_DOMAIN + cluster + body))


def verify_signature(signature: bytes, cluster: ClusterId, message: Message, *, by: PeerId) -> None:
    """Raises SignatureInvalid unless ``signature`` is the one that :func:`sign` makes of ``message`` with the key of ``by``."""
    verify(by, _DOMAIN + cluster + encode(message), signature)


def open_signed(signed: Signed, cluster: ClusterId, kind: type[M], *, by: PeerId | None = None) -> M:
    """The message inside. Raises SignatureInvalid (also when ``by`` is given and is not the signer) or WireInvalid."""
    signer = PeerId(signed.signer)
    if by is not None and by != signer:
        raise SignatureInvalid(f"a {kind.__name__} signed by another peer than its sender")
    verify(signer, _DOMAIN + cluster + signed.body, signed.signature)
    return decode(signed.body, kind)

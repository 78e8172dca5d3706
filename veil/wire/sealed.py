"""Sealed parts: a plaintext under its own fresh content key, the key sealed to those who may have it.

The plaintext is padded to a multiple of PAD_BYTES, so that the length of the box says nothing about figures of one size class.
Shares of the key are made by the caller (Shamir) and come in already sealed to their committee members.
"""

from collections.abc import Sequence
from typing import Literal

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.utils import random

from veil.errors import Forbidden, Untrusted
from veil.identity import Identity, seal
from veil.types import ObjectId, PeerId, Secret
from veil.wire.objects import SealedPart

PAD_BYTES = 1024


def pad(plaintext: bytes) -> bytes:
    """ISO 7816-4 padding: 0x80, then zeros up to the next multiple of PAD_BYTES."""
    padded = plaintext + b"\x80"
    return padded + bytes(-len(padded) % PAD_BYTES)


def unpad(padded: bytes) -> bytes:
    """The inverse of :func:`pad`. Raises Untrusted."""
    body = padded.rstrip(b"\0")
    if not body.endswith(b"\x80"):
        raise Untrusted("a sealed part without padding")
    return body[:-1]


def new_content_key() -> Secret:
    """32 random bytes."""
    return Secret(random(SecretBox.KEY_SIZE))


def make_part(
    plaintext: bytes,
    key: Secret,
    *,
    piece: Literal["resources", "template"],
    object_id: ObjectId,
    epoch: int,
    threshold: int,
    shares: Sequence[bytes],
    homes: Sequence[PeerId],
) -> SealedPart:
    """``plaintext`` under ``key``; ``shares`` in committee order, each sealed to its member; the key sealed to each home."""
    return SealedPart(
        piece=piece,
        object_id=object_id,
        epoch=epoch,
        threshold=threshold,
        box=bytes(SecretBox(key.reveal()).encrypt(pad(plaintext))),
        shares=tuple(shares),
        homes=tuple((home, seal(home, key.reveal())) for home in homes),
    )


def open_part(part: SealedPart, key: Secret) -> bytes:
    """The plaintext. Raises Untrusted when ``key`` is another one or the box was changed."""
    try:
        return unpad(SecretBox(key.reveal()).decrypt(part.box))
    except (CryptoError, ValueError) as error:
        raise Untrusted(f"the sealed {part.piece} part does not open with this key") from error


def home_key(part: SealedPart, identity: Identity) -> Secret:
    """The content key as a home node has it. Raises Forbidden when this node is no home of the part."""
    for home, sealed in part.homes:
        if home == identity.peer_id:
            return Secret(identity.open(sealed))
    raise Forbidden("this node is not a home node of the object", hint="ask a node of the owner's organisation")

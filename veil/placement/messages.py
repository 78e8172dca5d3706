"""What comes in on ``round/1``: one signed message of a closed list, by the peer that sent it."""

import io

import cbor2

from veil.errors import SignatureInvalid, WireInvalid
from veil.types import ClusterId, PeerId
from veil.wire.codec import Message, decode
from veil.wire.rounds import (
    Accept,
    Bound,
    Commit,
    Decline,
    Inputs,
    KeyRequest,
    KeyShare,
    Missing,
    Offer,
    Open,
    Passed,
    Release,
    ReleaseRequest,
    Telemetry,
    Withheld,
)
from veil.wire.signed import Signed, open_signed

ROUND_MESSAGES: dict[str, type[Message]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        Accept,
        Bound,
        Commit,
        Decline,
        Inputs,
        KeyRequest,
        KeyShare,
        Missing,
        Offer,
        Open,
        Passed,
        Release,
        ReleaseRequest,
        Telemetry,
        Withheld,
    )
}
"""By tag."""


def open_any(sender: PeerId, payload: bytes, cluster: ClusterId) -> tuple[Message, Signed]:
    """The message of a round that ``sender`` itself signed. Raises SignatureInvalid, WireInvalid."""
    signed = decode(payload, Signed)
    if signed.signer != sender:
        raise SignatureInvalid("a round message that its sender did not sign")
    return open_signed(signed, cluster, _kind_of(signed.body), by=sender), signed


def open_passed(passed: Passed, cluster: ClusterId) -> Open | Commit | Telemetry:
    """What somebody signed, by way of another. Raises SignatureInvalid, WireInvalid."""
    message = open_signed(passed.message, cluster, _kind_of(passed.message.body))
    if not isinstance(message, Open | Commit | Telemetry):
        raise WireInvalid(f"a {type(message).__name__} is not passed on")
    return message


def _kind_of(body: bytes) -> type[Message]:
    """The type that the tag names; the fields are taken only once the signature is verified."""
    try:
        array = cbor2.CBORDecoder(io.BytesIO(body)).decode()
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireInvalid(f"a round message that is no CBOR: {error}") from error
    tag = array[0] if isinstance(array, list) and array else None
    kind = ROUND_MESSAGES.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise WireInvalid("a message that does not belong to a round")
    return kind

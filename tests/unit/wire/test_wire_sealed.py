"""A sealed part opens with its key only, is of constant size, and says nothing of what is in it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veil.errors import Forbidden, Untrusted
from veil.identity import Identity
from veil.types import ObjectId, Secret
from veil.wire.codec import encode
from veil.wire.objects import SealedPart
from veil.wire.sealed import PAD_BYTES, home_key, make_part, new_content_key, open_part, pad, unpad

ALICE, BOB, EVE = (Identity(Secret(bytes([n]) * 32)) for n in (1, 2, 3))


def part(plaintext: bytes, key: Secret) -> SealedPart:
    return make_part(
        plaintext,
        key,
        piece="resources",
        object_id=ObjectId(bytes(32)),
        epoch=1,
        threshold=2,
        shares=[b"share-1", b"share-2"],
        homes=[ALICE.peer_id, BOB.peer_id],
    )


@given(st.binary(max_size=3 * PAD_BYTES))
def test_padding(plaintext: bytes) -> None:
    padded = pad(plaintext)
    assert len(padded) % PAD_BYTES == 0
    assert len(padded) - len(plaintext) <= PAD_BYTES
    assert unpad(padded) == plaintext


@pytest.mark.parametrize("padded", [b"", bytes(PAD_BYTES), b"x" * PAD_BYTES])
def test_no_padding(padded: bytes) -> None:
    with pytest.raises(Untrusted):
        unpad(padded)


def test_it_opens_with_its_key_and_for_its_homes() -> None:
    key = new_content_key()
    sealed = part(b"figures", key)
    assert open_part(sealed, key) == b"figures"
    for home in (ALICE, BOB):
        assert open_part(sealed, home_key(sealed, home)) == b"figures"
    with pytest.raises(Forbidden):
        home_key(sealed, EVE)
    with pytest.raises(Untrusted):
        open_part(sealed, new_content_key())
    with pytest.raises(Untrusted):
        open_part(msgspec.structs.replace(sealed, box=sealed.box[:-1] + bytes([sealed.box[-1] ^ 1])), key)
    with pytest.raises(Untrusted):
        open_part(msgspec.structs.replace(sealed, box=b""), key)


def test_size_and_content_say_nothing() -> None:
    short, long = part(b"1", new_content_key()), part(b"9" * 1000, new_content_key())
    assert len(encode(short)) == len(encode(long))
    key = new_content_key()
    assert part(b"same", key).box != part(b"same", key).box
    assert b"same" not in encode(part(b"same", key))

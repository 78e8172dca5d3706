"""Signatures hold for one signer, one cluster, one type; a proof of possession for one operator."""

import msgspec
import pytest

from veil.errors import SignatureInvalid, Untrusted, WireInvalid
from veil.identity import Identity
from veil.types import Address, ClusterId, Secret
from veil.wire.nodes import check_possession, prove_possession
from veil.wire.rounds import Commit, Decline
from veil.wire.signed import open_signed, sign

ALICE, BOB = (Identity(Secret(bytes([n]) * 32)) for n in (1, 2))
HERE, THERE = ClusterId(b"h" * 32), ClusterId(b"t" * 32)
COMMIT = Commit(round=b"r" * 16, telemetry=b"t" * 32)
OPERATOR, OTHER = Address("0x" + "aa" * 20), Address("0x" + "bb" * 20)


def test_what_was_signed_comes_out() -> None:
    signed = sign(ALICE, HERE, COMMIT)
    assert open_signed(signed, HERE, Commit) == COMMIT
    assert open_signed(signed, HERE, Commit, by=ALICE.peer_id) == COMMIT


def test_another_cluster_signer_body_or_signature() -> None:
    signed = sign(ALICE, HERE, COMMIT)
    other = sign(BOB, HERE, Commit(round=b"x" * 16, telemetry=b"t" * 32))
    with pytest.raises(SignatureInvalid):
        open_signed(signed, THERE, Commit)
    with pytest.raises(SignatureInvalid):
        open_signed(signed, HERE, Commit, by=BOB.peer_id)
    for changed in ({"signer": BOB.peer_id}, {"body": other.body}, {"signature": other.signature}, {"signature": bytes(64)}):
        with pytest.raises(SignatureInvalid):
            open_signed(msgspec.structs.replace(signed, **changed), HERE, Commit)


@pytest.mark.parametrize("signer", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_keys_of_small_order_sign_nothing(signer: bytes) -> None:
    """With such a key a signature of zeros would verify for some or all messages."""
    for signature in (bytes(64), signer + bytes(32), b"\x01" + bytes(63)):
        forged = msgspec.structs.replace(sign(ALICE, HERE, COMMIT), signer=signer, signature=signature)
        with pytest.raises(SignatureInvalid):
            open_signed(forged, HERE, Commit)


def test_a_message_is_not_read_as_another() -> None:
    with pytest.raises(WireInvalid):
        open_signed(sign(ALICE, HERE, Decline(round=b"r" * 16, replicas=(0,), reason="x")), HERE, Commit)


def test_possession() -> None:
    proof = prove_possession(ALICE, HERE, OPERATOR)
    assert len(proof) == 64
    check_possession(proof, HERE, ALICE.peer_id, OPERATOR)
    for cluster, identity, operator in ((THERE, ALICE, OPERATOR), (HERE, BOB, OPERATOR), (HERE, ALICE, OTHER)):
        with pytest.raises(Untrusted):
            check_possession(proof, cluster, identity.peer_id, operator)
    for junk in (b"", proof[:-1], proof + b"\0", bytes(64)):
        with pytest.raises(Untrusted):
            check_possession(junk, HERE, ALICE.peer_id, OPERATOR)

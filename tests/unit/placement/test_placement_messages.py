"""Messages of rounds: one tag each, their own signer, and nothing else is read."""

import msgspec
import pytest
from placement_doubles import use_cheap_signatures

from veil.errors import SignatureInvalid, WireInvalid
from veil.placement.messages import ROUND_MESSAGES, open_any
from veil.wire.codec import encode
from veil.wire.rounds import (
    Commit,
    RenewReply,
)


def test_every_round_message_has_its_own_tag():
    assert len(ROUND_MESSAGES) == 15


def test_a_message_by_another_than_its_sender_is_refused(table):
    payload = encode(table.signed(1, Commit(round=table.round, telemetry=bytes(32))))
    with pytest.raises(SignatureInvalid):
        open_any(table.peers[0], payload, b"c" * 32)


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x80", b"\x81\x01", b"\x81kveil/none.1", encode(RenewReply(keep=True))])
def test_what_is_no_round_message_is_refused(table, body, monkeypatch):
    use_cheap_signatures(monkeypatch)
    signed = msgspec.structs.replace(table.signed(0, RenewReply(keep=True)), body=body)
    with pytest.raises((SignatureInvalid, WireInvalid)):
        open_any(table.peers[0], encode(signed), b"c" * 32)

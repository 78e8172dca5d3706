"""What is sealed is for one receiver, one protocol, one request."""

import pytest

from veil.errors import Untrusted
from veil.identity import Identity, seal
from veil.mesh.sealing import open_reply, open_request, seal_reply, seal_request

ASKER, SERVER, OTHER = Identity.generate(), Identity.generate(), Identity.generate()
NONCE = b"n" * 16


def test_the_receiver_reads_what_the_asker_sent():
    sealed = seal_request(SERVER.peer_id, ASKER.peer_id, "round/1", NONCE, b"payload")
    assert b"payload" not in sealed
    assert open_request(SERVER, ASKER.peer_id, "round/1", sealed) == (NONCE, b"payload")
    assert open_reply(ASKER, NONCE, seal_reply(ASKER.peer_id, NONCE, b"reply")) == b"reply"


@pytest.mark.parametrize(
    ("reader", "sender", "protocol"),
    [
        (OTHER, ASKER, "round/1"),
        (SERVER, OTHER, "round/1"),
        (SERVER, ASKER, "round/2"),
    ],
)
def test_a_request_is_refused_by_another_reader_sender_or_protocol(reader, sender, protocol):
    sealed = seal_request(SERVER.peer_id, ASKER.peer_id, "round/1", NONCE, b"payload")
    with pytest.raises(Untrusted):
        open_request(reader, sender.peer_id, protocol, sealed)


def test_a_reply_to_another_request_is_refused():
    with pytest.raises(Untrusted):
        open_reply(ASKER, b"m" * 16, seal_reply(ASKER.peer_id, NONCE, b"reply"))


@pytest.mark.parametrize("plaintext", [b"", b"\x00", b"\x00\x05abc", b"\xff\xff"])
def test_a_seal_without_a_head_is_refused(plaintext):
    with pytest.raises(Untrusted):
        open_request(SERVER, ASKER.peer_id, "round/1", seal(SERVER.peer_id, plaintext))

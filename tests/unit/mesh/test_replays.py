"""Telemetry that was sent once is sent again. Each attack runs a second time with the one defence taken away, and succeeds."""

import pytest

from veil.errors import SignatureInvalid, Untrusted
from veil.identity import Identity
from veil.mesh import client
from veil.mesh.client import LibP2PMesh
from veil.mesh.messages import SealedRequest
from veil.mesh.sealing import _split, seal_request
from veil.placement.messages import open_any
from veil.types import ClusterId
from veil.wire.codec import encode
from veil.wire.rounds import Telemetry
from veil.wire.signed import sign

CLUSTER = ClusterId(b"c" * 32)
PROTOCOL = "round/1"

CANDIDATE, MEMBER, ATTACKER = (Identity.generate() for _ in range(3))

TELEMETRY = encode(sign(CANDIDATE, CLUSTER, Telemetry(round=bytes(16), epoch=1, vector=b"a ciphertext")))

defended = pytest.mark.parametrize("defended", [True, False], ids=["", "undefended"])


class Receiver:
    """The member: what its handler was given, by whom."""

    def __init__(self, tmp_path) -> None:
        self.mesh = LibP2PMesh(MEMBER, CLUSTER, blobs=tmp_path)
        self.taken: list[tuple[bytes, Telemetry]] = []
        self.mesh.serve(PROTOCOL, self.take)

    async def take(self, sender: bytes, payload: bytes) -> bytes:
        message, _ = open_any(sender, payload, CLUSTER)
        assert isinstance(message, Telemetry)
        self.taken.append((sender, message))
        return b""

    async def give(self, sender: Identity, sealed: bytes) -> None:
        """``sealed`` comes in on a connection that Noise says is ``sender``'s."""
        await self.mesh._answer(sender.peer_id, PROTOCOL, sealed)


def sealed_by(sender: Identity) -> bytes:
    return seal_request(MEMBER.peer_id, sender.peer_id, PROTOCOL, bytes(16), TELEMETRY)


async def test_its_own_candidate_is_believed(tmp_path):
    receiver = Receiver(tmp_path)
    await receiver.give(CANDIDATE, sealed_by(CANDIDATE))
    assert [sender for sender, _ in receiver.taken] == [CANDIDATE.peer_id]


@defended
async def test_bytes_recorded_on_the_wire_are_of_no_use_on_another_connection(tmp_path, monkeypatch, defended):
    receiver = Receiver(tmp_path)
    if defended:
        with pytest.raises(Untrusted):
            await receiver.give(ATTACKER, sealed_by(CANDIDATE))
        assert receiver.taken == []
        return

    def opens_anything(identity, sender, protocol, sealed):
        head, payload = _split(identity.open(sealed), SealedRequest)
        return head.nonce, payload

    monkeypatch.setattr(client, "open_request", opens_anything)
    seen: list[bytes] = []

    async def take(sender: bytes, payload: bytes) -> bytes:
        seen.append(payload)
        return b""

    receiver.mesh.serve(PROTOCOL, take)
    await receiver.give(ATTACKER, sealed_by(CANDIDATE))
    assert seen == [TELEMETRY]


@defended
async def test_who_was_given_telemetry_cannot_pass_it_off_as_its_own(tmp_path, defended):
    """A member that opened it seals it anew: the signature inside is not the sender's."""
    receiver = Receiver(tmp_path)
    if defended:
        with pytest.raises(SignatureInvalid):
            await receiver.give(ATTACKER, sealed_by(ATTACKER))
        assert receiver.taken == []
        return

    async def believes_the_signature_alone(sender: bytes, payload: bytes) -> bytes:
        message, _signed = open_any(CANDIDATE.peer_id, payload, CLUSTER)
        receiver.taken.append((sender, message))
        return b""

    receiver.mesh.serve(PROTOCOL, believes_the_signature_alone)
    await receiver.give(ATTACKER, sealed_by(ATTACKER))
    assert [sender for sender, _ in receiver.taken] == [ATTACKER.peer_id]

"""What a node and its meshd say survives the way, and nothing else is taken."""

import pytest

from veil.errors import WireInvalid
from veil.mesh import control
from veil.mesh.control import Allow, AllowedPeer, Leave, Seen, Setup
from veil.mesh.framing import unpack_length


@pytest.mark.parametrize(
    "head",
    [
        Setup(cluster=bytes(32), listen=("/ip4/127.0.0.1/tcp/0",), preset="lan", blobs="/blobs", limits={"streams": 64}),
        Allow(peers=(AllowedPeer(peer=bytes(32), addresses=("/ip4/10.0.0.1/tcp/1",)),)),
        Seen(peer=bytes(32), state="alive", incarnation=1, metadata=b"m"),
        Leave(),
    ],
)
def test_a_message_is_read_as_it_was_written(head):
    message = control.pack(head, b"payload")
    head_bytes, payload_bytes = control.unpack_lengths(message[: control.LENGTHS_BYTES])
    rest = message[control.LENGTHS_BYTES :]
    assert control.unpack_head(rest[:head_bytes]) == head
    assert rest[head_bytes:] == b"payload"
    assert payload_bytes == 7


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x81gunknown", b"\xff", b"\x01", b"\x81\x01"])
def test_anything_else_is_refused(data):
    with pytest.raises(WireInvalid):
        control.unpack_head(data)


def test_lengths_have_limits():
    with pytest.raises(WireInvalid):
        control.unpack_lengths(b"\xff\xff\xff\xff\x00\x00\x00\x00")
    with pytest.raises(WireInvalid):
        control.unpack_lengths(b"\x00\x00\x00\x00\xff\xff\xff\xff")
    with pytest.raises(WireInvalid):
        unpack_length(b"\x00\x00\x10\x01", 4096)
    assert unpack_length(b"\x00\x00\x10\x00", 4096) == 4096

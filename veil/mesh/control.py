"""What a node and its meshd say to each other over their socket.

Each message is a head and a payload, either of which may be empty but not absent. Calls carry a number that their answer
repeats. Blobs do not pass here: both sides share the directory they are kept in.
"""

import io
import struct
from typing import Annotated, Any, Literal

import cbor2
from msgspec import Meta

from veil.errors import WireInvalid
from veil.mesh.messages import SEALED_MAX_BYTES, ProtocolName
from veil.mesh.ports import METADATA_MAX_BYTES
from veil.wire.codec import Message, decode, encode
from veil.wire.objects import Bytes32, UInt

HEAD_MAX_BYTES = 4 * 1024 * 1024
"""The list of all registered peers and their addresses."""

PAYLOAD_MAX_BYTES = SEALED_MAX_BYTES

_LENGTHS = struct.Struct(">II")
LENGTHS_BYTES = _LENGTHS.size

Metadata = Annotated[bytes, Meta(max_length=METADATA_MAX_BYTES)]


class Setup(Message, frozen=True, tag="setup"):
    """First of all, with the node's key seed as payload: it is never in an argument or the environment."""

    cluster: Bytes32
    listen: tuple[str, ...]
    preset: str
    blobs: str
    limits: dict[str, int]
    """The fields of :class:`veil.config.MeshLimits`."""
    capture: str = ""
    mdns: bool = False


class AllowedPeer(Message, frozen=True, tag="allowed-peer"):
    peer: Bytes32
    addresses: tuple[str, ...]


class Allow(Message, frozen=True, tag="allow"):
    """Exactly these may connect."""

    peers: tuple[AllowedPeer, ...]


class Announce(Message, frozen=True, tag="announce"):
    """The metadata of this node's next alive claim."""

    metadata: Metadata


class Ask(Message, frozen=True, tag="ask"):
    """A request to a peer; the payload is sealed. Answered by Done, with the sealed reply."""

    call: UInt
    peer: Bytes32
    protocol: ProtocolName
    deadline_ms: UInt


class Push(Message, frozen=True, tag="push"):
    call: UInt
    digest: Bytes32
    peer: Bytes32
    deadline_ms: UInt


class Fetch(Message, frozen=True, tag="fetch"):
    call: UInt
    digest: Bytes32
    sources: tuple[Bytes32, ...]
    deadline_ms: UInt


class Served(Message, frozen=True, tag="served"):
    """The node's answer to a Serve, with the sealed reply."""

    call: UInt
    status: Literal["ok", "unserved", "failed"]


class Leave(Message, frozen=True, tag="leave"):
    """Say farewell to the others, then end."""


class Ready(Message, frozen=True, tag="ready"):
    """meshd listens."""

    addresses: tuple[str, ...]


class Failed(Message, frozen=True, tag="failed"):
    """meshd cannot start, and why; it ends."""

    message: str
    hint: str = ""


class Done(Message, frozen=True, tag="done"):
    """The answer to Ask, Push or Fetch. ``status`` is ``ok`` or the name of an error class."""

    call: UInt
    status: str
    message: str = ""


class Serve(Message, frozen=True, tag="serve"):
    """A peer's request, its payload sealed to this node. To be answered by Served."""

    call: UInt
    peer: Bytes32
    protocol: ProtocolName
    deadline_ms: UInt


class Seen(Message, frozen=True, tag="seen"):
    """A member is not what it was."""

    peer: Bytes32
    state: str
    incarnation: UInt
    metadata: Metadata


ToMeshd = Setup | Allow | Announce | Ask | Push | Fetch | Served | Leave
FromMeshd = Ready | Failed | Done | Serve | Seen

_KINDS: dict[str, type[Message]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (Setup, Allow, Announce, Ask, Push, Fetch, Served, Leave, Ready, Failed, Done, Serve, Seen)
}


def pack(head: Message, payload: bytes = b"") -> bytes:
    """One message."""
    data = encode(head)
    return _LENGTHS.pack(len(data), len(payload)) + data + payload


def unpack_lengths(data: bytes) -> tuple[int, int]:
    """Of head and payload. Raises WireInvalid for more than either may have."""
    head_bytes, payload_bytes = _LENGTHS.unpack(data)
    if head_bytes > HEAD_MAX_BYTES or payload_bytes > PAYLOAD_MAX_BYTES:
        raise WireInvalid(f"a control message of {head_bytes} and {payload_bytes} bytes")
    return head_bytes, payload_bytes


def unpack_head(data: bytes) -> Message:
    """Any message of this module. Raises WireInvalid."""
    try:
        fields: Any = cbor2.load(io.BytesIO(data))
        kind = _KINDS[fields[0]]
    except (cbor2.CBORError, ValueError, TypeError, KeyError, IndexError) as error:
        raise WireInvalid(f"not a control message: {error}") from error
    return decode(data, kind)

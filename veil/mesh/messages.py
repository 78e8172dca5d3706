"""Every message that one meshd gives to another.

Claims about who is alive are signed by their author, because they are passed on by others; the frames that carry them are
not, because Noise already says who sent them. Heads announce the sizes of what follows, so that a reader can refuse before
it reads.
"""

from typing import Annotated, Literal

from msgspec import Meta

from veil.mesh.ports import BLOB_MAX_BYTES, METADATA_MAX_BYTES, REQUEST_MAX_BYTES
from veil.wire.codec import Message
from veil.wire.objects import Bytes32, UInt
from veil.wire.signed import Signed

SWIM_PROTOCOL = "/veil/swim/1"
REQUEST_PROTOCOL = "/veil/request/1"
BLOB_PROTOCOL = "/veil/blob/2"

CLAIMS_MAX = 8192
"""Claims in one frame: a push-pull of 1,000 members, each with its accusers, stays below."""

SEALED_MAX_BYTES = REQUEST_MAX_BYTES + 1024
"""A sealed request or reply: its payload, the sealed head and the seal."""

PIECE_MAX_BYTES = 1024 * 1024
"""Of a blob, asked for at once: what is in memory for each source, and lost when it stops in the middle."""

INLINE_MAX_BYTES = 256 * 1024
"""A blob that is pushed without asking first whether it is wanted: within yamux's window, and less than a round trip costs."""

PROTOCOL_NAME_MAX = 64

ProtocolName = Annotated[str, Meta(min_length=1, max_length=PROTOCOL_NAME_MAX)]
Nonce = Annotated[bytes, Meta(min_length=16, max_length=16)]


class Claim(Message, frozen=True, tag="veil/swim-claim.1"):
    """One statement about ``peer`` at ``incarnation``.

    ``alive`` and ``left`` are signed by the peer itself, ``suspect`` and ``dead`` by an accuser.
    """

    kind: Literal["alive", "left", "suspect", "dead"]
    peer: Bytes32
    incarnation: UInt
    metadata: Annotated[bytes, Meta(max_length=METADATA_MAX_BYTES)] = b""
    """Only in ``alive``."""


class Frame(Message, frozen=True, tag="veil/swim-frame.1"):
    """One SWIM message between neighbours, with claims on its back.

    ``probe`` asks the receiver to ping ``target``; ``ack`` and ``nack`` answer the ``sequence`` of a ping or probe;
    ``pull`` gives the sender's whole state and asks for the receiver's, ``push`` only gives.
    """

    kind: Literal["ping", "ack", "nack", "probe", "gossip", "pull", "push"]
    sequence: UInt = 0
    target: Annotated[bytes, Meta(max_length=32)] = b""
    claims: Annotated[tuple[Signed, ...], Meta(max_length=CLAIMS_MAX)] = ()


class RequestHead(Message, frozen=True, tag="veil/request-head.1"):
    """Before ``size_bytes`` of a payload sealed to the receiver."""

    protocol: ProtocolName
    size_bytes: Annotated[int, Meta(ge=0, le=SEALED_MAX_BYTES)]
    deadline_ms: UInt
    """How long the asker will wait from now on; later the answer is of no use."""


class ReplyHead(Message, frozen=True, tag="veil/reply-head.1"):
    """Before ``size_bytes`` of a reply sealed to the asker (none unless ``ok``)."""

    status: Literal["ok", "unserved", "failed"]
    size_bytes: Annotated[int, Meta(ge=0, le=SEALED_MAX_BYTES)] = 0


class SealedRequest(Message, frozen=True, tag="veil/sealed-request.1"):
    """The head inside a request's seal: what the payload is for, so that it cannot be moved to another protocol or asker."""

    protocol: ProtocolName
    sender: Bytes32
    nonce: Nonce


class SealedReply(Message, frozen=True, tag="veil/sealed-reply.1"):
    """The head inside a reply's seal: which request it answers."""

    nonce: Nonce


class BlobGet(Message, frozen=True, tag="veil/blob-get.2"):
    """Asks for ``size_bytes`` of a content from ``offset`` on, fewer if it ends before.

    Answered by a BlobReply with the whole content's size and, if ``ok``, those bytes.
    """

    digest: Bytes32
    offset: Annotated[int, Meta(ge=0, le=BLOB_MAX_BYTES)]
    size_bytes: Annotated[int, Meta(ge=1, le=PIECE_MAX_BYTES)]


class BlobPut(Message, frozen=True, tag="veil/blob-put.2"):
    """Before ``size_bytes`` of a content that the receiver shall keep; answered by a BlobReply after they are verified.

    Past INLINE_MAX_BYTES the sender waits for a BlobReply ``send`` before the first of them.
    """

    digest: Bytes32
    size_bytes: Annotated[int, Meta(ge=0, le=BLOB_MAX_BYTES)]


class BlobReply(Message, frozen=True, tag="veil/blob-reply.2"):
    """``full``: the receiver keeps no more for this sender."""

    status: Literal["ok", "send", "missing", "mismatch", "full"]
    size_bytes: Annotated[int, Meta(ge=0, le=BLOB_MAX_BYTES)] = 0

"""Reading a container's log from the node that runs it: home node → winner."""

from typing import Annotated

from msgspec import Meta

from veil.wire.codec import Message
from veil.wire.objects import Bytes16, Bytes32, UInt
from veil.wire.rounds import Index

LOG_CHUNK_MAX_BYTES = 256 * 1024


class LogOpen(Message, frozen=True, tag="veil/log-open.2"):
    """Begin reading. ``tail_lines`` and ``since_s`` of -1 mean no limit; ``container`` may be empty for the only one."""

    reader: Bytes16
    """Chosen by the asker: names this reading in LogNext."""
    object_id: Bytes32
    generation: UInt
    """The template's, as in the replica's leaf."""
    replica: Index
    container: Annotated[str, Meta(max_length=63)] = ""
    follow: bool = False
    tail_lines: Annotated[int, Meta(ge=-1, le=1_000_000)] = -1
    since_s: Annotated[int, Meta(ge=-1, lt=2**40)] = -1
    timestamps: bool = False
    previous: bool = False
    """Of the run before the container's last restart."""


class LogNext(Message, frozen=True, tag="veil/log-next.1"):
    """More of it."""

    reader: Bytes16


class LogChunk(Message, frozen=True, tag="veil/log-chunk.1"):
    """Winner → home node: the next bytes, in order; empty while nothing new was written."""

    data: Annotated[bytes, Meta(max_length=LOG_CHUNK_MAX_BYTES)]
    end: bool

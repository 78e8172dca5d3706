"""yamux with bounds, and without its waits: libp2p 0.8.1 neither limits the streams that a peer opens nor holds it to the window.

A peer that ignores the receive window is only warned of in libp2p's log, and its bytes are kept: one stream that nobody reads
would take all memory. Both bounds are far above what a Veil peer uses, so crossing one ends the connection or the stream.

Three settings make a blob twice as fast. A writer whose window is used up sleeps 10 ms at a time, so the window is large from
the first read. A frame of 64 KB does not fit into one Noise message, and the rest of it costs a second one. And credit is
given when half the window is used, as go-yamux does, not with each read.
"""

import logging
import os
from typing import Any

import trio
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux

logger = logging.getLogger(__name__)

WINDOW_BYTES = 1024 * 1024
"""What a peer may send on a stream before it hears that some was read: a piece of a blob, while the next is asked for."""

FRAME_MAX_BYTES = 65_519
"""A frame with its header: the most that one Noise message holds besides its tag."""

STREAMS_MAX = 128
"""Open streams that the other end began, on one connection. A Veil peer has 16 for requests, 16 for blobs, and a few more."""

UNREAD_MAX_BYTES = 64 * 1024 * 1024
"""Received on one connection and not read. yamux's window grows to 16 MB for quick readers."""

UNREAD_CHECK_BYTES = 1024 * 1024
"""How much comes in between two looks at what is unread."""


class BoundedYamux(Yamux):
    """One connection's streams."""

    _unchecked_bytes = 0

    async def open_stream(self) -> Any:
        stream: Any = await super().open_stream()
        stream.target_recv_window = WINDOW_BYTES
        return stream

    async def accept_stream(self) -> Any:
        """The next stream that is within STREAMS_MAX; the others are reset."""
        while True:
            stream: Any = await super().accept_stream()
            if sum(not one.is_initiator for one in list(self.streams.values())) <= STREAMS_MAX:
                stream.target_recv_window = WINDOW_BYTES
                return stream
            await stream.reset()

    async def _read_data_body(self, length: int) -> bytes:
        self._unchecked_bytes += length
        if self._unchecked_bytes >= UNREAD_CHECK_BYTES:
            self._unchecked_bytes = 0
            unread_bytes = length + sum(len(buffer) for buffer in self.stream_buffers.values())
            if unread_bytes > UNREAD_MAX_BYTES:
                logger.warning("a peer sent %d bytes that nobody asked for; its connection ends", unread_bytes)
                raise trio.TooSlowError  # what libp2p ends a connection for
        return await super()._read_data_body(length)


yamux.MAX_MESSAGE_SIZE = FRAME_MAX_BYTES
os.environ.setdefault("PY_YAMUX_RELEASE_ON_READ", "0")  # read at each call

# libp2p 0.8.1 makes a Yamux of its own for this protocol, whatever class its host is given.
setattr(muxer_multistream, "Yamux", BoundedYamux)  # noqa: B010 (the module does not export the name)

"""yamux with bounds: libp2p 0.8.1 neither limits the streams that a peer opens nor holds it to the receive window.

A peer that ignores the window is only warned of in libp2p's log, and its bytes are kept: one stream that nobody reads would
take all memory. Both bounds are far above what a Veil peer uses, so crossing one ends the connection or the stream.
"""

import logging
from typing import Any

import trio
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux.yamux import Yamux

logger = logging.getLogger(__name__)

STREAMS_MAX = 128
"""Open streams that the other end began, on one connection. A Veil peer has 16 for requests, 16 for blobs, and a few more."""

UNREAD_MAX_BYTES = 64 * 1024 * 1024
"""Received on one connection and not read. yamux's window begins at 256 KB a stream and grows to 16 MB for quick readers."""

UNREAD_CHECK_BYTES = 1024 * 1024
"""How much comes in between two looks at what is unread."""


class BoundedYamux(Yamux):
    """One connection's streams."""

    _unchecked_bytes = 0

    async def accept_stream(self) -> Any:
        """The next stream that is within STREAMS_MAX; the others are reset."""
        while True:
            stream: Any = await super().accept_stream()
            if sum(not one.is_initiator for one in list(self.streams.values())) <= STREAMS_MAX:
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


# libp2p 0.8.1 makes a Yamux of its own for this protocol, whatever class its host is given.
setattr(muxer_multistream, "Yamux", BoundedYamux)  # noqa: B010 (the module does not export the name)

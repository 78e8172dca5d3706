"""yamux with bounds, and without its waits: libp2p 0.8.1 neither limits the streams that a peer opens nor holds it to the window.

A peer that ignores the receive window is only warned of in libp2p's log, and its bytes are kept: one stream that nobody reads
would take all memory. Both bounds are far above what a Veil peer uses, so crossing one ends the connection or the stream.

Three settings make a blob twice as fast. A writer whose window is used up sleeps 10 ms at a time, so the window is large from
the first read. A frame of 64 KB does not fit into one Noise message, and the rest of it costs a second one. And credit is
given when half the window is used, as go-yamux does, not with each read.

Four private methods of libp2p are replaced (`_write_frame`, `_read_data_body`, `_measure_rtt_loop`, and a stream's
`_auto_tune_and_send_window_update`): its exact version is pinned and looked at when a host is made, and `make test-interop` shows
that others still understand it.
"""

import logging
from typing import Any

import trio
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from veil.config import MeshLimits
from veil.errors import ConfigInvalid

logger = logging.getLogger(__name__)

LIBP2P_VERSION = "0.8.1"
"""Whose private methods are replaced here and in :mod:`veil.mesh.host`."""

WINDOW_BYTES = 2 * 1024 * 1024
"""What a peer may send on a stream before it hears that some was read: a piece of a blob and the next."""

FRAME_MAX_BYTES = 65_519
"""A frame with its header: the most that one Noise message holds besides its tag."""

DATA_TIMEOUT_S = 30.0
"""From a frame's header to its last byte; libp2p's figure."""

WRITE_TIMEOUT_S = 10.0
"""A connection that takes no byte for so long is over."""

UNREAD_CHECK_BYTES = 1024 * 1024
"""How much comes in between two looks at what is unread."""


class BoundedYamux(Yamux):
    """One connection's streams."""

    limits = MeshLimits()
    """Of this process: libp2p makes the instances, and knows nothing of whose host they are."""

    _unchecked_bytes = 0

    async def _measure_rtt_loop(self) -> None:
        """Nothing: with 30 peers libp2p's pings would cost as much as membership, and are only to size windows."""

    async def _write_frame(self, data: bytes) -> None:
        """All of ``data`` or, if the caller is cancelled while it waits for others' frames, nothing.

        libp2p's can be cancelled once Noise has counted the message and before TCP has all of it, and then the other end can
        decrypt nothing any more: each expired deadline would cost a connection, and a busy node all of them.
        """
        async with self._write_lock:
            with trio.CancelScope(deadline=trio.current_time() + WRITE_TIMEOUT_S, shield=True) as writing:
                await self.secured_conn.write(data)
        if writing.cancelled_caught:
            await self.secured_conn.close()
            raise ConnectionClosedError(f"a peer read nothing for {WRITE_TIMEOUT_S} s")
        await trio.lowlevel.checkpoint()

    async def open_stream(self) -> Any:
        stream: Any = await super().open_stream()
        stream.target_recv_window = WINDOW_BYTES
        return stream

    async def accept_stream(self) -> Any:
        """The next stream that is within the limit; the others are reset."""
        while True:
            stream: Any = await super().accept_stream()
            if sum(not one.is_initiator for one in list(self.streams.values())) <= self.limits.streams:
                stream.target_recv_window = WINDOW_BYTES
                return stream
            await stream.reset()

    async def _read_data_body(self, length: int) -> bytes:
        self._unchecked_bytes += length
        if self._unchecked_bytes >= UNREAD_CHECK_BYTES:
            self._unchecked_bytes = 0
            unread_bytes = length + sum(len(buffer) for buffer in self.stream_buffers.values())
            if unread_bytes > self.limits.unread_mib * 1024**2:
                logger.warning("a peer sent %d bytes that nobody asked for; its connection ends", unread_bytes)
                raise trio.TooSlowError  # what libp2p ends a connection for
        with trio.fail_after(DATA_TIMEOUT_S):
            data: bytes = await self.secured_conn.read(length)
        if len(data) < length:
            raise IncompleteReadError(f"a frame of {length} bytes ends after {len(data)}")
        return data


def check_version(found: str) -> None:
    """Raises ConfigInvalid for a libp2p of another version: what is replaced might not be there, or not be all."""
    if found != LIBP2P_VERSION:
        raise ConfigInvalid(
            f"libp2p {found} is installed, and the mesh was made for {LIBP2P_VERSION}",
            hint=f"pip install libp2p=={LIBP2P_VERSION}",
        )


async def _credit(stream: YamuxStream, *, bytes_read: int = 0) -> None:
    """Gives the peer back what it may send, once half of the window is used: libp2p's gives it with each read of a small message,
    which costs as much as the message."""
    async with stream.window_lock:
        buffered = len(stream.conn.stream_buffers.get(stream.stream_id, b""))
        missing = stream.target_recv_window - stream.recv_window - buffered
        if missing < stream.target_recv_window // 2:
            return
        stream.recv_window += missing
    await stream.send_window_update(missing)


yamux.MAX_MESSAGE_SIZE = FRAME_MAX_BYTES

setattr(YamuxStream, "_auto_tune_and_send_window_update", _credit)  # noqa: B010 (it is private)

# libp2p 0.8.1 makes a Yamux of its own for this protocol, whatever class its host is given.
setattr(muxer_multistream, "Yamux", BoundedYamux)  # noqa: B010 (the module does not export the name)

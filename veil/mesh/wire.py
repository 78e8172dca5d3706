"""One libp2p stream to one peer, with our errors, exact reads, and a record of what was given away."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio

from veil.errors import MeshUnavailable, VeilError
from veil.identity import peer_id_text
from veil.mesh.capture import Capture
from veil.mesh.framing import HEAD_MAX_BYTES, LENGTH_BYTES, pack, unpack_length
from veil.types import PeerId
from veil.wire.codec import Message, decode

M = TypeVar("M", bound=Message)

READ_BYTES = 256 * 1024

RESET_TIMEOUT_S = 1.0
"""Resetting writes a frame, which a stuck connection may not take."""


@contextmanager
def libp2p_errors(what: str) -> Iterator[None]:
    """Whatever libp2p raises becomes MeshUnavailable: its streams leak errors of every layer below, down to KeyError."""
    try:
        yield
    except (VeilError, trio.TooSlowError):
        raise
    except Exception as error:
        raise MeshUnavailable(f"{what}: {type(error).__name__} {error}".rstrip()) from error


class Wire:
    """A stream in both directions. Raises MeshUnavailable when it breaks, WireInvalid for a frame that is none."""

    def __init__(self, stream: Any, peer: PeerId, protocol: str, capture: Capture | None) -> None:
        self.peer = peer
        self.protocol = protocol
        self._stream = stream
        self._capture = capture
        self._buffer = bytearray()
        self._reading, self._writing = f"reading from {peer_id_text(peer)}", f"writing to {peer_id_text(peer)}"

    async def started(self) -> None:
        """Returns when there is something to read: how long a stream may rest is not how long a message may take."""
        if not self._buffer:
            self._buffer += await self._read(READ_BYTES)

    async def read_exactly(self, count: int) -> bytes:
        if count > READ_BYTES:
            return await self._read_large(count)
        while len(self._buffer) < count:
            self._buffer += await self._read(READ_BYTES)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _read_large(self, count: int) -> bytes:
        """As it comes, and put together once."""
        parts = [bytes(self._buffer[:count])]
        del self._buffer[:count]
        missing = count - len(parts[0])
        while missing:
            parts.append(await self._read(missing))
            missing -= len(parts[-1])
        return b"".join(parts)

    async def read_up_to(self, count: int) -> bytes:
        """At least one byte."""
        if not self._buffer:
            self._buffer += await self._read(READ_BYTES)
        data = bytes(self._buffer[:count])
        del self._buffer[: len(data)]
        return data

    async def read_frame(self, max_bytes: int) -> bytes:
        return await self.read_exactly(unpack_length(await self.read_exactly(LENGTH_BYTES), max_bytes))

    async def read_head(self, kind: type[M]) -> M:
        return decode(await self.read_frame(HEAD_MAX_BYTES), kind)

    async def write(self, head: Message, payload: bytes = b"") -> None:
        """``head``, then ``payload`` as it is; in one write when both are small."""
        await self.write_bytes(pack(head) + payload)

    async def write_bytes(self, data: bytes) -> None:
        if self._capture is not None:
            self._capture.record(self.peer, self.protocol, data)
        with libp2p_errors(self._writing):
            await self._stream.write(data)

    async def close(self) -> None:
        """Ends it in good order: the other side reads to the end."""
        with trio.move_on_after(RESET_TIMEOUT_S), libp2p_errors("closing a stream"):
            await self._stream.close()

    async def reset(self) -> None:
        """Ends it at once; never raises, also when it is being cancelled."""
        with trio.CancelScope(shield=True), trio.move_on_after(RESET_TIMEOUT_S):
            try:
                with libp2p_errors("resetting a stream"):
                    await self._stream.reset()
            except MeshUnavailable:
                return

    async def _read(self, count: int) -> bytes:
        with libp2p_errors(self._reading):
            data: bytes = await self._stream.read(count)
        if not data:
            raise MeshUnavailable(f"{peer_id_text(self.peer)} ended the stream")
        return data

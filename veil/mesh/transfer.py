"""Blobs between meshds: streamed from file to file, verified while they come, never whole in memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import trio

from veil.errors import DeadlineExceeded, DigestMismatch, LimitExceeded, MeshUnavailable, NotFound, WireInvalid
from veil.identity import peer_id_text
from veil.mesh.blobs import BlobStore
from veil.mesh.exchange import STREAMS_SERVED_MAX
from veil.mesh.framing import HEAD_MAX_BYTES
from veil.mesh.host import Host
from veil.mesh.messages import BLOB_PROTOCOL, BlobGet, BlobPut, BlobReply
from veil.mesh.pool import Pool
from veil.mesh.wire import Wire
from veil.types import Digest, PeerId
from veil.wire.codec import decode

CHUNK_BYTES = 256 * 1024
"""yamux's window."""

STALL_TIMEOUT_S = 10.0
"""A transfer in which nothing moves for so long is over."""


class Transfer:
    """Both sides of the blob protocol."""

    def __init__(self, host: Host, pool: Pool, store: BlobStore) -> None:
        self._pool = pool
        self._store = store
        self._served: Counter[PeerId] = Counter()
        host.serve(BLOB_PROTOCOL, self._on_stream)

    async def push(self, digest: Digest, peer: PeerId, deadline_s: float) -> None:
        """Has ``peer`` keep a content that is here. Raises NotFound, DigestMismatch, MeshUnavailable, DeadlineExceeded."""
        file, size_bytes = self._store.open(digest)
        try:
            with file, trio.fail_after(deadline_s):
                async with self._pool.borrow(peer) as wire:
                    await wire.write(BlobPut(digest=digest, size_bytes=size_bytes))
                    await _send_file(wire, file, size_bytes)
                    reply = await wire.read_head(BlobReply)
        except trio.TooSlowError as error:
            raise DeadlineExceeded(f"blob {digest.hex()} to {peer_id_text(peer)}: not kept within {deadline_s} s") from error
        if reply.status == "mismatch":
            raise DigestMismatch(f"blob {digest.hex()}: {peer_id_text(peer)} found other bytes", hint="the file here was changed")
        if reply.status != "ok":
            raise MeshUnavailable(f"blob {digest.hex()}: {peer_id_text(peer)} could not keep it")

    async def fetch(self, digest: Digest, sources: Sequence[PeerId], deadline_s: float) -> None:
        """Keeps the content here, from the first of ``sources`` that gives it.

        Raises DigestMismatch if one gave other bytes and none the right ones, NotFound if none has it, MeshUnavailable if
        none could be asked, DeadlineExceeded.
        """
        failures: list[MeshUnavailable | NotFound | DigestMismatch | WireInvalid | DeadlineExceeded] = []
        try:
            with trio.fail_after(deadline_s):
                for peer in sources:
                    try:
                        await self._fetch_from(peer, digest)
                        return
                    except (MeshUnavailable, NotFound, DigestMismatch, WireInvalid, DeadlineExceeded) as error:
                        failures.append(error)
        except trio.TooSlowError as error:
            raise DeadlineExceeded(f"blob {digest.hex()}: not fetched within {deadline_s} s") from error
        wrong = [error for error in failures if isinstance(error, DigestMismatch)]
        if wrong:
            raise wrong[0]
        raise NotFound(
            f"blob {digest.hex()} is on none of {len(sources)} sources: "
            + ("; ".join(e.message for e in failures) or "no source")
        )

    async def _fetch_from(self, peer: PeerId, digest: Digest) -> None:
        async with self._pool.borrow(peer) as wire:
            with _stall_guard():
                await wire.write(BlobGet(digest=digest))
                reply = await wire.read_head(BlobReply)
            if reply.status == "ok":
                await self._receive(wire, digest, reply.size_bytes)
                return
        raise NotFound(f"{peer_id_text(peer)} does not have it")

    async def _receive(self, wire: Wire, digest: Digest, size_bytes: int) -> None:
        """Reads all of it, right or wrong, so that a mismatch can be answered on the same stream."""
        with self._store.receive(digest) as receiving:
            left = size_bytes
            while left:
                with _stall_guard():
                    chunk = await wire.read_up_to(min(left, CHUNK_BYTES))
                receiving.write(chunk)
                left -= len(chunk)
            await trio.to_thread.run_sync(receiving.sync)

    async def _on_stream(self, wire: Wire) -> None:
        if self._served[wire.peer] >= STREAMS_SERVED_MAX:
            await wire.reset()
            return
        self._served[wire.peer] += 1
        try:
            while True:
                await self._serve_one(wire)
        except (MeshUnavailable, WireInvalid, LimitExceeded, DeadlineExceeded, OSError):
            pass  # the peer went away or talks nonsense, or the disk is full: the stream ends, and the peer sees that
        finally:
            self._served[wire.peer] -= 1
            await wire.reset()

    async def _serve_one(self, wire: Wire) -> None:
        data = await wire.read_frame(HEAD_MAX_BYTES)
        try:
            get = decode(data, BlobGet)
        except WireInvalid:
            await self._keep(wire, decode(data, BlobPut))
        else:
            await self._give(wire, Digest(get.digest))

    async def _give(self, wire: Wire, digest: Digest) -> None:
        try:
            file, size_bytes = self._store.open(digest)
        except NotFound:
            await wire.write(BlobReply(status="missing"))
            return
        with file:
            await wire.write(BlobReply(status="ok", size_bytes=size_bytes))
            await _send_file(wire, file, size_bytes)

    async def _keep(self, wire: Wire, put: BlobPut) -> None:
        try:
            await self._receive(wire, Digest(put.digest), put.size_bytes)
        except DigestMismatch:
            await wire.write(BlobReply(status="mismatch"))
        else:
            await wire.write(BlobReply(status="ok"))


async def _send_file(wire: Wire, file: IO[bytes], size_bytes: int) -> None:
    left = size_bytes
    while left and (chunk := file.read(min(left, CHUNK_BYTES))):
        with _stall_guard():
            await wire.write_bytes(chunk)
        left -= len(chunk)
    if left:
        raise MeshUnavailable("a blob's file became shorter while it was sent")


@contextmanager
def _stall_guard() -> Iterator[None]:
    """DeadlineExceeded if the step inside takes over STALL_TIMEOUT_S; an outer deadline passes through."""
    with trio.move_on_after(STALL_TIMEOUT_S) as scope:
        yield
    if scope.cancelled_caught:
        raise DeadlineExceeded(f"a blob's transfer stood still for {STALL_TIMEOUT_S} s")

"""Blobs between meshds: streamed from file to file, verified while they come, never whole in memory.

:mod:`veil.mesh.fetch` is the side that asks; here is what serves it, and pushing.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import IO

import trio

from veil.config import MeshLimits
from veil.errors import DeadlineExceeded, DigestMismatch, LimitExceeded, MeshUnavailable, NotFound, WireInvalid
from veil.identity import peer_id_text
from veil.mesh.blobs import BlobStore, Receiving
from veil.mesh.budget import Buckets
from veil.mesh.exchange import FRAME_TIMEOUT_S, PEERS_MAX, STREAMS_SERVED_MAX
from veil.mesh.fetch import fetch
from veil.mesh.framing import HEAD_MAX_BYTES
from veil.mesh.host import Host
from veil.mesh.messages import BLOB_PROTOCOL, INLINE_MAX_BYTES, BlobGet, BlobPut, BlobReply
from veil.mesh.pace import pace_guard, stall_guard
from veil.mesh.pool import Pool
from veil.mesh.quota import Quota
from veil.mesh.wire import Wire
from veil.types import Digest, PeerId
from veil.wire.codec import decode

CHUNK_BYTES = 256 * 1024
"""yamux's first window."""

PUSHED_BURST_S = 16.0
"""So much of its rate may a peer push at once: the largest evaluation keys, twice, by default."""

COMPLAINT_INTERVAL_S = 3600.0

logger = logging.getLogger(__name__)


class Transfer:
    """Both sides of the blob protocol."""

    def __init__(self, host: Host, pool: Pool, store: BlobStore, quota: Quota, limits: MeshLimits) -> None:
        self._pool = pool
        self._store = store
        self._quota = quota
        self._served: Counter[PeerId] = Counter()
        per_s = limits.push_mib_per_s * 1024**2
        self._pushed: Buckets[PeerId] = Buckets(PUSHED_BURST_S * per_s, per_s, PEERS_MAX, trio.current_time)
        self._complained: Buckets[PeerId] = Buckets(1, 1 / COMPLAINT_INTERVAL_S, PEERS_MAX, trio.current_time)
        self._fetching: defaultdict[Digest, trio.Lock] = defaultdict(trio.Lock)
        host.serve(BLOB_PROTOCOL, self._on_stream)

    async def push(self, digest: Digest, peer: PeerId, deadline_s: float) -> None:
        """Has ``peer`` keep a content that is here. Raises NotFound, DigestMismatch, MeshUnavailable, DeadlineExceeded."""
        file, size_bytes = self._store.open(digest)
        try:
            with file, trio.fail_after(deadline_s):
                async with self._pool.borrow(peer) as wire:
                    status = await _offer(wire, digest, file, size_bytes)
        except trio.TooSlowError as error:
            raise DeadlineExceeded(f"blob {digest.hex()} to {peer_id_text(peer)}: not kept within {deadline_s} s") from error
        if status == "mismatch":
            raise DigestMismatch(f"blob {digest.hex()}: {peer_id_text(peer)} found other bytes", hint="the file here was changed")
        if status == "full":
            raise MeshUnavailable(
                f"blob {digest.hex()}: {peer_id_text(peer)} keeps no more contents for this node",
                hint="its log says whether its disk or this node's share of it is full",
            )
        if status != "ok":
            raise MeshUnavailable(f"blob {digest.hex()}: {peer_id_text(peer)} could not keep it")

    async def fetch(self, digest: Digest, sources: Sequence[PeerId], deadline_s: float) -> None:
        """Keeps the content here, from those of ``sources`` that have it. Raises as :func:`fetch` does, DeadlineExceeded."""
        try:
            with trio.fail_after(deadline_s):
                async with self._fetching[digest]:
                    if not self._store.has(digest):
                        await fetch(self._store, self._pool.borrow, digest, sources)
        except trio.TooSlowError as error:
            raise DeadlineExceeded(f"blob {digest.hex()}: not fetched within {deadline_s} s") from error
        finally:
            if not self._fetching[digest].statistics().tasks_waiting:
                del self._fetching[digest]

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
        await wire.started()
        with trio.move_on_after(FRAME_TIMEOUT_S) as reading:
            data = await wire.read_frame(HEAD_MAX_BYTES)
        if reading.cancelled_caught:
            raise DeadlineExceeded("a peer dribbles")
        try:
            get = decode(data, BlobGet)
        except WireInvalid:
            await self._keep(wire, decode(data, BlobPut))
        else:
            await self._give(wire, get)

    async def _give(self, wire: Wire, get: BlobGet) -> None:
        try:
            file, size_bytes = self._store.open(Digest(get.digest))
        except NotFound:
            await wire.write(BlobReply(status="missing"))
            return
        with file:
            file.seek(get.offset)
            await wire.write(BlobReply(status="ok", size_bytes=size_bytes))
            await _send(wire, file, max(0, min(get.size_bytes, size_bytes - get.offset)))

    async def _keep(self, wire: Wire, put: BlobPut) -> None:
        digest = Digest(put.digest)
        if not self._admit(wire.peer, digest, put.size_bytes):
            if put.size_bytes <= INLINE_MAX_BYTES:
                with pace_guard(put.size_bytes):
                    await wire.read_exactly(put.size_bytes)
            await wire.write(BlobReply(status="full"))
            return
        kept = False
        try:
            await trio.sleep(self._pushed.spend(wire.peer, put.size_bytes))
            if put.size_bytes > INLINE_MAX_BYTES:
                await wire.write(BlobReply(status="send"))
            with pace_guard(put.size_bytes), self._store.receive(digest) as receiving:
                await _receive(wire, receiving, put.size_bytes)
            kept = True
        except DigestMismatch:
            await wire.write(BlobReply(status="mismatch"))
        finally:
            self._quota.settle(wire.peer, digest, kept)
        if kept:
            await wire.write(BlobReply(status="ok"))

    def _admit(self, peer: PeerId, digest: Digest, size_bytes: int) -> bool:
        try:
            self._quota.reserve(peer, digest, size_bytes)
        except LimitExceeded as error:
            if self._complained.take(peer):
                logger.warning("contents of %s are not kept here any more: %s", peer_id_text(peer), error.message)
            return False
        return True


async def _offer(wire: Wire, digest: Digest, file: IO[bytes], size_bytes: int) -> str:
    """What became of it, as BlobReply says."""
    await wire.write(BlobPut(digest=digest, size_bytes=size_bytes))
    if size_bytes > INLINE_MAX_BYTES:
        reply = await wire.read_head(BlobReply)
        if reply.status != "send":
            return reply.status
    await _send(wire, file, size_bytes)
    return (await wire.read_head(BlobReply)).status


async def _send(wire: Wire, file: IO[bytes], size_bytes: int) -> None:
    left = size_bytes
    while left and (chunk := file.read(min(left, CHUNK_BYTES))):
        with stall_guard():
            await wire.write_bytes(chunk)
        left -= len(chunk)
    if left:
        raise MeshUnavailable("a blob's file became shorter while it was sent")


async def _receive(wire: Wire, receiving: Receiving, size_bytes: int) -> None:
    """Reads all of it, right or wrong, so that a mismatch can be answered on the same stream."""
    left = size_bytes
    while left:
        with stall_guard():
            chunk = await wire.read_up_to(min(left, CHUNK_BYTES))
        receiving.write(chunk)
        left -= len(chunk)
    await trio.to_thread.run_sync(receiving.sync)

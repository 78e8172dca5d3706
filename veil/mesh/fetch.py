"""One blob from several peers at once, in pieces, written in order and hashed as it grows.

Each source has its next piece asked for before the last has come, so that one alone fills the line; pieces that a source did
not give go to another. A peer can lie about a piece, and only the whole content's hash tells: then everything is thrown away
and each source asked alone, until one's whole content is right. What is written stays when the fetch is interrupted.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import trio

from veil.errors import DigestMismatch, LimitExceeded, MeshUnavailable, NotFound, VeilError
from veil.identity import peer_id_text
from veil.mesh.blobs import BlobStore, Receiving
from veil.mesh.messages import PIECE_MAX_BYTES, BlobGet, BlobReply
from veil.mesh.pace import stall_guard
from veil.mesh.wire import Wire
from veil.types import Digest, PeerId

SOURCES_AT_ONCE = 4

AHEAD_MAX = 16
"""Pieces that may be in memory, waiting for one before them."""

HEDGE_S = 1.0
"""A piece that holds the others up for so long is asked for from another source as well."""

Borrow = Callable[[PeerId], AbstractAsyncContextManager[Wire]]


async def fetch(store: BlobStore, borrow: Borrow, digest: Digest, sources: Sequence[PeerId]) -> None:
    """Keeps the content here.

    Raises DigestMismatch if some gave other bytes and none the right ones, NotFound if no source gave all of it.
    """
    together = _Attempt(borrow, digest, sources)
    try:
        await together.run(store)
        return
    except DigestMismatch as error:
        wrong = error
    for peer in together.gave if len(together.gave) > 1 or together.resumed else ():
        try:
            await _Attempt(borrow, digest, [peer]).run(store)
            return
        except (DigestMismatch, NotFound):
            continue
    others = [peer for peer in sources if peer not in together.gave]
    if not others:
        raise wrong
    try:
        await fetch(store, borrow, digest, others)
    except NotFound:
        raise wrong from None


class _NotNeeded(MeshUnavailable):
    """The content was whole before this source's piece came; its stream is of no more use."""

    def __init__(self) -> None:
        super().__init__("was not needed any more")


class _Attempt:
    """One content, from some sources, to its end or theirs."""

    def __init__(self, borrow: Borrow, digest: Digest, sources: Sequence[PeerId]) -> None:
        self.gave: list[PeerId] = []
        """Who gave pieces that were written."""
        self.resumed = False
        self._borrow = borrow
        self._digest = digest
        self._sources = deque(sources)
        self._failures: list[str] = []
        self._size_bytes: int | None = None
        self._offset = 0
        """Everything before it is written."""
        self._asked = 0
        """Everything from here on was never asked for."""
        self._returned: list[int] = []
        """Pieces asked for and not given."""
        self._early: dict[int, bytes] = {}
        self._taking: set[trio.CancelScope] = set()
        self._fatal: OSError | LimitExceeded | None = None
        self._writing = trio.Lock()
        self._moved = trio.Event()

    async def run(self, store: BlobStore) -> None:
        """Raises DigestMismatch, NotFound, LimitExceeded, OSError."""
        with store.resume(self._digest) as receiving:
            await trio.to_thread.run_sync(receiving.catch_up)
            self._offset = self._asked = receiving.size_bytes
            self.resumed = receiving.size_bytes > 0
            async with trio.open_nursery() as nursery:
                for _ in range(min(SOURCES_AT_ONCE, len(self._sources))):
                    nursery.start_soon(self._work, receiving)
            if self._fatal is not None:
                raise self._fatal
            if not self._is_whole():
                names = "; ".join(self._failures) or "no source"
                raise NotFound(f"blob {self._digest.hex()}: no source gave all of it: {names}")
            await trio.to_thread.run_sync(receiving.sync)

    def _is_over(self) -> bool:
        return self._is_whole() or self._fatal is not None

    def _is_whole(self) -> bool:
        return self._size_bytes is not None and self._offset >= self._size_bytes

    async def _work(self, receiving: Receiving) -> None:
        """Takes one source after the other until the content is whole or there is none left."""
        while self._sources and not self._is_over():
            peer = self._sources.popleft()
            asked: deque[int] = deque()
            try:
                async with self._borrow(peer) as wire:
                    await self._draw(wire, asked, receiving)
            except (OSError, LimitExceeded) as error:
                self._fatal = error
            except VeilError as error:
                self._failures.append(f"{peer_id_text(peer)}: {error}")
            finally:
                for offset in asked:
                    heapq.heappush(self._returned, offset)
                self._move()

    async def _draw(self, wire: Wire, asked: deque[int], receiving: Receiving) -> None:
        """All that ``wire`` can give, one piece asked for ahead. ``asked`` has what was asked for and not received."""
        while not self._is_over():
            while len(asked) < 2 and (offset := self._next()) is not None:
                asked.append(offset)
                with stall_guard():
                    await wire.write(BlobGet(digest=self._digest, offset=offset, size_bytes=PIECE_MAX_BYTES))
            if asked:
                piece = await self._take(wire, asked[0])
                await self._keep(asked.popleft(), piece, receiving)
            else:
                await self._wait()
        if asked:
            raise _NotNeeded

    async def _wait(self) -> None:
        """For news; a piece that holds up the others for too long is asked for once more."""
        before = self._offset
        with trio.move_on_after(HEDGE_S) as waiting:
            await self._moved.wait()
        if waiting.cancelled_caught and self._offset == before and before not in self._returned:
            heapq.heappush(self._returned, before)

    def _next(self) -> int | None:
        """The piece to ask for now, if any. How many there are is known from the first answer."""
        while self._returned:
            offset = heapq.heappop(self._returned)
            if offset >= self._offset and offset not in self._early:
                return offset
        if self._size_bytes is None:
            limit = self._offset + 1
        else:
            limit = min(self._size_bytes, self._offset + AHEAD_MAX * PIECE_MAX_BYTES)
        if self._asked >= limit:
            return None
        offset, self._asked = self._asked, self._asked + PIECE_MAX_BYTES
        return offset

    async def _take(self, wire: Wire, offset: int) -> bytes:
        with trio.CancelScope() as scope:
            self._taking.add(scope)
            try:
                return await self._read(wire, offset)
            finally:
                self._taking.discard(scope)
        raise _NotNeeded

    async def _read(self, wire: Wire, offset: int) -> bytes:
        with stall_guard():
            reply = await wire.read_head(BlobReply)
        if reply.status != "ok":
            raise NotFound("does not have it")
        if self._size_bytes is None:
            self._size_bytes = reply.size_bytes
            self._move()
        elif reply.size_bytes != self._size_bytes:
            raise MeshUnavailable(f"has {reply.size_bytes} bytes where another source has {self._size_bytes}")
        with stall_guard():
            piece = await wire.read_exactly(max(0, min(PIECE_MAX_BYTES, self._size_bytes - offset)))
        if wire.peer not in self.gave:
            self.gave.append(wire.peer)
        return piece

    async def _keep(self, offset: int, piece: bytes, receiving: Receiving) -> None:
        """Writes what has become contiguous; in a thread, because hashing 1 MiB takes longer than a ping may."""
        if offset >= self._offset:
            self._early[offset] = piece
        async with self._writing:
            while ready := self._early.pop(self._offset, b""):
                await trio.to_thread.run_sync(receiving.write, ready)
                self._offset += len(ready)
        if self._is_whole():
            for scope in self._taking:
                scope.cancel()
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

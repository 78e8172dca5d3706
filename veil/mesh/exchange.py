"""Requests and replies between meshds. Payloads are sealed by the nodes above: here they are only sizes.

A request either is answered in time or fails; it is never sent twice, because only its author knows whether that is safe.
What a peer makes this node hold and take in has bounds that no well-behaved peer meets: a stream beyond them is reset.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from veil.config import MeshLimits
from veil.errors import DeadlineExceeded, MeshUnavailable, WireInvalid
from veil.identity import peer_id_text
from veil.mesh.budget import Buckets
from veil.mesh.host import Host
from veil.mesh.messages import REQUEST_PROTOCOL, SEALED_MAX_BYTES, ReplyHead, RequestHead
from veil.mesh.pool import STREAMS_PER_PEER_MAX, Pool
from veil.mesh.wire import Wire
from veil.types import PeerId

FRAME_TIMEOUT_S = 30.0
"""From the first byte of a request, its head's included, to its last: a peer that dribbles is cut off."""

DEADLINE_MAX_S = 600.0
"""A request is served no longer than this, whatever it asks for."""

STREAMS_SERVED_MAX = 32
"""Streams of one peer that are served at a time: twice what a well-behaved peer opens."""

HELD_MAX_BYTES = STREAMS_PER_PEER_MAX * SEALED_MAX_BYTES
"""Requests of one peer that are being read or answered, by the sizes they announce: all that a pool of streams can carry."""

RECEIVED_BURST_BYTES = 2 * HELD_MAX_BYTES

PEERS_MAX = 4096


class Answer(NamedTuple):
    head: ReplyHead
    sealed: bytes


Serve = Callable[[PeerId, RequestHead, bytes], Awaitable[Answer]]


class Exchange:
    """Both sides of the request protocol."""

    def __init__(self, host: Host, pool: Pool, serve: Serve, limits: MeshLimits) -> None:
        self._pool = pool
        self._serve = serve
        self._served: Counter[PeerId] = Counter()
        self._held: Counter[PeerId] = Counter()
        per_s = limits.request_mib_per_s * 1024**2
        self._received: Buckets[PeerId] = Buckets(RECEIVED_BURST_BYTES, per_s, PEERS_MAX, trio.current_time)
        host.serve(REQUEST_PROTOCOL, self._on_stream)

    async def ask(self, peer: PeerId, protocol: str, sealed: bytes, deadline_s: float) -> Answer:
        """One request, one answer. Raises MeshUnavailable, DeadlineExceeded, WireInvalid."""
        head = RequestHead(protocol=protocol, size_bytes=len(sealed), deadline_ms=int(deadline_s * 1000))
        try:
            with trio.fail_after(deadline_s):
                async with self._pool.borrow(peer) as wire:
                    await wire.write(head, sealed)
                    reply = await wire.read_head(ReplyHead)
                    return Answer(reply, await wire.read_exactly(reply.size_bytes))
        except trio.TooSlowError as error:
            raise DeadlineExceeded(f"{peer_id_text(peer)}, {protocol}: no answer within {deadline_s} s") from error

    async def _on_stream(self, wire: Wire) -> None:
        if self._served[wire.peer] >= STREAMS_SERVED_MAX:
            await wire.reset()
            return
        self._served[wire.peer] += 1
        try:
            while await self._serve_one(wire):
                pass
        except (MeshUnavailable, WireInvalid):
            pass  # the peer went away or talks nonsense: either way the stream is over
        finally:
            self._served[wire.peer] -= 1
            await wire.reset()

    async def _serve_one(self, wire: Wire) -> bool:
        """Whether the stream can be used again."""
        await wire.started()
        went_well = False
        with trio.move_on_after(FRAME_TIMEOUT_S) as reading:
            head = await wire.read_head(RequestHead)
            if self._held[wire.peer] + head.size_bytes <= HELD_MAX_BYTES:
                self._held[wire.peer] += head.size_bytes
                try:
                    went_well = await self._answer(wire, head, reading)
                finally:
                    self._held[wire.peer] -= head.size_bytes
        return went_well

    async def _answer(self, wire: Wire, head: RequestHead, reading: trio.CancelScope) -> bool:
        await trio.sleep(self._received.spend(wire.peer, head.size_bytes))
        sealed = await wire.read_exactly(head.size_bytes)
        reading.deadline = float("inf")
        answer = Answer(ReplyHead(status="failed"), b"")
        with trio.move_on_after(min(DEADLINE_MAX_S, head.deadline_ms / 1000)):
            answer = await self._serve(wire.peer, head, sealed)
        with trio.move_on_after(FRAME_TIMEOUT_S) as writing:
            await wire.write(answer.head, answer.sealed)
        return not writing.cancelled_caught

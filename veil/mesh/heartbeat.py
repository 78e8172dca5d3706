"""Drives the SWIM machine over libp2p: gives it frames and time, carries out what it answers.

Frames travel on one long-lived stream between two peers, in both directions, whoever opened it. There is no waiting for a slow
peer and no dialling here: what cannot be sent at once is lost, which SWIM is made for.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable

import trio

from veil.errors import DeadlineExceeded, MeshUnavailable, WireInvalid
from veil.mesh.budget import Buckets
from veil.mesh.claims import Signatory
from veil.mesh.framing import FRAME_MAX_BYTES
from veil.mesh.host import Host
from veil.mesh.messages import SWIM_PROTOCOL, Frame
from veil.mesh.ports import Member
from veil.mesh.preset import Preset
from veil.mesh.swim import Change, Effect, Swim
from veil.mesh.wire import Wire
from veil.types import Clock, PeerId
from veil.wire.codec import decode

logger = logging.getLogger(__name__)

OUTBOX_MAX = 64
"""Frames waiting for one peer; a peer that does not read loses the rest."""

WRITE_TIMEOUT_S = 20.0
"""For one frame, and for opening the stream if there is none."""

FRAME_TIMEOUT_S = 30.0
"""From the first byte of a frame to its last."""

COURTESY_S = 0.5
"""How long the larger ID waits for the smaller to open the stream, who has the first word on a new connection."""

STREAMS_SERVED_MAX = 4
"""Of one peer: it needs one, and for a moment another when the first breaks."""

RECEIVED_BURST_BYTES = 4 * FRAME_MAX_BYTES
RECEIVED_BYTES_PER_S = 1024 * 1024
"""SWIM frames of one peer; one of 1,000 members sends a few a second. Beyond it the peer is read more slowly."""

FRAME_COST_BYTES = 4096
"""A smaller frame counts for so much, because its handling costs more than its bytes: 256 frames a second."""

PEERS_MAX = 4096

LEAVE_S = 0.3
"""How long the farewell has to get out."""


class Heartbeat:
    """One node's membership."""

    def __init__(
        self,
        host: Host,
        *,
        preset: Preset,
        signatory: Signatory,
        rng: random.Random,
        clock: Clock,
        on_change: Callable[[Member], None],
    ) -> None:
        self._host = host
        self._me = signatory.peer_id
        self._on_change = on_change
        # Unix time that never goes back, also when somebody sets the machine's clock.
        self._clock = clock
        self._offset_s = clock.now_s() - clock.monotonic_s()
        self.swim = Swim(preset=preset, signatory=signatory, rng=rng, now_s=self.now_s())
        self._outboxes: dict[PeerId, trio.MemorySendChannel[Frame]] = {}
        self._wires: dict[PeerId, Wire] = {}
        """On which frames go out; what comes on others is read as well."""
        self._came: dict[PeerId, trio.Event] = {}
        self._served: Counter[PeerId] = Counter()
        self._received: Buckets[PeerId] = Buckets(RECEIVED_BURST_BYTES, RECEIVED_BYTES_PER_S, PEERS_MAX, trio.current_time)
        self._earlier = trio.Event()
        self._nursery: trio.Nursery | None = None
        host.serve(SWIM_PROTOCOL, self._on_stream)

    def now_s(self) -> float:
        return self._clock.monotonic_s() + self._offset_s

    async def run(self) -> None:
        """Ticks until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for member in self.swim.members():
                self._on_change(member)
            while True:
                self._earlier = trio.Event()
                wake_s = self.swim.wake_s()
                with trio.move_on_after(max(0.0, (wake_s or self.now_s()) - self.now_s())):
                    await self._earlier.wait()
                self._carry(self.swim.tick(self.now_s()))

    def carry_out(self, effects: list[Effect]) -> None:
        """Sends the frames, tells the changes; the next tick may be due earlier than before."""
        self._carry(effects)
        self._earlier.set()

    def _carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Change):
                self._on_change(effect.member)
            else:
                self._post(effect.peer, effect.frame)

    def allow(self, peers: set[PeerId]) -> None:
        for peer in [peer for peer in self._outboxes if peer not in peers]:
            self._outboxes.pop(peer).close()
        self.carry_out(self.swim.allow(peers, self.now_s()))

    def connection(self, peer: PeerId, connected: bool) -> None:
        """A connection was made or ended."""
        if connected:
            self.carry_out(self.swim.connected(peer, self.now_s()))
        else:
            self.carry_out(self.swim.disconnected(peer, self.now_s()))

    def unreachable(self, peer: PeerId) -> None:
        """It was tried, in vain, to connect to ``peer``."""
        self.swim.unreachable(peer)

    async def leave(self) -> None:
        """Says farewell."""
        self.carry_out(self.swim.leave(self.now_s()))
        await trio.sleep(LEAVE_S)

    def _post(self, peer: PeerId, frame: Frame) -> None:
        if self._nursery is None or not self._host.connected(peer):
            return
        if peer not in self._outboxes:
            self._outboxes[peer], frames = trio.open_memory_channel[Frame](OUTBOX_MAX)
            self._nursery.start_soon(self._send_all, peer, frames)
        try:
            self._outboxes[peer].send_nowait(frame)
        except trio.WouldBlock:
            logger.debug("a peer does not read its SWIM frames; one was dropped")

    async def _send_all(self, peer: PeerId, frames: "trio.MemoryReceiveChannel[Frame]") -> None:
        async for frame in frames:
            try:
                with trio.fail_after(WRITE_TIMEOUT_S):
                    await (self._wires.get(peer) or await self._open(peer)).write(frame)
            except (MeshUnavailable, DeadlineExceeded, trio.TooSlowError):
                await self._drop(peer)
        await self._drop(peer)

    async def _open(self, peer: PeerId) -> Wire:
        if self._me > peer:
            with trio.move_on_after(COURTESY_S):
                await self._came.setdefault(peer, trio.Event()).wait()
            self._came.pop(peer, None)
            if peer in self._wires:
                return self._wires[peer]
        wire = await self._host.open(peer, SWIM_PROTOCOL)
        assert self._nursery is not None
        self._nursery.start_soon(self._read_all, wire)
        return self._wires.setdefault(peer, wire)

    async def _drop(self, peer: PeerId) -> None:
        wire = self._wires.pop(peer, None)
        if wire is not None:
            await wire.reset()

    async def _on_stream(self, wire: Wire) -> None:
        if self._served[wire.peer] >= STREAMS_SERVED_MAX:
            await wire.reset()
            return
        self._served[wire.peer] += 1
        try:
            self._wires.setdefault(wire.peer, wire)
            self._came.pop(wire.peer, trio.Event()).set()
            await self._read_all(wire)
        finally:
            self._served[wire.peer] -= 1

    async def _read_all(self, wire: Wire) -> None:
        try:
            while True:
                await wire.started()
                with trio.fail_after(FRAME_TIMEOUT_S):
                    data = await wire.read_frame(FRAME_MAX_BYTES)
                self.carry_out(self.swim.receive(wire.peer, decode(data, Frame), self.now_s()))
                await trio.sleep(self._received.spend(wire.peer, max(FRAME_COST_BYTES, len(data))))
        except (MeshUnavailable, WireInvalid, trio.TooSlowError):
            pass  # the peer went away, talks nonsense or dribbles
        finally:
            if self._wires.get(wire.peer) is wire:
                del self._wires[wire.peer]
            await wire.reset()

"""Thousands of SWIM machines in one process and virtual time; the same seed gives the same run.

The machines are those of the product (:class:`veil.mesh.swim.Swim`); what is simulated is the network between them and the
clock. Frames arrive after 1 to 5 ms, or are lost. A member that is killed is noticed by its peers' kernels (its connections
end), one that falls silent is not. Signatures are left out unless asked for: they change what a claim costs, not when it comes.
"""

import heapq
import random
from collections.abc import Callable
from functools import lru_cache

from veil.mesh.claims import Signatory
from veil.mesh.messages import Claim, Frame
from veil.mesh.ports import PeerState
from veil.mesh.preset import LAN, Preset
from veil.mesh.swim import Change, Effect, Send, Swim
from veil.types import PeerId
from veil.wire.codec import decode, encode
from veil.wire.signed import Signed

EPOCH_S = 1_700_000_000.0

LATENCY_S = (0.001, 0.005)

CLAIMS_REMEMBERED = 65_536
"""Decoded claims: the same few go from member to member."""


@lru_cache(maxsize=CLAIMS_REMEMBERED)
def _read(body: bytes) -> Claim:
    return decode(body, Claim)


class Trusting:
    """A signatory that nobody needs to check."""

    def __init__(self, number: int) -> None:
        self.peer_id = PeerId(number.to_bytes(32, "big"))

    def sign(self, claim: Claim) -> Signed:
        return Signed(signer=self.peer_id, body=encode(claim), signature=bytes(64))

    def read(self, signed: Signed) -> Claim:
        return _read(signed.body)

    def check(self, signed: Signed) -> None:
        return


class Network:
    """``count`` members that know each other; with ``settled``, they have all met already, which saves count² frames."""

    def __init__(
        self,
        count: int,
        *,
        seed: int = 1,
        loss: float = 0.0,
        preset: Preset = LAN,
        settled: bool = False,
        signatory: Callable[[int], Signatory] = Trusting,
    ) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.preset = preset
        self.now_s = EPOCH_S
        self.down: set[PeerId] = set()
        """Neither send nor receive nor tick."""
        self.changes: list[tuple[float, PeerId, PeerId, PeerState]] = []
        """When, at whom, of whom, what."""
        self.sent = 0
        self.signatories = [signatory(number) for number in range(1, count + 1)]
        self.peers = [one.peer_id for one in self.signatories]
        self.swims: dict[PeerId, Swim] = {}
        self._queue: list[tuple[float, int, PeerId, PeerId, Frame]] = []
        self._wakes: list[tuple[float, int, PeerId]] = []
        self._planned: dict[PeerId, float] = {}
        self._order = 0
        for one in self.signatories:
            self.boot(one, meet=not settled)
        if settled:
            self._introduce()

    def boot(self, one: Signatory, *, meet: bool = True) -> Swim:
        """Starts (again) one member; it meets everybody who is up, as its host connects to them."""
        rng = random.Random(self.rng.random())
        swim = Swim(preset=self.preset, signatory=one, rng=rng, now_s=self.now_s)
        self.swims[one.peer_id] = swim
        self.down.discard(one.peer_id)
        self.carry_out(one.peer_id, swim.allow(self.peers, self.now_s))
        for other in self.swims if meet else ():
            if other != one.peer_id and other not in self.down:
                self.carry_out(one.peer_id, swim.connected(other, self.now_s))
                self.carry_out(other, self.swims[other].connected(one.peer_id, self.now_s))
        return swim

    def _introduce(self) -> None:
        owns = {}
        for one in self.signatories:
            own = self.swims[one.peer_id].members()[0]
            claim = Claim(kind="alive", peer=one.peer_id, incarnation=own.incarnation)
            owns[one.peer_id] = (claim, one.sign(claim))
        for swim in self.swims.values():
            swim.awareness.add(-swim.awareness.score)
            for entry in swim.roster:
                entry.renew(*owns[entry.peer])
                entry.link = "up"

    def kill(self, peer: PeerId) -> None:
        """As ``kill -9``: the kernel ends its connections, and the others see it."""
        self.down.add(peer)
        for other in self.peers:
            if other not in self.down:
                self.carry_out(other, self.swims[other].disconnected(peer, self.now_s))

    def carry_out(self, peer: PeerId, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Change):
                self.changes.append((self.now_s, peer, effect.member.peer, effect.member.state))
            else:
                self._send(peer, effect)
        self._plan(peer)

    def run(self, duration_s: float, until: Callable[[], bool] | None = None) -> bool:
        """For so long, or until ``until`` holds, which is looked at after each change; whether it does."""
        end_s = self.now_s + duration_s
        seen = len(self.changes)
        while True:
            arrival_s = self._queue[0][0] if self._queue else end_s
            wake_s = self._wakes[0][0] if self._wakes else end_s
            if min(arrival_s, wake_s) >= end_s:
                self.now_s = end_s
                return until is not None and until()
            if arrival_s <= wake_s:
                self._deliver()
            else:
                self._wake()
            if until is not None and len(self.changes) != seen:
                seen = len(self.changes)
                if until():
                    return True

    def seen(self, observer: PeerId, subject: PeerId) -> PeerState:
        entry = self.swims[observer].roster.get(subject)
        assert entry is not None
        return entry.state

    def states(self, subject: PeerId) -> set[PeerState]:
        """How everybody else who is up sees ``subject``."""
        return {self.seen(peer, subject) for peer in self.swims if peer != subject and peer not in self.down}

    def deaths(self) -> list[tuple[float, PeerId, PeerId]]:
        return [(at, by, of) for at, by, of, state in self.changes if state is PeerState.DEAD]

    def _send(self, sender: PeerId, effect: Send) -> None:
        self.sent += 1
        entry = self.swims[sender].roster.get(effect.peer)
        if entry is None or entry.link != "up":
            return  # there is no connection: the product's driver drops it too
        if sender in self.down or self.rng.random() < self.loss:
            return
        self._order += 1
        arrival_s = self.now_s + self.rng.uniform(*LATENCY_S)
        heapq.heappush(self._queue, (arrival_s, self._order, sender, effect.peer, effect.frame))

    def _deliver(self) -> None:
        self.now_s, _, sender, receiver, frame = heapq.heappop(self._queue)
        if receiver not in self.down:
            self.carry_out(receiver, self.swims[receiver].receive(sender, frame, self.now_s))

    def _wake(self) -> None:
        at_s, _, peer = heapq.heappop(self._wakes)
        if self._planned.get(peer) != at_s:
            return
        del self._planned[peer]
        if peer in self.down:
            self._order += 1
            # Asked again when it may be back: a machine that stood still finds out how late it is.
            self._planned[peer] = max(at_s, self.now_s) + self.preset.gossip_interval_s
            heapq.heappush(self._wakes, (self._planned[peer], self._order, peer))
            return
        self.now_s = max(self.now_s, at_s)
        self.carry_out(peer, self.swims[peer].tick(self.now_s))

    def _plan(self, peer: PeerId) -> None:
        wake_s = self.swims[peer].wake_s()
        if wake_s is None or self._planned.get(peer, float("inf")) <= wake_s:
            return
        self._planned[peer] = wake_s
        self._order += 1
        heapq.heappush(self._wakes, (wake_s, self._order, peer))

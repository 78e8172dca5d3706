"""A simulated network of SWIM machines in virtual time, replayable from its seed."""

import heapq
import random
from collections.abc import Callable

import pytest

from veil.identity import Identity
from veil.mesh.claims import KeySignatory
from veil.mesh.messages import Frame
from veil.mesh.ports import PeerState
from veil.mesh.preset import LAN, Preset
from veil.mesh.swim import Change, Effect, Send, Swim
from veil.types import ClusterId, PeerId, Secret

CLUSTER = ClusterId(b"c" * 32)
EPOCH_S = 1_700_000_000.0


def identity(number: int) -> Identity:
    return Identity(Secret(number.to_bytes(32, "big")))


class Simulation:
    """Frames arrive after 1 to 5 ms, or are lost with probability ``loss``."""

    def __init__(self, count: int, *, seed: int = 1, loss: float = 0.0, preset: Preset = LAN) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.preset = preset
        self.now_s = EPOCH_S
        self.down: set[PeerId] = set()
        self.changes: list[tuple[float, PeerId, PeerId, PeerState]] = []
        self.sent = 0
        self._queue: list[tuple[float, int, PeerId, Callable[[], list[Effect]]]] = []
        self._order = 0
        self.identities = [identity(number) for number in range(1, count + 1)]
        self.peers = [one.peer_id for one in self.identities]
        self.swims: dict[PeerId, Swim] = {}
        for one in self.identities:
            self.boot(one)

    def boot(self, one: Identity) -> Swim:
        """Starts (again) one member; it meets everybody who is up, as its host connects to them."""
        swim = Swim(
            preset=self.preset,
            signatory=KeySignatory(one, CLUSTER),
            rng=random.Random(self.rng.random()),
            now_s=self.now_s,
        )
        self.swims[one.peer_id] = swim
        self.down.discard(one.peer_id)
        self.carry_out(one.peer_id, swim.allow(self.peers, self.now_s))
        for other in self.swims:
            if other != one.peer_id and other not in self.down:
                self.carry_out(one.peer_id, swim.connected(other, self.now_s))
        return swim

    def carry_out(self, peer: PeerId, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Change):
                self.changes.append((self.now_s, peer, effect.member.peer, effect.member.state))
            else:
                self.send(peer, effect)

    def send(self, sender: PeerId, effect: Send) -> None:
        self.sent += 1
        if sender in self.down or self.rng.random() < self.loss:
            return
        self._order += 1

        def arrive(frame: Frame = effect.frame) -> list[Effect]:
            return self.swims[effect.peer].receive(sender, frame, self.now_s)

        heapq.heappush(self._queue, (self.now_s + self.rng.uniform(0.001, 0.005), self._order, effect.peer, arrive))

    def run(self, duration_s: float) -> None:
        end_s = self.now_s + duration_s
        while True:
            wakes = [(swim.wake_s() or end_s, peer) for peer, swim in self.swims.items() if peer not in self.down]
            wake_s, waker = min(wakes)
            arrival_s = self._queue[0][0] if self._queue else end_s
            if min(wake_s, arrival_s) >= end_s:
                self.now_s = end_s
                return
            if arrival_s <= wake_s:
                self.now_s, _, peer, arrive = heapq.heappop(self._queue)
                if peer not in self.down:
                    self.carry_out(peer, arrive())
            else:
                self.now_s = max(self.now_s, wake_s)
                self.carry_out(waker, self.swims[waker].tick(self.now_s))

    def seen(self, observer: PeerId, subject: PeerId) -> PeerState:
        return next(member.state for member in self.swims[observer].members() if member.peer == subject)

    def states(self, subject: PeerId) -> set[PeerState]:
        """How everybody else who is up sees ``subject``."""
        return {self.seen(peer, subject) for peer in self.swims if peer != subject and peer not in self.down}

    def deaths(self) -> list[tuple[float, PeerId, PeerId]]:
        return [(at, by, of) for at, by, of, state in self.changes if state is PeerState.DEAD]


@pytest.fixture
def simulate() -> Callable[..., Simulation]:
    return Simulation

"""A connection to every registered peer, kept up: to a few at once, through whom this node hears of all, to the rest in time.

A connection is 25 ms of CPU, both ends together, and a hundred nodes that start at the same time have 4,950 to make. Made as fast
as they can be, pings come too late, and everybody suspects everybody.

Of two peers the one with the smaller ID dials at once and the other a moment later, if it still has to: so there is one
connection, not two. A peer that cannot be reached is tried again with growing, jittered pauses for as long as it is
registered.
"""

import random
from collections.abc import Callable, Mapping, Sequence

import trio

from veil.errors import MeshUnavailable
from veil.identity import peer_id_text
from veil.mesh.host import Host
from veil.types import PeerId

COURTESY_S = 0.5
COURTESY_PER_PEER_S = 0.05
"""How long the larger ID waits for the smaller to dial, who may have all others to dial as well."""

RETRY_MIN_S = 0.2
RETRY_MAX_S = 5.0

SETTLED_S = 2.0
"""A connection that ends sooner was refused by the other side, and counts as a failed dial."""

DIALS_AT_ONCE = 2
"""First meetings. When everybody dials everybody, more at once only take longer each, until all of them are over their time and
begin again."""

MENDED_AT_ONCE = 4
"""Connections that broke; those of peers that are gone without a word take DIAL_TIMEOUT_S each."""

FIRST = 2
"""So many connections are made without a pause: who joins is known to all through one."""

FEW = 8
FEW_SHARE = 10.0
"""Then after each dial a pause of so many dials: the busier the machines, the longer both. With eight each, a thousand
members are in one piece whoever ends, and more than k can accuse."""

PAUSE_S = 30.0
"""After each dial when there are so many: the others are met in time, two each PAUSE_S."""


class Links:
    """Dials; hears from the host when connections come and go."""

    def __init__(self, host: Host, me: PeerId, rng: random.Random) -> None:
        self._host = host
        self._me = me
        self._rng = rng
        self._addresses: dict[PeerId, tuple[str, ...]] = {}
        self._hints: dict[PeerId, tuple[str, ...]] = {}
        self._keepers: dict[PeerId, trio.CancelScope] = {}
        self._changed: dict[PeerId, trio.Event] = {}
        self._dialling: dict[PeerId, trio.Lock] = {}
        self.on_unreachable: Callable[[PeerId], None] = lambda peer: None
        """Called when a peer could not be reached."""
        self._mending = trio.CapacityLimiter(MENDED_AT_ONCE)
        self._turns = trio.CapacityLimiter(DIALS_AT_ONCE)

    def noticed(self, peer: PeerId) -> None:
        """The host saw a connection with ``peer`` come or go."""
        self._changed.pop(peer, trio.Event()).set()

    def set_peers(self, addresses: Mapping[PeerId, Sequence[str]], nursery: trio.Nursery) -> None:
        """Keep connections to exactly these; cut off the others."""
        gone = self._addresses.keys() - addresses.keys()
        before, self._addresses = self._addresses, {peer: tuple(texts) for peer, texts in addresses.items()}
        for peer in self._addresses.keys() & before.keys():
            if self._addresses[peer] != before[peer]:
                self.noticed(peer)  # ends the pause before the next dial
        for peer in gone:
            self._hints.pop(peer, None)
            self._keepers.pop(peer).cancel()
            nursery.start_soon(self._host.cut_off, peer)
        for peer in self._addresses.keys() - self._keepers.keys():
            self._keepers[peer] = trio.CancelScope()
            nursery.start_soon(self._keep, peer, self._keepers[peer])

    def hint(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Somebody says that ``peer`` is there: tried after its registered addresses, if it is registered."""
        if peer in self._addresses and self._hints.get(peer) != tuple(addresses):
            self._hints[peer] = tuple(addresses)
            self.noticed(peer)

    async def connect(self, peer: PeerId) -> None:
        """Returns once ``peer`` is connected; waits for nobody else's connection. Raises MeshUnavailable."""
        if self._host.connected(peer):
            return
        async with self._dialling.setdefault(peer, trio.Lock()):
            reasons = []
            for address in (*self._addresses.get(peer, ()), *self._hints.get(peer, ())):
                if self._host.connected(peer):
                    return
                try:
                    await self._host.dial(peer, address)
                    return
                except MeshUnavailable as error:
                    reasons.append(error.message)
            if self._host.connected(peer):
                return
        raise MeshUnavailable(
            f"{peer_id_text(peer)} cannot be reached: {'; '.join(reasons) or 'no known address'}",
            hint="is the peer running, and registered with this address?",
        )

    async def _keep(self, peer: PeerId, scope: trio.CancelScope) -> None:
        pause_s, met = RETRY_MIN_S, False
        with scope:
            if self._me > peer:
                await trio.sleep(COURTESY_S + COURTESY_PER_PEER_S * len(self._addresses))
            while True:
                try:
                    await (self._mend(peer) if met else self._meet(peer))
                    began_s = trio.current_time()
                    await self._until_disconnected(peer)
                    if trio.current_time() - began_s > SETTLED_S:
                        pause_s, met = RETRY_MIN_S, True
                except MeshUnavailable:
                    # The reason is given to whoever asks for the peer; here it is tried again.
                    self.on_unreachable(peer)
                with trio.move_on_after(pause_s * self._rng.uniform(0.5, 1.5)):
                    await self._until_changed(peer)
                pause_s = min(RETRY_MAX_S, pause_s * 2)

    async def _meet(self, peer: PeerId) -> None:
        """Makes a first connection, when it is its turn."""
        async with self._turns:
            if self._host.connected(peer):
                return
            began_s = trio.current_time()
            try:
                await self.connect(peer)
            finally:
                met = self._host.connections()
                if met > FIRST:
                    await trio.sleep(PAUSE_S if met > FEW else min(PAUSE_S, FEW_SHARE * (trio.current_time() - began_s)))

    async def _mend(self, peer: PeerId) -> None:
        """Makes a connection again, before others that were never made: its absence looks like a death."""
        async with self._mending:
            await self.connect(peer)

    async def _until_disconnected(self, peer: PeerId) -> None:
        while self._host.connected(peer):
            await self._until_changed(peer)

    async def _until_changed(self, peer: PeerId) -> None:
        await self._changed.setdefault(peer, trio.Event()).wait()

"""Streams to peers, kept open and used again: a new one costs two round trips, a new connection 30 ms and more.

A stream carries one exchange at a time. After one that went well it goes back to the pool; after anything else it is reset,
since nobody knows how far the other side read.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from veil.mesh.host import Host
from veil.mesh.links import Links
from veil.mesh.wire import Wire
from veil.types import PeerId

STREAMS_PER_PEER_MAX = 16
"""Exchanges of one protocol with one peer at a time; further ones wait, within their deadline."""


class Pool:
    """The streams of one protocol."""

    def __init__(self, host: Host, links: Links, protocol: str) -> None:
        self._host = host
        self._links = links
        self._protocol = protocol
        self._idle: defaultdict[PeerId, list[Wire]] = defaultdict(list)
        self._limits: defaultdict[PeerId, trio.CapacityLimiter] = defaultdict(lambda: trio.CapacityLimiter(STREAMS_PER_PEER_MAX))

    def forget(self, peer: PeerId) -> None:
        """The connection is gone, and its streams with it."""
        self._idle.pop(peer, None)

    @asynccontextmanager
    async def borrow(self, peer: PeerId) -> AsyncIterator[Wire]:
        """A stream to ``peer`` for one exchange, connecting first if need be. Raises MeshUnavailable."""
        async with self._limits[peer]:
            idle = self._idle[peer]
            if idle:
                wire = idle.pop()
            else:
                await self._links.connect(peer)
                wire = await self._host.open(peer, self._protocol)
            try:
                yield wire
            except BaseException:
                await wire.reset()
                raise
            if self._host.connected(peer):
                self._idle[peer].append(wire)

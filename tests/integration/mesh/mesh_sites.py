"""Nodes' ends of the mesh in one process and one trio loop: what meshd is made of, over real sockets, for one part at a time."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from veil.config import MeshLimits
from veil.identity import Identity
from veil.mesh.blobs import BlobStore
from veil.mesh.exchange import Answer, Exchange
from veil.mesh.host import Host
from veil.mesh.links import Links
from veil.mesh.messages import BLOB_PROTOCOL, REQUEST_PROTOCOL, ReplyHead, RequestHead
from veil.mesh.pool import Pool
from veil.mesh.quota import Quota
from veil.mesh.transfer import Transfer
from veil.types import PeerId

LISTEN = ["/ip4/127.0.0.1/tcp/0"]


class Site:
    """One node: it registers nobody until told to, answers requests with their own bytes, and keeps blobs."""

    def __init__(self, directory: Path, limits: MeshLimits) -> None:
        identity = Identity.generate()
        self.peer = identity.peer_id
        self.registered: set[PeerId] = set()
        self.host = Host(identity.seed, lambda peer: peer in self.registered, limits=limits)
        self.links = Links(self.host, self.peer, random.Random(1))
        self.host.on_connection = lambda peer, connected: self._on_connection(peer)
        self.store = BlobStore(directory)
        self.quota = Quota.within(self.store, limits)
        requests = Pool(self.host, self.links, REQUEST_PROTOCOL)
        blobs = Pool(self.host, self.links, BLOB_PROTOCOL)
        self._pools = (requests, blobs)
        self.exchange = Exchange(self.host, requests, self._serve, limits)
        self.transfer = Transfer(self.host, blobs, self.store, self.quota, limits)
        self.nursery: trio.Nursery | None = None

    def register(self, *others: "Site") -> None:
        """Exactly ``others`` are its peers, and it dials them."""
        assert self.nursery is not None
        self.registered = {other.peer for other in others}
        self.links.set_peers({other.peer: other.host.addresses() for other in others}, self.nursery)

    def _on_connection(self, peer: PeerId) -> None:
        for pool in self._pools:
            pool.forget(peer)
        self.links.noticed(peer)

    async def _serve(self, peer: PeerId, head: RequestHead, sealed: bytes) -> Answer:
        return Answer(ReplyHead(status="ok", size_bytes=len(sealed)), sealed)


@asynccontextmanager
async def sites(directory: Path, count: int, limits: MeshLimits | None = None) -> AsyncIterator[list[Site]]:
    """``count`` nodes that listen and do not know each other yet."""
    async with AsyncExitStack() as stack:
        all_sites = [Site(directory / str(number), limits or MeshLimits()) for number in range(count)]
        for site in all_sites:
            await stack.enter_async_context(site.host.run(LISTEN))
        async with trio.open_nursery() as nursery:
            for site in all_sites:
                site.nursery = nursery
            yield all_sites
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected_sites(directory: Path, count: int, limits: MeshLimits | None = None) -> AsyncIterator[list[Site]]:
    """``count`` nodes, each connected to every other."""
    async with sites(directory, count, limits) as all_sites:
        for site in all_sites:
            site.register(*(other for other in all_sites if other is not site))
        await until(lambda: all(a.host.connected(b.peer) for a in all_sites for b in all_sites if a is not b))
        yield all_sites


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    with trio.fail_after(timeout_s):
        while not condition():
            await trio.sleep(0.01)


def play(scenario: Callable[[], Awaitable[None]], timeout_s: float = 100.0) -> None:
    """Runs ``scenario`` to its end, or fails after ``timeout_s``."""

    async def main() -> None:
        with trio.fail_after(timeout_s):
            await scenario()

    trio.run(main)

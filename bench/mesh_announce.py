"""Telling all nodes something small, by libp2p's gossipsub and by requests: ``python -m bench.mesh_announce [--json]``.

Real hosts in one process and one full mesh over loopback, so that processor time is all there is to it. gossipsub is paced
and as cheap as it gets: a heartbeat each second, no adaptive gossip, no scoring, message ids by content.
"""

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import trio
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from veil.config import MeshLimits
from veil.identity import Identity
from veil.mesh.exchange import Answer, Exchange
from veil.mesh.host import Host
from veil.mesh.links import Links
from veil.mesh.messages import REQUEST_PROTOCOL, ReplyHead, RequestHead
from veil.mesh.pool import Pool
from veil.types import PeerId

TOPIC = "veil/announce"
BYTES = 256
"""Of one announcement: a round's name, a digest, a signature."""

QUIET_S, IDLE_S, PAUSE_S = 3.0, 10.0, 0.5
DELIVERY_S = 5.0


@dataclass(kw_only=True)
class Costs:
    """Processor milliseconds of all nodes together: each second of idling for one node, and for each node that was told."""

    nodes: int
    announcements: int
    idle_ms_per_s: float = 0.0
    requests_ms: float = 0.0
    requests_p50_ms: float = 0.0
    gossip_idle_ms_per_s: float = 0.0
    gossip_ms: float = 0.0
    gossip_p50_ms: float = 0.0
    gossip_arrived: float = 0.0
    """Of all deliveries that were due."""


class Node:
    """One host that answers requests."""

    def __init__(self, limits: MeshLimits) -> None:
        identity = Identity.generate()
        self.peer = identity.peer_id
        self.host = Host(identity.seed, lambda peer: True, limits=limits)
        self.links = Links(self.host, self.peer, random.Random(1))
        self.host.on_connection = lambda peer, connected: self.links.noticed(peer)
        self.exchange = Exchange(self.host, Pool(self.host, self.links, REQUEST_PROTOCOL), self._serve, limits)

    async def _serve(self, peer: PeerId, head: RequestHead, sealed: bytes) -> Answer:
        return Answer(ReplyHead(status="ok", size_bytes=0), b"")


@asynccontextmanager
async def meshed(count: int) -> AsyncIterator[tuple[list[Node], trio.Nursery, Callable[[], Awaitable[None]]]]:
    """Nodes that listen, a nursery for what works on them, and what connects them all."""
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        nodes = [Node(MeshLimits(handshake_burst=4096)) for _ in range(count)]
        for node in nodes:
            await stack.enter_async_context(node.host.run(["/ip4/127.0.0.1/tcp/0"]))

        async def connect() -> None:
            for node in nodes:
                node.links.set_peers({other.peer: other.host.addresses() for other in nodes if other is not node}, nursery)
            for node in nodes:
                for other in nodes:
                    if node is not other:
                        await node.links.connect(other.peer)
            while not all(a.host.connected(b.peer) for a in nodes for b in nodes if a is not b):  # noqa: ASYNC110
                await trio.sleep(0.1)
            await trio.sleep(QUIET_S)

        yield nodes, nursery, connect
        nursery.cancel_scope.cancel()


async def _idle() -> float:
    cpu_s = time.process_time()
    await trio.sleep(IDLE_S)
    return 1000 * (time.process_time() - cpu_s) / IDLE_S


async def _by_requests(costs: Costs, rng: random.Random) -> None:
    took_s: list[float] = []
    async with meshed(costs.nodes) as (nodes, _, connect):
        await connect()
        for node in nodes:
            await _tell_all(nodes, node, [])  # streams are opened once
        costs.idle_ms_per_s = round(await _idle() / costs.nodes, 2)
        start_s, cpu_s = time.monotonic(), time.process_time()
        for _ in range(costs.announcements):
            await _tell_all(nodes, rng.choice(nodes), took_s)
            await trio.sleep(PAUSE_S)
        idle_s = costs.idle_ms_per_s * costs.nodes / 1000 * (time.monotonic() - start_s)
        costs.requests_ms = _each(cpu_s + idle_s, len(took_s))
    costs.requests_p50_ms = round(1000 * sorted(took_s)[len(took_s) // 2], 1)


async def _tell_all(nodes: list[Node], publisher: Node, took_s: list[float]) -> None:
    began_s = time.monotonic()

    async def tell(peer: PeerId) -> None:
        await publisher.exchange.ask(peer, "announce/1", bytes(BYTES), 30)
        took_s.append(time.monotonic() - began_s)

    async with trio.open_nursery() as nursery:
        for node in nodes:
            if node is not publisher:
                nursery.start_soon(tell, node.peer)


async def _by_gossip(costs: Costs, rng: random.Random) -> None:
    took_s: list[float] = []
    sent_s: dict[bytes, float] = {}

    async def read(subscription: Any, own: Node) -> None:
        while True:
            message = await subscription.get()
            if message.from_id != own.host._host.get_id().to_bytes():
                took_s.append(time.monotonic() - sent_s[bytes(message.data)])

    async with meshed(costs.nodes) as (nodes, nursery, connect), AsyncExitStack() as stack:
        pubsubs = []
        for node in nodes:
            router = GossipSub(
                protocols=[PROTOCOL_ID_V12, PROTOCOL_ID_V11],
                degree=6,
                degree_low=4,
                degree_high=12,
                heartbeat_interval=1,
                adaptive_gossip_enabled=False,
                spam_protection_enabled=False,
                eclipse_protection_enabled=False,
                prune_back_off=10,
            )
            pubsub = Pubsub(node.host._host, router, msg_id_constructor=lambda message: sha256(message.data).digest())
            await stack.enter_async_context(background_trio_service(router))
            await stack.enter_async_context(background_trio_service(pubsub))
            await pubsub.wait_until_ready()
            nursery.start_soon(read, await pubsub.subscribe(TOPIC), node)
            pubsubs.append(pubsub)
        await connect()
        await trio.sleep(2 * QUIET_S)
        costs.gossip_idle_ms_per_s = round(await _idle() / costs.nodes, 2)
        start_s, cpu_s = time.monotonic(), time.process_time()
        for _ in range(costs.announcements):
            announcement = rng.randbytes(BYTES)
            sent_s[announcement] = time.monotonic()
            await rng.choice(pubsubs).publish(TOPIC, announcement)
            await trio.sleep(PAUSE_S)
        await trio.sleep(DELIVERY_S)
        idle_s = costs.gossip_idle_ms_per_s * costs.nodes / 1000 * (time.monotonic() - start_s)
        costs.gossip_ms = _each(cpu_s + idle_s, len(took_s))
        costs.gossip_p50_ms = round(1000 * sorted(took_s)[len(took_s) // 2], 1) if took_s else 0.0
        costs.gossip_arrived = round(len(took_s) / (costs.announcements * (costs.nodes - 1)), 3)
        nursery.cancel_scope.cancel()


def _each(began_s: float, told: int) -> float:
    return round(1000 * (time.process_time() - began_s) / max(1, told), 2)


async def measure(nodes: int, announcements: int, seed: int = 1) -> Costs:
    rng = random.Random(seed)
    costs = Costs(nodes=nodes, announcements=announcements)
    await _by_requests(costs, rng)
    await _by_gossip(costs, rng)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.mesh_announce", description="Announcements by gossipsub and by requests.")
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--announcements", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    costs = trio.run(measure, options.nodes, options.announcements)
    if options.json:
        sys.stdout.write(json.dumps({"kind": "real", **asdict(costs)}) + "\n")
        return
    rows = [
        ("idle, each node and second", costs.idle_ms_per_s, costs.gossip_idle_ms_per_s),
        ("each node told", costs.requests_ms, costs.gossip_ms),
        ("p50 until told", costs.requests_p50_ms, costs.gossip_p50_ms),
    ]
    sys.stdout.write(f"{costs.nodes} nodes, {costs.announcements} announcements of {BYTES} bytes; real\n")
    sys.stdout.write(f"{'ms':30}{'requests':>10}{'gossipsub':>12}\n")
    sys.stdout.writelines(f"{name:30}{ours:>10}{theirs:>12}\n" for name, ours, theirs in rows)
    sys.stdout.write(f"arrived by gossipsub: {100 * costs.gossip_arrived:.1f} %\n")


if __name__ == "__main__":
    main()

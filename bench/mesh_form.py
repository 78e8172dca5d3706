"""Many nodes at once: ``python -m bench.mesh_form --nodes 100 --processes 10 [--json]``.

Each process has several nodes' ends of the mesh, the same as meshd's (:class:`veil.mesh.daemon.Daemon`), without a process of
their own. All of them listen; then everybody is told who is registered, at once, as nobody ever meets a whole cluster in
production. The clock runs from there.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from bench.mesh_cluster import CLUSTER
from veil.config import MeshLimits
from veil.identity import Identity
from veil.mesh import control
from veil.mesh.control import Allow, AllowedPeer, Ready, Seen, Setup
from veil.mesh.daemon import Daemon
from veil.mesh.meshd import collect_rarely
from veil.mesh.ports import PeerState
from veil.types import PeerId, SystemClock
from veil.wire.codec import Message

POLL_S = 0.05
QUIET_S = 30.0
FORM_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Formed:
    """From the registry's word until QUIET_S after everybody saw everybody."""

    nodes: int
    processes: int
    seen_s: float
    """Until everybody saw everybody alive."""
    cpu_s: float
    """Of all processes together, until then."""
    connections: float
    """Of a node, in the mean, at the end: the others are met in time."""
    false_suspicions: int
    """One node's view of another."""
    false_deaths: int


class Inside:
    """The parent of a daemon in the same process: keeps what it is told."""

    def __init__(self, directory: Path) -> None:
        self.identity = Identity.generate()
        self.addresses: tuple[str, ...] = ()
        self.alive: set[PeerId] = set()
        self.suspicions = self.deaths = 0
        setup = Setup(
            cluster=CLUSTER,
            listen=("/ip4/127.0.0.1/tcp/0",),
            preset="lan",
            blobs=str(directory / self.identity.peer_id.hex()),
            limits=asdict(MeshLimits()),
        )
        self._orders, self._received = trio.open_memory_channel[Message](8)
        self.daemon = Daemon(self, setup, self.identity, random.SystemRandom(), SystemClock())

    async def send(self, head: control.FromMeshd, payload: bytes = b"") -> None:
        match head:
            case Ready():
                self.addresses = head.addresses
            case Seen():
                (self.alive.add if head.state == PeerState.ALIVE else self.alive.discard)(PeerId(head.peer))
                self.suspicions += head.state == PeerState.SUSPECT and head.incarnation > 0
                self.deaths += head.state == PeerState.DEAD

    async def receive(self) -> tuple[Message, bytes]:
        return await self._received.receive(), b""

    def allow(self, addresses: dict[str, list[str]]) -> None:
        peers = tuple(AllowedPeer(peer=bytes.fromhex(peer), addresses=tuple(texts)) for peer, texts in addresses.items())
        self._orders.send_nowait(Allow(peers=peers))

    def connections(self, peers: set[PeerId]) -> int:
        return sum(self.daemon.connected(peer) for peer in peers)


async def _work(count: int, directory: Path) -> None:
    """One process: says where its nodes listen, is told who is registered, says when they see everybody and what follows."""
    parents = [Inside(directory) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for parent in parents:
            nursery.start_soon(parent.daemon.run)
        while not all(parent.addresses for parent in parents):  # noqa: ASYNC110 (the bench looks from outside)
            await trio.sleep(POLL_S)
        _say({parent.identity.peer_id.hex(): parent.addresses for parent in parents})
        registered = json.loads(await trio.to_thread.run_sync(sys.stdin.readline))
        began_s = time.process_time()
        peers = {PeerId(bytes.fromhex(peer)) for peer in registered}
        for parent in parents:
            parent.allow(registered)
        while not all(parent.alive >= peers for parent in parents):  # noqa: ASYNC110
            await trio.sleep(POLL_S)
        _say({"seen_s": time.monotonic(), "cpu_s": time.process_time() - began_s})
        await trio.to_thread.run_sync(sys.stdin.readline)
        end = {"suspicions": sum(parent.suspicions for parent in parents), "deaths": sum(parent.deaths for parent in parents)}
        _say({**end, "connections": sum(parent.connections(peers) for parent in parents)})
        nursery.cancel_scope.cancel()


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def form(nodes: int, processes: int, directory: Path) -> Formed:
    """Raises TimeoutError if they do not find together."""
    shares = [nodes // processes + (number < nodes % processes) for number in range(processes)]
    command = [sys.executable, "-m", "bench.mesh_form", "--directory", str(directory), "--worker"]
    pipe = asyncio.subprocess.PIPE
    workers = [
        await asyncio.create_subprocess_exec(*command, str(share), stdin=pipe, stdout=pipe, limit=1 << 20) for share in shares
    ]

    async def hear() -> list[dict[str, float]]:
        async with asyncio.timeout(FORM_TIMEOUT_S):
            return [json.loads(await worker.stdout.readline()) for worker in workers if worker.stdout is not None]

    def tell(line: str) -> None:
        for worker in workers:
            if worker.stdin is not None:
                worker.stdin.write(line.encode() + b"\n")

    try:
        registered = {peer: addresses for one in await hear() for peer, addresses in one.items()}
        began_s = time.monotonic()
        tell(json.dumps(registered))
        seen = await hear()
        await asyncio.sleep(QUIET_S)
        tell("")
        after = await hear()
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()
    return Formed(
        nodes=nodes,
        processes=processes,
        seen_s=round(max(one["seen_s"] for one in seen) - began_s, 2),
        cpu_s=round(sum(one["cpu_s"] for one in seen), 1),
        connections=round(sum(one["connections"] for one in after) / nodes, 1),
        false_suspicions=sum(int(one["suspicions"]) for one in after),
        false_deaths=sum(int(one["deaths"]) for one in after),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.mesh_form", description="How long many nodes take to find together.")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)
        collect_rarely()
        trio.run(_work, options.worker, options.directory)
        return
    with tempfile.TemporaryDirectory(prefix="bench-form-") as directory:
        formed = asyncio.run(form(options.nodes, options.processes, Path(directory)))
    if options.json:
        sys.stdout.write(json.dumps({"kind": "real", "load": round(os.getloadavg()[0], 1), **asdict(formed)}) + "\n")
        return
    sys.stdout.write(
        f"real: {formed.nodes} nodes in {formed.processes} processes: all seen alive after {formed.seen_s} s "
        f"and {formed.cpu_s} s of CPU; {QUIET_S:.0f} s later {formed.connections} connections a node, "
        f"{formed.false_suspicions} false suspicions, {formed.false_deaths} false deaths\n"
    )


if __name__ == "__main__":
    main()

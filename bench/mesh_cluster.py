"""Real nodes' ends of the mesh on this machine, as ``veil node run`` starts them: one meshd process each."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import psutil

from bench.mesh_wires import Wire, Wires
from veil.identity import Identity
from veil.mesh.capture import read_capture
from veil.mesh.client import LibP2PMesh
from veil.mesh.messages import SWIM_PROTOCOL
from veil.mesh.ports import PeerState
from veil.types import ClusterId, PeerId

CLUSTER = ClusterId(b"bench mesh".ljust(32, b"\0"))

POLL_S = 0.01
FORM_TIMEOUT_S = 300.0


class Cluster:
    """Some nodes, and when each saw what of the others."""

    def __init__(self, directory: Path, preset: str, wires: Wires | None = None) -> None:
        self.nodes: list[LibP2PMesh] = []
        self.ended: set[PeerId] = set()
        """Killed or stopped on purpose."""
        self.false_deaths = 0
        """Times that somebody was seen dead who was not ended."""
        self._directory = directory
        self._preset = preset
        self._wires = wires
        self._wire_of: dict[PeerId, Wire] = {}
        self._watchers: list[asyncio.Task[None]] = []

    async def add(self) -> LibP2PMesh:
        """Starts one more; nobody knows it before :meth:`register`."""
        home = self._directory / str(len(self.nodes))
        home.mkdir()
        wire = self._wires.add() if self._wires is not None else None
        node = LibP2PMesh(
            Identity.generate(),
            CLUSTER,
            blobs=home / "blobs",
            listen=(f"/ip4/{wire.address if wire else '127.0.0.1'}/tcp/0",),
            preset=self._preset,
            capture=home / "capture",
        )
        self.nodes.append(node)
        with wire.inside() if wire else contextlib.nullcontext():
            await node.start()
        if wire is not None:
            self._wire_of[node.peer_id] = wire
        self._watchers.append(asyncio.create_task(self._watch(node)))
        return node

    def register(self) -> None:
        """Everybody may connect with everybody, as when the registry says so."""
        addresses: dict[PeerId, Sequence[str]] = {node.peer_id: node.listen_addresses for node in self.nodes}
        for node in self.up():
            node.allow(addresses)

    def up(self) -> list[LibP2PMesh]:
        return [node for node in self.nodes if node.peer_id not in self.ended]

    async def until_all_see(self, subject: LibP2PMesh, state: PeerState, timeout_s: float = 120.0) -> float:
        """Seconds from now until everybody else that is up sees ``subject`` so. Raises TimeoutError."""
        others = [node for node in self.up() if node is not subject]
        return await until(lambda: all(seen(node, subject) is state for node in others), timeout_s)

    def kill(self, node: LibP2PMesh) -> None:
        """``kill -9`` of its meshd, and nobody starts it again."""
        self.ended.add(node.peer_id)
        pid, supervisor = node.pid, node._child._supervisor
        if pid is not None and supervisor is not None:
            os.kill(pid, signal.SIGKILL)
            supervisor.cancel()

    def cut(self, node: LibP2PMesh) -> None:
        """Cuts its wire: its connections stay open, and nothing more comes. Only with wires."""
        self.ended.add(node.peer_id)
        self._wire_of[node.peer_id].cut()

    def stop(self, node: LibP2PMesh) -> None:
        """SIGSTOP: its connections stay open, and nothing more comes."""
        self.ended.add(node.peer_id)
        if node.pid is not None:
            os.kill(node.pid, signal.SIGSTOP)

    def resume(self, node: LibP2PMesh) -> None:
        if node.pid is not None:
            os.kill(node.pid, signal.SIGCONT)
        self.ended.discard(node.peer_id)

    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(node.pid) for node in self.up() if node.pid is not None]

    def cpu_s(self) -> float:
        """CPU time of all meshds that are up."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())

    def frames_sent(self) -> int:
        """SWIM frames given to libp2p, by the records of what was written."""
        captures = [self._directory / str(number) / "capture" for number in range(len(self.nodes))]
        return sum(record.protocol == SWIM_PROTOCOL for capture in captures for record in read_capture(capture))

    async def close(self) -> None:
        for node in self.nodes:
            if node.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(node.pid, signal.SIGCONT)
        await asyncio.gather(*(node.close() for node in self.nodes), return_exceptions=True)
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    async def _watch(self, node: LibP2PMesh) -> None:
        async for member in node.changes():
            if member.state is PeerState.DEAD and member.peer not in self.ended and node.peer_id not in self.ended:
                self.false_deaths += 1


@contextlib.asynccontextmanager
async def cluster(directory: Path, count: int, preset: str = "lan", wires: Wires | None = None) -> AsyncIterator[Cluster]:
    """``count`` nodes that all see each other alive, on ``wires`` of their own or over loopback."""
    made = Cluster(directory, preset, wires)
    try:
        # One after the other: each takes two seconds of CPU, and 30 at once would miss their deadline.
        for _ in range(count):
            await made.add()
        made.register()
        await until(
            lambda: all(seen(a, b) is PeerState.ALIVE for a in made.nodes for b in made.nodes if a is not b), FORM_TIMEOUT_S
        )
        yield made
    finally:
        await made.close()


def seen(by: LibP2PMesh, of: LibP2PMesh) -> PeerState | None:
    return next((member.state for member in by.members() if member.peer == of.peer_id), None)


async def until(condition: Callable[[], bool], timeout_s: float) -> float:
    """Seconds until ``condition`` held. Raises TimeoutError."""
    began_s = time.monotonic()
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (it is about what a node shows, which has no event)
            await asyncio.sleep(POLL_S)
    return time.monotonic() - began_s

"""A containerd of its own with an agent on it, for ``bench.runtime``."""

import asyncio
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from veil.agent.agent import Agent
from veil.agent.keys import DesiredInstance, InstanceKey
from veil.runtime.containerd import ContainerdRuntime
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE, build_busybox
from veil.store.journal import Journal
from veil.types import Generation, ObjectId, SystemClock
from veil.wire.objects import ContainerResources, Resources
from veil.wire.rounds import InstanceStatus

SLEEP = ("sleep", "100000")
CPU_MILLI = 1000
MEMORY_BYTES = 64 << 20
PATIENCE_S = 600.0


class Machine:
    """``runtime`` is the agent's driver, ``beside`` another one in a namespace of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.private = PrivateContainerd(directory / "d", directory / "containerd.log")
        self.wanted: dict[InstanceKey, DesiredInstance] = {}
        self.running: dict[InstanceKey, asyncio.Event] = {}

    async def start(self) -> None:
        await self.private.start()
        self.runtime, self.beside = self._connect("bench"), self._connect("beside")
        archive = self.directory / "busybox.tar"
        build_busybox(archive)
        for runtime in (self.runtime, self.beside):
            await runtime.start_driver()
            await runtime.import_image(BUSYBOX_IMAGE, archive)
        self.journal = Journal(self.directory / "journal.db")
        self.agent = Agent(self.runtime, self.journal, SystemClock(), self.directory / "logs", self._heard, node="bench")
        await self.agent.start()
        self.agent.set_desired({})

    async def close(self) -> None:
        await self.agent.close()
        for runtime in (self.runtime, self.beside):
            await runtime.close()
        self.journal.close()
        await self.private.stop()

    def want(self, numbers: Iterable[int], command: tuple[str, ...] = SLEEP, *, cpu_milli: int = CPU_MILLI) -> list[InstanceKey]:
        """Want these instances besides those that are wanted already."""
        keys = []
        for number in numbers:
            key = InstanceKey(ObjectId(number.to_bytes(32, "big")), Generation(1), 0)
            container = {"name": "main", "image": BUSYBOX_IMAGE, "command": list(command)}
            figures = Resources(containers={"main": ContainerResources(cpu_milli=cpu_milli, memory_bytes=MEMORY_BYTES)})
            self.wanted[key] = DesiredInstance(
                key=key,
                namespace="bench",
                workload=f"w{number}",
                spec={"containers": [container], "terminationGracePeriodSeconds": 0},
                resources=figures,
                public=True,
            )
            self.running[key] = asyncio.Event()
            keys.append(key)
        self.agent.set_desired(self.wanted)
        return keys

    async def until_running(self, keys: Iterable[InstanceKey]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(self.running[key].wait() for key in keys))

    async def drop(self, keys: Iterable[InstanceKey]) -> None:
        gone = set(keys)
        self.wanted = {key: one for key, one in self.wanted.items() if key not in gone}
        self.agent.set_desired(self.wanted)
        async with asyncio.timeout(PATIENCE_S):
            while gone & self.agent.statuses().keys():  # noqa: ASYNC110 - from the outside, as a user would
                await asyncio.sleep(0.05)

    async def relist(self) -> float:
        """Seconds from a gap in the events until every instance was looked at."""
        async with asyncio.timeout(PATIENCE_S):
            began_s = time.perf_counter()
            await self.agent._resync()
            while not self.agent._queue.idle:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            return time.perf_counter() - began_s

    def _connect(self, namespace: str) -> ContainerdRuntime:
        return ContainerdRuntime(
            self.private.socket,
            namespace=namespace,
            snapshotter=self.private.snapshotter,
            runc_root=self.private.runc_root if namespace == "bench" else None,
            cgroup_parent=self.private.cgroup_parent,
        )

    def _heard(self, key: InstanceKey, status: InstanceStatus) -> None:
        if status.phase == "Running" and key in self.running:
            self.running[key].set()


class Calls:
    """Times every call that a driver makes into containerd, until :meth:`stop`."""

    def __init__(self, runtime: ContainerdRuntime) -> None:
        self._connection = runtime._connection
        self._call = runtime._connection.call
        self._took_s: dict[str, list[float]] = {}
        setattr(self._connection, "call", self._timed)  # noqa: B010 - a method

    def stop(self) -> None:
        setattr(self._connection, "call", self._call)  # noqa: B010

    def table(self, starts: int) -> str:
        """How often each is made for one start, and its median."""
        lines = [f"{'call into containerd':24}{'a start':>8}{'median ms':>11}"]
        for name, took_s in sorted(self._took_s.items(), key=lambda one: -sum(one[1])):
            lines.append(f"{name:24}{len(took_s) / starts:8.1f}{statistics.median(took_s) * 1000:11.1f}")
        return "\n".join(lines)

    async def _timed(self, service: str, name: str, /, **fields: Any) -> Any:
        began_s = time.perf_counter()
        try:
            return await self._call(service, name, **fields)
        finally:
            self._took_s.setdefault(f"{service}.{name}", []).append(time.perf_counter() - began_s)

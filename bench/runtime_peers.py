"""What ``bench.runtime`` puts beside the agent: ``ctr``, this driver alone, and the Docker API, all on the same machine.

``ctr run -d`` as it is sets no limits and no seccomp profile; with ``limits`` it has the agent's own, so that the kernel and runc
have the same to do. The driver alone is what is left without an agent: its calls one after the other.
"""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.runtime_machine import CPU_MILLI, MEMORY_BYTES, SLEEP, Machine
from tests.integration.runtime import private_dockerd
from veil.runtime.containerd.seccomp import default_profile
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.docker import DockerRuntime
from veil.runtime.images import BUSYBOX_IMAGE, build_busybox
from veil.runtime.ports import ContainerSpec, Runtime


class Peers:
    """Starts by others on the machine of the agent; each gives its seconds."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._profile = machine.directory / "seccomp.json"
        self._profile.write_text(json.dumps(default_profile()))

    async def ctr(self, id: str, *, limits: bool = False) -> float:
        """One ``ctr run -d``."""
        private = self._machine.private
        command = ["ctr", "--address", str(private.socket), "--namespace", "beside", "run", "--detach"]
        command += ["--snapshotter", private.snapshotter]
        if limits:
            command += ["--cpus", str(CPU_MILLI / 1000), "--memory-limit", str(MEMORY_BYTES)]
            command += ["--seccomp", "--seccomp-profile", str(self._profile)]
        began_s = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*command, BUSYBOX_IMAGE, id, *SLEEP)
        if await process.wait() != 0:
            raise SystemExit("ctr run failed")
        return time.perf_counter() - began_s

    async def driver(self, id: str) -> float:
        """The agent's driver without the agent."""
        return await start(self._machine.beside, id, self._machine.directory)

    async def remove(self, ids: Sequence[str]) -> None:
        await at_once(8, [lambda id=id: self._machine.beside.delete(id) for id in ids])  # type: ignore[misc]


async def start(runtime: Runtime, id: str, directory: Path) -> float:
    """Seconds of one creation and start."""
    spec = ContainerSpec(
        id=id,
        image=BUSYBOX_IMAGE,
        command=SLEEP,
        cpu_milli=CPU_MILLI,
        memory_bytes=MEMORY_BYTES,
        pids=4096,
        stdout=directory / f"{id}.out",
        stderr=directory / f"{id}.err",
    )
    began_s = time.perf_counter()
    await runtime.create(spec)
    await runtime.start(id)
    return time.perf_counter() - began_s


async def at_once(wide: int, work: Sequence[Callable[[], Awaitable[object]]]) -> float:
    """Seconds of all of ``work``, ``wide`` at a time."""
    slots = asyncio.Semaphore(wide)

    async def one(call: Callable[[], Awaitable[object]]) -> None:
        async with slots:
            await call()

    began_s = time.perf_counter()
    await asyncio.gather(*map(one, work))
    return time.perf_counter() - began_s


@asynccontextmanager
async def docker(directory: Path) -> AsyncIterator[DockerRuntime | None]:
    """A dockerd of its own on a containerd of its own, in ``directory``, which exists; None where there is no dockerd."""
    if private_dockerd.available() is not None:
        yield None
        return
    below = PrivateContainerd(directory / "c", directory / "containerd.log")
    await below.start()
    try:
        daemon = private_dockerd.PrivateDockerd(directory, below)
        await asyncio.to_thread(daemon.start)
        runtime = DockerRuntime(daemon.socket, directory / "docker", namespace="bench")
        try:
            await runtime.start_driver()
            build_busybox(directory / "busybox.tar")
            await runtime.import_image(BUSYBOX_IMAGE, directory / "busybox.tar")
            yield runtime
            await runtime.close()
        finally:
            await asyncio.to_thread(daemon.stop)
    finally:
        await below.stop()


def ctr_is_here() -> bool:
    return shutil.which("ctr") is not None

"""What the node agent promises, measured on a containerd of its own, beside ``ctr`` on the same daemon in the same run.

``python -m bench.runtime`` prints a table, ``--json`` one line. Starts are made in turn, one by ctr, one by the agent, so that
both have the same machine; on a busy one only the ratio means something. The agent runs alone in this process with its driver, so
this process's CPU and memory are theirs. Twins are counted in ``/proc``, not asked of the runtime. Needs root, containerd, runc,
busybox.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import psutil

from veil.agent.agent import Agent
from veil.agent.keys import DesiredInstance, InstanceKey, container_id
from veil.runtime.containerd import ContainerdRuntime
from veil.runtime.daemon import PrivateContainerd, available
from veil.runtime.images import BUSYBOX_IMAGE, build_busybox
from veil.runtime.ports import ContainerState
from veil.store.journal import Journal
from veil.types import Generation, ObjectId, SystemClock
from veil.wire.objects import ContainerResources, Resources
from veil.wire.rounds import InstanceStatus

RUNNING = ContainerState.RUNNING
SLEEP = ("sleep", "100000")
TALK = ("sh", "-c", "while :; do cat /proc/uptime; usleep 40000; done")
"""Says what CLOCK_BOOTTIME is, to 10 ms."""

WIDE = 40
"""Instances that are wanted at once to measure starts a second; the agent makes STARTS_AT_ONCE of them at a time."""

RESTARTS = 10
FOLLOW_S = 10.0
PATIENCE_S = 600.0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Medians and percentiles; seconds unless the name says otherwise."""

    start_p50_vs_ctr: float
    """The agent's median from wanted to running over that of ``ctr run -d``."""
    start_p50_s: float
    ctr_start_p50_s: float
    start_p99_s: float
    starts_per_s: float
    restart_s: float
    """Median from the kill to the new process."""
    relist_500_s: float | None
    """None when fewer than 500 were run."""
    relist_s: float
    instances: int
    """That were idle, and listed, for the two figures below and the one above."""
    agent_cpu_idle: float
    """Part of one core."""
    agent_rss_mb: int
    containerd_cpu_idle: float
    log_follow_p99_ms: float
    twins: int
    """Instances with more than one main process at the end."""
    starts: int
    cores: int
    load_average: float


class Machine:
    """A private containerd, an agent on it, and ctr beside."""

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

    def want(self, numbers: Iterable[int], command: tuple[str, ...] = SLEEP) -> list[InstanceKey]:
        """Want these instances besides those that are wanted already."""
        keys = []
        for number in numbers:
            key = InstanceKey(ObjectId(number.to_bytes(32, "big")), Generation(1), 0)
            container = {"name": "main", "image": BUSYBOX_IMAGE, "command": list(command)}
            figures = Resources(containers={"main": ContainerResources(cpu_milli=100, memory_bytes=64 << 20)})
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

    async def by_ctr(self, id: str) -> float:
        """Seconds of one ``ctr run -d``."""
        command = ["ctr", "--address", str(self.private.socket), "--namespace", "beside", "run", "--detach"]
        command += ["--snapshotter", self.private.snapshotter, BUSYBOX_IMAGE, id, *SLEEP]
        began_s = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*command)
        if await process.wait() != 0:
            raise SystemExit("ctr run failed")
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


async def starts(machine: Machine, count: int) -> tuple[list[float], list[float]]:
    """Seconds of starts one after the other: the agent's, ctr's. In turn; each is removed before the next."""
    ours, theirs = [], []
    for number in range(count):
        theirs.append(await machine.by_ctr(f"c{number}"))
        began_s = time.perf_counter()
        keys = machine.want([number])
        await machine.until_running(keys)
        ours.append(time.perf_counter() - began_s)
        await asyncio.gather(machine.drop(keys), machine.beside.delete(f"c{number}"))
    return ours, theirs


async def restarts(machine: Machine, keys: list[InstanceKey]) -> list[float]:
    """Seconds from SIGKILL to another main process, of containers that have not been started again before."""
    took_s = []
    for key in keys:
        id = container_id(key, "main")
        pid = (await machine.runtime.state(id)).pid
        began_s = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            while (view := await machine.runtime.state(id)).pid in (0, pid) or view.state is not RUNNING:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        took_s.append(time.perf_counter() - began_s)
    return took_s


async def idle(machine: Machine, seconds: float) -> tuple[float, int, float]:
    """Parts of a core of this process and of containerd, and this process's MB, while nothing happens."""
    assert machine.private.process is not None
    process, daemon = psutil.Process(), psutil.Process(machine.private.process.pid)
    before = [_cpu_s(process), _cpu_s(daemon)]
    await asyncio.sleep(seconds)
    after = [_cpu_s(process), _cpu_s(daemon)]
    return (after[0] - before[0]) / seconds, round(process.memory_info().rss / 1e6), (after[1] - before[1]) / seconds


async def relist(machine: Machine) -> float:
    """Seconds from a gap in the events until every instance was looked at."""
    async with asyncio.timeout(PATIENCE_S):
        began_s = time.perf_counter()
        await machine.agent._resync()
        while not machine.agent._queue.idle:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        return time.perf_counter() - began_s


async def follow(machine: Machine, number: int) -> list[float]:
    """Milliseconds from when a container said a line to when a follower has it."""
    (key,) = keys = machine.want([number], TALK)
    await machine.until_running(keys)
    late_ms: list[float] = []
    pieces = machine.agent.logs(key, follow=True, tail_lines=0)
    end_s = time.monotonic() + FOLLOW_S
    async for piece in pieces:
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        late_ms += [(now_s - float(line.split()[0])) * 1000 for line in piece.splitlines()]
        if time.monotonic() > end_s:
            break
    await pieces.aclose()  # type: ignore[attr-defined]
    await machine.drop(keys)
    return late_ms


def twins() -> int:
    """Instances whose main command runs more than once, by the environment of the machine's processes."""
    found: Counter[str] = Counter()
    for process in psutil.process_iter():
        try:
            variables = process.environ()
        except psutil.Error:
            continue
        if variables.get("VEIL_NODE") == "bench" and variables.get("VEIL_NAMESPACE") == "bench":
            found[variables.get("VEIL_INSTANCE", "")] += 1
    return sum(count > 1 for count in found.values())


async def measure(count: int, instances: int, idle_s: float, say: Callable[[str], None]) -> Figures:
    load_average = os.getloadavg()[0]
    directory = Path(tempfile.mkdtemp(prefix="veil-bench-"))
    machine = Machine(directory)
    try:
        await machine.start()
        await starts(machine, 2)  # the first read what the others find in memory
        say(f"{count} starts one after the other, in turn with ctr")
        ours, theirs = await starts(machine, count)
        say(f"{WIDE} at once")
        began_s = time.perf_counter()
        keys = machine.want(range(1000, 1000 + WIDE))
        await machine.until_running(keys)
        per_s = WIDE / (time.perf_counter() - began_s)
        say(f"{RESTARTS} restarts")
        restart = await restarts(machine, keys[:RESTARTS])
        say("following a log")
        late_ms = await follow(machine, 900)
        say(f"{instances} instances, idle for {idle_s:.0f} s")
        more = machine.want(range(2000, 2000 + max(0, instances - WIDE)))
        await machine.until_running(more)
        relisted_s = min([await relist(machine) for _ in range(3)])
        await asyncio.sleep(2)
        cpu, rss_mb, daemon_cpu = await idle(machine, idle_s)
        twice = twins()
    finally:
        await machine.close()
        shutil.rmtree(directory)
    median, median_ctr = statistics.median(ours), statistics.median(theirs)
    return Figures(
        start_p50_vs_ctr=round(median / median_ctr, 2),
        start_p50_s=round(median, 3),
        ctr_start_p50_s=round(median_ctr, 3),
        start_p99_s=round(_p99(ours), 3),
        starts_per_s=round(per_s, 1),
        restart_s=round(statistics.median(restart), 3),
        relist_500_s=round(relisted_s, 3) if len(machine.wanted) >= 500 else None,
        relist_s=round(relisted_s, 3),
        instances=len(machine.wanted),
        agent_cpu_idle=round(cpu, 4),
        agent_rss_mb=rss_mb,
        containerd_cpu_idle=round(daemon_cpu, 4),
        log_follow_p99_ms=round(_p99(late_ms), 1),
        twins=twice,
        starts=count,
        cores=len(os.sched_getaffinity(0)),
        load_average=round(load_average, 2),
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.runtime", description="What the node agent does in which time.")
    parser.add_argument("--starts", type=int, default=100, help="starts one after the other, each beside one by ctr")
    parser.add_argument("--instances", type=int, default=200, help="that run while nothing happens; 500 for relist_500_s")
    parser.add_argument("--idle-s", type=float, default=30.0, help="how long nothing happens")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    if arguments.starts < 1 or arguments.instances < WIDE or arguments.idle_s <= 0:
        parser.error(f"--starts: at least 1; --instances: at least {WIDE}; --idle-s: over 0")
    if (reason := available()) is not None or (reason := None if shutil.which("ctr") else "no ctr here") is not None:
        parser.error(f"cannot run here: {reason}")

    def say(what: str) -> None:
        if not arguments.json:
            print(f"... {what}", file=sys.stderr)

    values: dict[str, Any] = msgspec.to_builtins(
        asyncio.run(measure(arguments.starts, arguments.instances, arguments.idle_s, say))
    )
    if arguments.json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        print(f"{name:20} {'-' if value is None else value}")


if __name__ == "__main__":
    main()

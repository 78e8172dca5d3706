"""What the node agent promises, measured on a containerd of its own, beside ``ctr`` on the same daemon in the same run.

``python -m bench.runtime`` prints a table, ``--json`` one line, ``--calls`` also the calls into containerd that one start takes.
Starts are made in turn, by ctr, by the agent, and now and then by the others, so that all have the same machine; on a busy one
only ratios mean something. The agent runs alone in this process with its driver, so this process's CPU and memory are theirs.
Twins are counted in ``/proc``, not asked of the runtime. Needs root, containerd, runc, busybox, ctr; dockerd is measured where it
is on the PATH or in VEIL_TEST_DOCKERD.
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
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from bench.runtime_machine import CPU_MILLI, PATIENCE_S, Calls, Machine
from bench.runtime_peers import Peers, at_once, ctr_is_here, docker, start
from veil.agent.acting import STARTS_AT_ONCE
from veil.agent.keys import InstanceKey, container_id
from veil.runtime.daemon import available
from veil.runtime.ports import ContainerState

RUNNING = ContainerState.RUNNING
TALK = ("sh", "-c", "while :; do cat /proc/uptime; usleep 40000; done")
"""Says what CLOCK_BOOTTIME is, to 10 ms."""

WIDE = 40
"""Instances that are wanted at once to measure starts a second; the agent makes STARTS_AT_ONCE of them at a time."""

SMALL_CPU_MILLI = 100
"""runc's own work in a container counts against its limit: one of a tenth of a core is throttled before its command runs."""

RESTARTS = 10
RELISTS = 5
FOLLOW_S = 10.0
OTHERS_EVERY = 5
"""Of so many starts by the agent and by ctr, one by each of the others."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Medians and percentiles; seconds unless the name says otherwise. None: was not measured."""

    start_p50_vs_ctr: float
    """The agent's median from wanted to running over that of ``ctr run -d``, which sets no limits and no seccomp profile."""
    start_p50_vs_ctr_limits: float
    """The same over that of ``ctr run -d`` with the agent's limits and profile."""
    start_p50_s: float
    start_p99_s: float
    ctr_start_p50_s: float
    ctr_limits_start_p50_s: float
    driver_start_p50_s: float
    """The agent's driver without the agent."""
    docker_start_p50_s: float | None
    """Through the Docker API, by the docker driver."""
    small_start_p50_s: float
    """The agent's, of a container that may use SMALL_CPU_MILLI."""
    starts_per_s: float
    ctr_starts_per_s: float
    """As many at a time as the agent makes."""
    driver_starts_per_s: float
    restart_s: float
    """Median from the kill to the new process."""
    relist_500_s: float | None
    """Median from a gap in the events until each of 500 was looked at. None when fewer were run."""
    list_s: float
    """Of that, what the runtime takes to list them."""
    agent_cpu_idle: float
    """Part of one core."""
    agent_rss_mb: int
    containerd_cpu_idle: float
    log_follow_p99_ms: float
    twins: int
    """Instances with more than one main process at the end."""
    starts: int
    idle_instances: int
    listed_instances: int
    cores: int
    load_average: float


WANTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "start_p50_vs_ctr": ("<= 1.2", ()),
    "start_p99_s": ("<= 0.5", ()),
    "start_p50_s": ("", ("ctr_start_p50_s", "ctr_limits_start_p50_s", "driver_start_p50_s", "docker_start_p50_s")),
    "start_p50_vs_ctr_limits": ("", ()),
    "small_start_p50_s": ("", ()),
    "starts_per_s": (">= 13", ("ctr_starts_per_s", "", "driver_starts_per_s")),
    "restart_s": ("<= 0.3", ()),
    "relist_500_s": ("<= 0.3", ("", "", "list_s")),
    "agent_cpu_idle": ("<= 0.02", ()),
    "agent_rss_mb": ("<= 150", ()),
    "log_follow_p99_ms": ("<= 100", ()),
    "twins": ("0", ()),
}
"""The rows of the table: what is wanted, and the figures of ctr, ctr with limits, the driver alone, the Docker API."""


class Starts(msgspec.Struct):
    """Seconds of starts one after the other."""

    agent: list[float] = []
    small: list[float] = []
    ctr: list[float] = []
    ctr_limits: list[float] = []
    driver: list[float] = []


async def starts(machine: Machine, peers: Peers, count: int) -> Starts:
    """In turn; each is removed before the next."""
    took = Starts()
    for number in range(count):
        ids = [f"c{number}"]
        took.ctr.append(await peers.ctr(ids[0]))
        keys = await _by_agent(machine, number, took.agent)
        if number % OTHERS_EVERY == 0:
            ids += [f"l{number}", f"d{number}"]
            took.ctr_limits.append(await peers.ctr(ids[1], limits=True))
            took.driver.append(await peers.driver(ids[2]))
            keys += await _by_agent(machine, 100_000 + number, took.small, cpu_milli=SMALL_CPU_MILLI)
        await asyncio.gather(machine.drop(keys), peers.remove(ids))
    return took


async def _by_agent(machine: Machine, number: int, took_s: list[float], cpu_milli: int = CPU_MILLI) -> list[InstanceKey]:
    began_s = time.perf_counter()
    keys = machine.want([number], cpu_milli=cpu_milli)
    await machine.until_running(keys)
    took_s.append(time.perf_counter() - began_s)
    return keys


async def at_once_by_peers(peers: Peers) -> tuple[float, float]:
    """Starts a second by ctr and by the driver alone, as many at a time as the agent makes."""
    rates = []
    for kind, by in (("C", peers.ctr), ("D", peers.driver)):
        ids = [f"{kind}{number}" for number in range(WIDE)]
        rates.append(WIDE / await at_once(STARTS_AT_ONCE, [lambda id=id, by=by: by(id) for id in ids]))  # type: ignore[misc]
        await peers.remove(ids)
    return rates[0], rates[1]


async def by_docker(directory: Path, count: int) -> float | None:
    """Median seconds of a start through the Docker API; None where there is no dockerd."""
    took_s = []
    async with docker(directory) as runtime:
        if runtime is None:
            return None
        for number in range(count):
            took_s.append(await start(runtime, f"k{number}", directory))
            await runtime.delete(f"k{number}")
    return statistics.median(took_s)


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


async def relists(machine: Machine) -> tuple[float, float]:
    """Median seconds of a look at everything, and of the listing alone."""
    looks_s, lists_s = [], []
    for _ in range(RELISTS):
        looks_s.append(await machine.relist())
        began_s = time.perf_counter()
        await machine.runtime.list()
        lists_s.append(time.perf_counter() - began_s)
    return statistics.median(looks_s), statistics.median(lists_s)


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


async def measure(arguments: argparse.Namespace, say: Callable[[str], None]) -> Figures:
    load_average = os.getloadavg()[0]
    directory = Path(tempfile.mkdtemp(prefix="veil-bench-"))
    machine = Machine(directory)
    task = asyncio.current_task()
    assert task is not None
    # Its containerd outlives a bench that just ends.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await machine.start()
        peers = Peers(machine)
        await starts(machine, peers, 2)  # the first read what the others find in memory
        if arguments.calls:
            say(await calls(machine))
        say(f"{arguments.starts} starts one after the other, in turn with ctr")
        took = await starts(machine, peers, arguments.starts)
        say(f"median {statistics.median(took.agent):.3f} s, by ctr {statistics.median(took.ctr):.3f} s")
        say(f"{WIDE} at once")
        began_s = time.perf_counter()
        keys = machine.want(range(1000, 1000 + WIDE))
        await machine.until_running(keys)
        per_s = WIDE / (time.perf_counter() - began_s)
        ctr_per_s, driver_per_s = await at_once_by_peers(peers)
        say(f"{per_s:.1f} a second, by ctr {ctr_per_s:.1f}")
        say(f"{RESTARTS} restarts")
        restart = await restarts(machine, keys[:RESTARTS])
        say("following a log")
        late_ms = await follow(machine, 900)
        say(f"{arguments.instances} instances, idle for {arguments.idle_s:.0f} s")
        await machine.until_running(machine.want(range(2000, 2000 + max(0, arguments.instances - WIDE))))
        idle_instances = len(machine.wanted)
        await asyncio.sleep(2)
        cpu, rss_mb, daemon_cpu = await idle(machine, arguments.idle_s)
        say(f"{max(arguments.relist, idle_instances)} instances listed and looked at")
        await machine.until_running(machine.want(range(3000, 3000 + max(0, arguments.relist - idle_instances))))
        relist_s, list_s = await relists(machine)
        say(f"in {relist_s:.3f} s, of which {list_s:.3f} s is the runtime's listing")
        twice, listed = twins(), len(machine.wanted)
        say("dockerd")
        (directory / "k").mkdir()
        docker_s = await by_docker(directory / "k", max(1, arguments.starts // OTHERS_EVERY))
    finally:
        await machine.close()
        shutil.rmtree(directory)
    median, median_ctr, median_limits = map(statistics.median, (took.agent, took.ctr, took.ctr_limits))
    return Figures(
        start_p50_vs_ctr=round(median / median_ctr, 2),
        start_p50_vs_ctr_limits=round(median / median_limits, 2),
        start_p50_s=round(median, 3),
        start_p99_s=round(_p99(took.agent), 3),
        ctr_start_p50_s=round(median_ctr, 3),
        ctr_limits_start_p50_s=round(median_limits, 3),
        driver_start_p50_s=round(statistics.median(took.driver), 3),
        docker_start_p50_s=None if docker_s is None else round(docker_s, 3),
        small_start_p50_s=round(statistics.median(took.small), 3),
        starts_per_s=round(per_s, 1),
        ctr_starts_per_s=round(ctr_per_s, 1),
        driver_starts_per_s=round(driver_per_s, 1),
        restart_s=round(statistics.median(restart), 3),
        relist_500_s=round(relist_s, 3) if listed >= 500 else None,
        list_s=round(list_s, 3),
        agent_cpu_idle=round(cpu, 4),
        agent_rss_mb=rss_mb,
        containerd_cpu_idle=round(daemon_cpu, 4),
        log_follow_p99_ms=round(_p99(late_ms), 1),
        twins=twice,
        starts=arguments.starts,
        idle_instances=idle_instances,
        listed_instances=listed,
        cores=len(os.sched_getaffinity(0)),
        load_average=round(load_average, 2),
    )


async def calls(machine: Machine) -> str:
    """A table of what five starts by the agent ask of containerd."""
    timed = Calls(machine.runtime)
    for number in range(5):
        keys = machine.want([200_000 + number])
        await machine.until_running(keys)
    timed.stop()
    await machine.drop(list(machine.wanted))
    return timed.table(5)


def table(figures: Figures) -> str:
    """What is wanted and what was found, beside the others."""
    lines = [f"{'':26}{'veil':>8}{'wanted':>10}{'ctr':>8}{'ctr, limits':>13}{'driver alone':>14}{'docker':>8}"]
    for name, (wanted, others) in WANTED.items():
        beside = [_cell(getattr(figures, other)) if other else "" for other in others] + [""] * (4 - len(others))
        cells = f"{beside[0]:>8}{beside[1]:>13}{beside[2]:>14}{beside[3]:>8}"
        lines.append(f"{name:26}{_cell(getattr(figures, name)):>8}{wanted:>10}{cells}".rstrip())
    rest = ("containerd_cpu_idle", "starts", "idle_instances", "listed_instances", "cores", "load_average")
    lines.append(", ".join(f"{name} {_cell(getattr(figures, name))}" for name in rest))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else str(value)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.runtime", description="What the node agent does in which time.")
    parser.add_argument("--starts", type=int, default=100, help="starts one after the other, each beside one by ctr")
    parser.add_argument("--instances", type=int, default=200, help="that run while nothing happens")
    parser.add_argument("--relist", type=int, default=500, help="instances that are listed and looked at")
    parser.add_argument("--idle-s", type=float, default=30.0, help="how long nothing happens")
    parser.add_argument("--calls", action="store_true", help="also print what one start asks of containerd")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    if arguments.starts < 1 or arguments.instances < WIDE or arguments.idle_s <= 0 or arguments.relist < 0:
        parser.error(f"--starts: at least 1; --instances: at least {WIDE}; --idle-s: over 0; --relist: at least 0")
    if (reason := available()) is not None or (reason := None if ctr_is_here() else "no ctr here") is not None:
        parser.error(f"cannot run here: {reason}")

    def say(what: str) -> None:
        if not arguments.json:
            print(f"... {what}", file=sys.stderr)

    figures = asyncio.run(measure(arguments, say))
    print(json.dumps(msgspec.to_builtins(figures)) if arguments.json else table(figures))


if __name__ == "__main__":
    main()

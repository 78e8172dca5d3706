"""What a whole placement round costs on three real nodes: ``python -m bench.rounds [--replicas 1] [--rounds 10] [--json]``.

A cluster as ``veil dev up`` makes it: chain, mesh, evaluators, a quorum of key holders, containers. Workloads are applied one
after the other, each when the one before is gone. ``round_s`` is from the coordinator's opening of the round to its seeing
the leaf appended; ``apply_s`` from the API call to every replica running. What happens between is read from the nodes' logs,
which are on one clock. The floors are what the same work would take if all cores did nothing else: the processor time of the
evaluators for a round, and of the whole cluster from the call to running, divided by the cores.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
import psutil

from veil.client.api import ApiClient
from veil.client.kinds import INSTANCES, WORKLOADS, Obj
from veil.client.kubeconfig import KubeConfig
from veil.dev.layout import Layout
from veil.dev.status import status_of
from veil.errors import NodeUnavailable
from veil.runtime.daemon import available

NODES = 3
NAMESPACE = "default"
UP_TIMEOUT_S = 240.0
PLACED_TIMEOUT_S = 60.0
PROMISED_ROUND_S = 1.5
PROMISED_APPLY_S = 3.0

STEPS = (
    "admitted",
    "opened",
    "committed",
    "checked",
    "evaluated",
    "released",
    "decided",
    "taken",
    "appended",
    "bound",
    "running",
)
"""In order; each one's time is counted from the one before, the first from the API call."""

MEANS = {
    "admitted": "API: validate, seal, encrypt the demand, copy blobs to members, two transactions",
    "opened": "controllers make the Instances; the coordinator waits for a workload's other replicas",
    "committed": "every candidate encrypts and commits",
    "checked": "inputs and telemetry reach the committee, which checks them",
    "evaluated": "the circuit, on every member of the quorum",
    "released": "members check once more, journal, decrypt their parts",
    "decided": "partials arrive and are combined",
    "taken": "offer, key shares, exact resources, reservation (the last node's)",
    "appended": "leaves to the winners, the transaction, its block",
    "bound": "winners see the block, and have what they are to run",
    "running": "containers start; the home node hears of it and shows it",
}

_LINE = re.compile(r"^(\S+ \S+) \S+ +veil\.placement\.\w+: round ([0-9a-f]{8})(?: (\w+)|: \d+ of \d+ (taken))(?: in ([\d.]+) s)?")
_LAST = {"checked", "evaluated", "released", "taken", "bound"}
"""Steps that several nodes take: the last one counts. Of the others there is one, or the first counts."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of one run, in seconds; ``steps_s`` is by step, as counted from the step before."""

    round_s: float
    round_worst_s: float
    apply_s: float
    apply_worst_s: float
    steps_s: Mapping[str, float]
    evaluation_s: float
    """The evaluators' own time for the circuit, the slowest member's."""
    round_floor_s: float
    """Processor time of all evaluators, by the cores."""
    apply_floor_s: float
    """Processor time of all processes of the cluster but the containers themselves, by the cores."""
    rounds: int
    nodes: int
    replicas: int
    runtime: str
    cores: int
    load_average: float


@dataclass(slots=True)
class Trial:
    """One workload: Unix seconds by step."""

    began_s: float
    at_s: dict[str, float] = field(default_factory=dict)
    evaluation_s: float = 0.0
    evaluators_cpu_s: float = 0.0
    cluster_cpu_s: float = 0.0

    @property
    def round_s(self) -> float:
        return self.at_s["appended"] - self.at_s["opened"]

    @property
    def apply_s(self) -> float:
        return self.at_s["running"] - self.began_s

    def steps_s(self) -> dict[str, float]:
        before = [self.began_s, *(self.at_s[step] for step in STEPS)]
        return {step: self.at_s[step] - earlier for step, earlier in zip(STEPS, before, strict=False)}


def read_steps(lines: Iterator[str]) -> Iterator[tuple[float, str, str, float]]:
    """Unix seconds, round, step, and what an evaluation took (0 for other steps), of a node's log lines that tell one."""
    for line in lines:
        if found := _LINE.match(line):
            stamp, round, step, taken, took_s = found.groups()
            at_s = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
            yield at_s, round, step or taken, float(took_s or 0.0)


def take_steps(trial: Trial, told: Sequence[tuple[float, str, str, float]]) -> bool:
    """Fill ``trial`` with the steps of its last round; False when a step is missing."""
    within = [one for one in told if trial.began_s <= one[0] <= trial.at_s["running"]]
    rounds = [round for _, round, step, _ in within if step == "opened"]
    for at_s, round, step, took_s in within:
        if rounds and round == rounds[-1] and step in STEPS:
            known = trial.at_s.get(step)
            trial.at_s[step] = at_s if known is None else max(known, at_s) if step in _LAST else min(known, at_s)
            trial.evaluation_s = max(trial.evaluation_s, took_s)
    return all(step in trial.at_s for step in STEPS)


class Cluster:
    """A development cluster for the time of a ``with`` block."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self._temporary = tempfile.TemporaryDirectory(prefix="veil-bench-", ignore_cleanup_errors=True)
        self.directory = Path(self._temporary.name) / "c"

    def __enter__(self) -> "Cluster":
        try:
            self._veil("up", "--nodes", str(NODES), "--runtime", self.runtime)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._veil("down")
        self._temporary.cleanup()

    def _veil(self, *arguments: str) -> None:
        """Raises NodeUnavailable with what was printed."""
        command = [sys.executable, "-m", "veil", "dev", *arguments, "--dir", str(self.directory)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=UP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            hint = "run it with fewer other things at once"
            raise NodeUnavailable(f"veil dev {arguments[0]} took over {UP_TIMEOUT_S:.0f} s", hint=hint) from error
        if done.returncode:
            raise NodeUnavailable(
                f"veil dev {arguments[0]} ended with {done.returncode}", hint=(done.stderr or done.stdout)[-500:]
            )

    def api(self) -> ApiClient:
        return ApiClient(KubeConfig(server=f"unix://{Layout(self.directory).node('node-1') / 'api.sock'}"))

    def cpu_s(self) -> dict[str, float]:
        """Processor time so far by kind of process: ``evald``, ``node``, ``chain`` …"""
        found = status_of(Layout(self.directory))
        processes = [("chain", found["chain"]["pid"]), *(item for node in found["nodes"] for item in node["pids"].items())]
        used: dict[str, float] = {}
        for role, pid in processes:
            times = psutil.Process(pid).cpu_times()
            used[role] = used.get(role, 0.0) + times.user + times.system
        return used

    def told(self) -> list[tuple[float, str, str, float]]:
        """The steps of all rounds, by time."""
        logs = [Layout(self.directory).node(f"node-{number}") / "node.log" for number in range(1, NODES + 1)]
        return sorted(step for log in logs for step in read_steps(iter(log.read_text().splitlines())))


def manifest(name: str, replicas: int) -> Obj:
    """A workload that starts at once and ends at once."""
    command = ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"]
    resources = {"requests": {"cpu": "20m", "memory": "16Mi"}}
    container = {"name": "main", "image": "veil.dev/busybox:1", "command": command, "resources": resources}
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"replicas": replicas, "template": {"terminationGracePeriodSeconds": 1, "containers": [container]}},
    }


async def _until(api: ApiClient, running: int) -> None:
    """Until exactly so many Instances are there and run."""
    async with asyncio.timeout(PLACED_TIMEOUT_S):
        listed = await api.list(INSTANCES, NAMESPACE)
        phases = {one["metadata"]["name"]: one.get("status", {}).get("phase") for one in listed["items"]}
        if _is_so(phases, running):
            return
        async for change in api.watch(INSTANCES, NAMESPACE, since=listed["metadata"]["resourceVersion"]):
            name = change.object["metadata"].get("name", "")
            if change.type == "DELETED":
                phases.pop(name, None)
            elif change.type in ("ADDED", "MODIFIED"):
                phases[name] = change.object.get("status", {}).get("phase")
            if _is_so(phases, running):
                return


def _is_so(phases: Mapping[str, str | None], running: int) -> bool:
    return len(phases) == running and all(phase == "Running" for phase in phases.values())


async def _try_once(cluster: Cluster, api: ApiClient, name: str, replicas: int) -> Trial:
    before = cluster.cpu_s()
    trial = Trial(time.time())
    await api.create(WORKLOADS, manifest(name, replicas), NAMESPACE)
    trial.at_s["admitted"] = time.time()
    await _until(api, replicas)
    trial.at_s["running"] = time.time()
    after = cluster.cpu_s()
    trial.evaluators_cpu_s = after["evald"] - before["evald"]
    trial.cluster_cpu_s = sum(after.values()) - sum(before.values())
    await api.delete(WORKLOADS, name, NAMESPACE)
    await _until(api, 0)
    return trial


async def measure(replicas: int = 1, rounds: int = 10, runtime: str = "") -> Figure:
    """Medians over ``rounds`` workloads, after one that is not counted."""
    runtime = runtime or ("process" if available() else "containerd")
    load_average = os.getloadavg()[0]
    with Cluster(runtime) as cluster:
        async with cluster.api() as api:
            trials = [await _try_once(cluster, api, f"round-{number}", replicas) for number in range(rounds + 1)][1:]
        told = cluster.told()
    whole = [trial for trial in trials if take_steps(trial, told)]
    if not whole:
        raise NodeUnavailable("no round was told in full by the nodes' logs", hint="run it with fewer other things at once")
    steps = [trial.steps_s() for trial in whole]
    middle, cores = statistics.median, len(os.sched_getaffinity(0))
    return Figure(
        round_s=round(middle(trial.round_s for trial in whole), 3),
        round_worst_s=round(max(trial.round_s for trial in whole), 3),
        apply_s=round(middle(trial.apply_s for trial in whole), 3),
        apply_worst_s=round(max(trial.apply_s for trial in whole), 3),
        steps_s={step: round(middle(taken[step] for taken in steps), 3) for step in STEPS},
        evaluation_s=round(middle(trial.evaluation_s for trial in whole), 3),
        round_floor_s=round(middle(trial.evaluators_cpu_s for trial in whole) / cores, 3),
        apply_floor_s=round(middle(trial.cluster_cpu_s for trial in whole) / cores, 3),
        rounds=len(whole),
        nodes=NODES,
        replicas=replicas,
        runtime=runtime,
        cores=cores,
        load_average=round(load_average, 2),
    )


def show(figure: Figure) -> None:
    """The table."""
    print(f"{figure.rounds} workloads of {figure.replicas} on {figure.nodes} nodes ({figure.runtime}), {figure.cores} cores,")
    print(f"load {figure.load_average} before; medians in seconds, each from the step before\n")
    for step, taken_s in figure.steps_s.items():
        print(f"{step:10} {taken_s:7.3f}  {MEANS[step]}")
    print(f"\nround      {figure.round_s:7.3f}  opened to appended; worst {figure.round_worst_s}; promised {PROMISED_ROUND_S}")
    print(f"  of which {figure.evaluation_s:7.3f}  the circuit, the slowest member's")
    print(f"  floor    {figure.round_floor_s:7.3f}  processor time of all evaluators, by the cores")
    print(f"apply      {figure.apply_s:7.3f}  API call to all running; worst {figure.apply_worst_s}")
    print(f"  floor    {figure.apply_floor_s:7.3f}  processor time of the whole cluster, by the cores")
    print(f"                    promised {PROMISED_APPLY_S} for 3 replicas")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rounds", description="What a whole placement round costs.")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10, help="workloads that are measured; times are medians")
    parser.add_argument("--runtime", choices=("containerd", "process"), help="default: containerd where it can run")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.replicas < 1:
        parser.error("--rounds and --replicas: at least 1")
    figure = asyncio.run(measure(arguments.replicas, arguments.rounds, arguments.runtime or ""))
    if arguments.json:
        print(json.dumps(msgspec.to_builtins(figure)))
    else:
        show(figure)


if __name__ == "__main__":
    main()

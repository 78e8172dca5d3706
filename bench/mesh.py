"""Who is alive, beside serf: ``python -m bench.mesh --nodes 30 [--beside serf] [--json]``.

Rows marked *real* are of processes on this machine: one meshd a node and one serf agent a node, one after the other in the
same run, never together, each on a wire of its own (:mod:`bench.mesh_wires`, which needs root). A silent death is a cut wire:
iptables drops all that comes and goes, connections stay open and nothing more comes. Times are from the event until the last of
the others saw it. Rows marked *simulated* are of :mod:`bench.mesh_detection`.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.mesh_cluster import Cluster, cluster
from bench.mesh_detection import measure
from bench.mesh_form import form
from bench.mesh_serf import Agent, SerfCluster, serf_cluster
from bench.mesh_wires import Wires, wires
from veil.mesh.client import LibP2PMesh
from veil.mesh.ports import Handler, PeerState
from veil.types import PeerId

QUIET_S = 10.0
BLOB_RUNS = 3
IDLE_S = 30.0
"""For messages and CPU."""

BLOB_BYTES = 114 * 1024 * 1024
"""The largest evaluation keys."""

TELEMETRY_NODES, TELEMETRY_BYTES, COMMITTEE = 16, 16_416, 3


@dataclass(kw_only=True)
class Result:
    """Times in seconds; ``*_vs_serf`` are ratios, None without serf."""

    nodes: int
    death_seen_by_all_s: float
    silent_death_seen_by_all_s: float
    join_seen_by_all_s: float
    messages_per_s_per_node: float
    cpu_per_node: float
    false_deaths: int
    blob_mb_per_s: float
    blob_cpu_s: float
    telemetry_s: float
    telemetry_senders: int
    form_nodes: int | None = None
    form_processes: int | None = None
    form_s: float | None = None
    form_false_deaths: int | None = None
    load: float
    death_seen_by_all_vs_serf: float | None = None
    silent_death_vs_serf: float | None = None
    join_vs_serf: float | None = None
    serf_death_s: float | None = None
    serf_silent_death_s: float | None = None
    serf_join_s: float | None = None
    serf_cpu_per_node: float | None = None


async def measure_veil(directory: Path, count: int, deaths: int) -> Result:
    """``deaths`` of each kind, the medians of their times."""
    with wires() as cables:
        return await _measure_veil(directory, count, deaths, cables)


async def _measure_veil(directory: Path, count: int, deaths: int, cables: Wires) -> Result:
    async with cluster(directory, count, wires=cables) as veil:
        await asyncio.sleep(QUIET_S)
        frames, cpu_s = veil.frames_sent(), veil.cpu_s()
        await asyncio.sleep(IDLE_S)
        frames, cpu_s = veil.frames_sent() - frames, veil.cpu_s() - cpu_s
        newcomer = await veil.add()
        veil.register()
        join_s = await veil.until_all_see(newcomer, PeerState.ALIVE)
        blob_mb_per_s, blob_cpu_s = await _blob(veil)
        telemetry_s, telemetry_senders = await _telemetry(veil)
        killed, silent = [], []
        for _ in range(deaths):
            veil.kill(victim := veil.up()[-1])
            killed.append(await veil.until_all_see(victim, PeerState.DEAD))
            veil.cut(victim := veil.up()[-1])
            silent.append(await veil.until_all_see(victim, PeerState.DEAD))
            veil.kill(victim)
        return Result(
            nodes=count,
            death_seen_by_all_s=round(statistics.median(killed), 2),
            silent_death_seen_by_all_s=round(statistics.median(silent), 2),
            join_seen_by_all_s=round(join_s, 2),
            messages_per_s_per_node=round(frames / IDLE_S / count, 2),
            cpu_per_node=round(cpu_s / IDLE_S / count, 4),
            false_deaths=veil.false_deaths,
            blob_mb_per_s=round(blob_mb_per_s, 1),
            blob_cpu_s=round(blob_cpu_s, 2),
            telemetry_s=round(telemetry_s, 3),
            telemetry_senders=telemetry_senders,
            load=round(os.getloadavg()[0], 1),
        )


async def _blob(veil: Cluster) -> tuple[float, float]:
    """MB/s of the largest evaluation keys from one node to another, and CPU seconds of the busier end."""
    server, reader = veil.nodes[0], veil.nodes[1]
    digest = await server.put(os.urandom(BLOB_BYTES))
    await asyncio.sleep(1)
    ends = veil.processes()[:2]
    cpu_s = [sum(end.cpu_times()[:2]) for end in ends]
    took_s = []
    for _ in range(BLOB_RUNS):
        began_s = time.monotonic()
        await reader.get(digest, sources=[server.peer_id], deadline_s=120)
        took_s.append(time.monotonic() - began_s)
        await reader.drop(digest)
    spent_s = max(sum(end.cpu_times()[:2]) - before for end, before in zip(ends, cpu_s, strict=True)) / BLOB_RUNS
    await server.drop(digest)
    return BLOB_BYTES / 1e6 / statistics.median(took_s), spent_s


async def _telemetry(veil: Cluster) -> tuple[float, int]:
    """How long after a round's opening each of a committee has a ciphertext of each of 16 nodes, or of all others; of how many.

    As in a round: the coordinator, the first member, opens; each candidate commits; it is shown all commitments; it sends its
    ciphertext to each member. The median of BLOB_RUNS rounds.
    """
    members = veil.nodes[: min(COMMITTEE, len(veil.nodes) - 1)]
    senders = veil.nodes[len(members) :][:TELEMETRY_NODES]
    ciphertext = os.urandom(TELEMETRY_BYTES)
    arrived_s: list[float] = []

    async def take(sender: PeerId, payload: bytes) -> bytes:
        arrived_s.append(time.monotonic())
        return b""

    async def commit(sender: PeerId, payload: bytes) -> bytes:
        return os.urandom(200)

    def sends(candidate: LibP2PMesh) -> Handler:
        async def send(sender: PeerId, payload: bytes) -> bytes:
            asked = (candidate.request(member.peer_id, "bench-telemetry/1", ciphertext, deadline_s=30) for member in members)
            await asyncio.gather(*asked)
            return b""

        return send

    for member in members:
        member.serve("bench-telemetry/1", take)
    for candidate in senders:
        candidate.serve("bench-open/1", commit)
        candidate.serve("bench-inputs/1", sends(candidate))
    took_s = []
    for _ in range(BLOB_RUNS):
        arrived_s.clear()
        began_s = time.monotonic()
        for protocol, size_bytes in (("bench-open/1", 1000), ("bench-inputs/1", 200 * len(senders))):
            asked = (members[0].request(one.peer_id, protocol, bytes(size_bytes), deadline_s=30) for one in senders)
            await asyncio.gather(*asked)
        took_s.append(max(arrived_s) - began_s)
    return statistics.median(took_s), len(senders)


async def measure_serf(result: Result, count: int, deaths: int) -> None:
    """The same with serf; fills in its times and the ratios."""
    with wires() as cables:
        await _measure_serf(result, count, deaths, cables)


async def _measure_serf(result: Result, count: int, deaths: int, cables: Wires) -> None:
    async with serf_cluster(count, cables) as serf:
        await asyncio.sleep(QUIET_S)
        cpu_s = serf.cpu_s(serf.agents)
        await asyncio.sleep(IDLE_S)
        result.serf_cpu_per_node = round((serf.cpu_s(serf.agents) - cpu_s) / IDLE_S / count, 4)
        began_s = time.monotonic()
        newcomer = await serf.add()
        joined_s = await serf.all_saw("Join", newcomer, serf.agents[:-1]) - began_s
        killed, silent = [], []
        up = list(serf.agents)
        for _ in range(deaths):
            killed.append(await _serf_death(serf, up, lambda agent: agent.signal(signal.SIGKILL)))
            silent.append(await _serf_death(serf, up, lambda agent: agent.wire.cut()))
    result.serf_join_s = round(joined_s, 2)
    result.serf_death_s = round(statistics.median(killed), 2)
    result.serf_silent_death_s = round(statistics.median(silent), 2)
    result.join_vs_serf = round(result.join_seen_by_all_s / joined_s, 2)
    result.death_seen_by_all_vs_serf = round(result.death_seen_by_all_s / statistics.median(killed), 2)
    result.silent_death_vs_serf = round(result.silent_death_seen_by_all_s / statistics.median(silent), 2)


async def _serf_death(serf: SerfCluster, up: list[Agent], end: Callable[[Agent], None]) -> float:
    victim = up.pop()
    began_s = time.monotonic()
    end(victim)
    return await serf.all_saw("Failed", victim, up) - began_s


def table(result: Result) -> str:
    """One row a measurement, with its peer and its bound."""
    rows = [
        ("real", "SIGKILL seen by all", f"{result.death_seen_by_all_s} s", result.serf_death_s, result.death_seen_by_all_vs_serf),
        (
            "real",
            "silent death seen by all",
            f"{result.silent_death_seen_by_all_s} s",
            result.serf_silent_death_s,
            result.silent_death_vs_serf,
        ),
        ("real", "join seen by all", f"{result.join_seen_by_all_s} s", result.serf_join_s, result.join_vs_serf),
        ("real", "messages/s/node", f"{result.messages_per_s_per_node}", None, None),
        ("real", "of a core a node", f"{100 * result.cpu_per_node:.2f} %", result.serf_cpu_per_node, None),
        ("real", "false deaths", f"{result.false_deaths}", None, None),
        ("real", "114 MB blob", f"{result.blob_mb_per_s} MB/s ({result.blob_cpu_s} s of CPU at the busier end)", None, None),
        ("real", f"telemetry of {result.telemetry_senders} nodes at {COMMITTEE} members", f"{result.telemetry_s} s", None, None),
    ]
    if result.form_s is not None:
        name = f"{result.form_nodes} nodes in {result.form_processes} processes form"
        rows.append(("real", name, f"{result.form_s} s, {result.form_false_deaths} false deaths", None, None))
    lines = [f"{result.nodes} nodes, load average {result.load}", f"{'':10}{'':36}{'Veil':44}{'serf':10}{'ratio'}"]
    for mark, name, ours, theirs, ratio in rows:
        lines.append(
            f"{mark:10}{name:36}{ours:44}{theirs if theirs is not None else '-':<10}{ratio if ratio is not None else '-'}"
        )
    return "\n".join(lines)


async def _run(options: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(prefix="bench-mesh-") as directory:
        result = await measure_veil(Path(directory), options.nodes, options.deaths)
        if options.form:
            formed = await form(options.form, options.processes, Path(directory))
            result.form_nodes, result.form_processes = formed.nodes, formed.processes
            result.form_s, result.form_false_deaths = formed.seen_s, formed.false_deaths
    if options.beside == "serf":
        await measure_serf(result, options.nodes, options.deaths)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.mesh", description="Who is alive, beside serf.")
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--deaths", type=int, default=3, help="of each kind")
    parser.add_argument("--form", type=int, default=100, help="how many nodes shall find together, in --processes; 0 for none")
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--beside", choices=["serf"])
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    options = parser.parse_args()
    result = asyncio.run(_run(options))
    simulated = measure(options.nodes, options.deaths)
    if options.json:
        marked = {key: asdict(simulated)[key] for key in ("killed_all_s", "silent_all_s", "messages_per_s_per_member")}
        sys.stdout.write(json.dumps({"kind": "real", **asdict(result), "simulated": marked}) + "\n")
        return
    sys.stdout.write(table(result) + "\n")
    sys.stdout.write(f"{'simulated':10}{'killed, seen by all':36}{simulated.killed_all_s} s\n")
    sys.stdout.write(f"{'simulated':10}{'silent, seen by all':36}{simulated.silent_all_s} s\n")


if __name__ == "__main__":
    main()

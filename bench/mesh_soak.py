"""Real nodes over a lossy network for a long time: ``make soak-mesh`` (an hour), ``python -m bench.mesh_soak --minutes 1``.

Reports who was declared dead without being it, and what grew: memory, file descriptors and threads of every meshd. Every ten
minutes a node stands still for 20 s (SIGSTOP): it may be suspected and declared dead, and has to be back without anybody's help.
The make target runs it in a network namespace of its own in which a part of all packets is dropped.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.mesh_cluster import Cluster, cluster
from veil.mesh.ports import PeerState

STALL_S = 20.0
STALL_INTERVAL_S = 600.0
BACK_TIMEOUT_S = 60.0
WARM_S = 30.0
"""After it, what a meshd holds is compared with what it holds at the end."""

LOOK_INTERVAL_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Held:
    """What one meshd holds; the largest of all."""

    rss_mib: float
    fds: int
    threads: int


def held(veil: Cluster) -> Held:
    processes = veil.processes()
    return Held(
        rss_mib=round(max(process.memory_info().rss for process in processes) / 1024**2, 1),
        fds=max(process.num_fds() for process in processes),
        threads=max(process.num_threads() for process in processes),
    )


def drop_packets(percent: float) -> None:
    """In this network namespace, of everything that comes in by loopback. Needs root and a namespace of its own."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if percent:
        probability = f"{percent / 100:.3f}"
        rule = ["-A", "INPUT", "-i", "lo", "-m", "statistic", "--mode", "random", "--probability", probability, "-j", "DROP"]
        subprocess.run(["iptables", *rule], check=True)


async def soak(nodes: int, minutes: float, directory: Path) -> dict[str, object]:
    """What came of it."""
    stalls = came_back = 0
    async with cluster(directory, nodes) as veil:
        await asyncio.sleep(WARM_S)
        before, cpu_s, began_s = held(veil), veil.cpu_s(), time.monotonic()
        next_stall_s = began_s + min(STALL_INTERVAL_S, minutes * 60 / 3)
        while time.monotonic() - began_s < minutes * 60:
            await asyncio.sleep(LOOK_INTERVAL_S)
            if time.monotonic() >= next_stall_s:
                next_stall_s += STALL_INTERVAL_S
                stalls += 1
                came_back += await _stall(veil, stalls % nodes)
        after, lasted_s = held(veil), time.monotonic() - began_s
        return {
            "kind": "real",
            "nodes": nodes,
            "minutes": round(lasted_s / 60, 1),
            "false_deaths": veil.false_deaths,
            "stalls": stalls,
            "came_back": came_back,
            "cpu_per_node": round((veil.cpu_s() - cpu_s) / lasted_s / nodes, 4),
            "before": asdict(before),
            "after": asdict(after),
        }


async def _stall(veil: Cluster, number: int) -> bool:
    """One node stands still; whether everybody sees it alive again."""
    victim = veil.nodes[number]
    veil.stop(victim)
    await asyncio.sleep(STALL_S)
    veil.resume(victim)
    # What it says of others when it wakes counts; what others say of it until it has refuted does not.
    veil.ended.add(victim.peer_id)
    try:
        await veil.until_all_see(victim, PeerState.ALIVE, BACK_TIMEOUT_S)
    except TimeoutError:
        return False
    finally:
        veil.ended.discard(victim.peer_id)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.mesh_soak", description="Real nodes over a lossy network for a long time.")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--loss", type=float, help="percent of packets to drop; only in a network namespace of its own")
    options = parser.parse_args()
    if options.loss is not None:
        drop_packets(options.loss)
    with tempfile.TemporaryDirectory(prefix="soak-mesh-") as directory:
        result = asyncio.run(soak(options.nodes, options.minutes, Path(directory)))
    sys.stdout.write(json.dumps(result) + "\n")
    if result["false_deaths"] or result["stalls"] != result["came_back"]:
        sys.exit("a node was declared dead that was not, or did not come back")


if __name__ == "__main__":
    main()

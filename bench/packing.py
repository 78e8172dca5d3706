"""How much demand a cluster accepts when nodes are chosen on ciphertexts: ``python -m bench.packing``.

Every policy sees the same workloads come and go; what it accepts is compared with best-fit on exact figures, history by history.
The encoded policies use the encoding of a key epoch and compute what the circuit computes, without encrypting: encryption
changes the cost of a decision, not the decision.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np

from bench.packing_load import LOADS, MIXES, RESOURCES, History, history
from bench.packing_plot import bar_chart
from bench.packing_policies import Encoded, Exact, Policy
from bench.packing_sim import simulate
from veil.fhe.encoding import GIB, default_encoding

SEEDS = 8
"""Clusters and histories for each mix and load."""

REFERENCE = {"cpu_milli": 32_000, "memory_bytes": 128 * GIB}
"""A round figure near the mean of the simulated nodes, which an epoch can name for all nodes to measure themselves against."""

BASELINE = "best-fit"

Make = Callable[[History, int], Policy]

POLICIES: dict[str, Make] = {
    BASELINE: lambda past, seed: Exact(past, "best-fit", seed),
    "default": lambda past, seed: Encoded(past, default_encoding(), seed),
    "default+ref": lambda past, seed: Encoded(past, default_encoding(REFERENCE), seed),
    "default+ref+fallback": lambda past, seed: Encoded(past, default_encoding(REFERENCE), seed, fallback=True),
    "first-fit": lambda past, seed: Exact(past, "first-fit", seed),
    "random": lambda past, seed: Exact(past, "random", seed),
    "spread": lambda past, seed: Exact(past, "spread", seed),
}
"""``default`` is what a key ceremony makes unless told otherwise. The fallback is a study: no node does it yet."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Accepted demand against exact best-fit, in percent; the spread is the standard deviation over seeds."""

    mean_pct: float
    spread_pct: float
    refusals: float
    """Offers that a node refused, for each workload."""


def measure(past: History, seed: int, policies: dict[str, Make] = POLICIES) -> dict[str, dict[str, Loss]]:
    """By policy and mix, loads averaged. Needs at least two seeds; ``policies`` must have the baseline."""
    outcomes = {name: simulate(past, make(past, seed)) for name, make in policies.items()}
    exact = outcomes[BASELINE].accepted
    lanes = past.lanes
    found: dict[str, dict[str, Loss]] = {}
    for name, outcome in outcomes.items():
        loss = 100 * (1 - outcome.accepted / exact)
        found[name] = {}
        for mix in dict.fromkeys(lane.mix for lane in lanes):
            mine = np.array([lane.mix == mix for lane in lanes])
            seeds = sorted({lane.seed for lane in lanes})
            by_seed = [float(loss[mine & np.array([lane.seed == one for lane in lanes])].mean()) for one in seeds]
            refusals = float(outcome.refusals[mine].mean())
            found[name][mix] = Loss(float(np.mean(by_seed)), float(np.std(by_seed, ddof=1)), refusals)
    return found


def table(resources: int, found: dict[str, dict[str, Loss]]) -> str:
    """Markdown: a policy a line, a mix a column."""
    mixes = list(found[BASELINE])
    lines = [f"| loss in %, R={resources} | " + " | ".join(mixes) + " | refused offers |", "|---" * (len(mixes) + 2) + "|"]
    for name, by_mix in found.items():
        if name == BASELINE:
            continue
        cells = [f"{by_mix[mix].mean_pct:.2f} ± {by_mix[mix].spread_pct:.2f}" for mix in mixes]
        refused = np.mean([one.refusals for one in by_mix.values()])
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {refused:.4f} |")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="The first of the seeds.")
@click.option("--nodes", default=32, show_default=True, type=click.IntRange(2, 64), help="Nodes of a cluster.")
@click.option("--jobs", default=6000, show_default=True, type=click.IntRange(min=100), help="Workloads that arrive in a history.")
@click.option("--alike", is_flag=True, help="Nodes of one size (32 cores, 128 GiB) instead of a mixture.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead of tables.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a bar chart (SVG).")
def main(seed: int, nodes: int, jobs: int, alike: bool, as_json: bool, plot: Path | None) -> None:
    """Simulate packing by exact and by encoded policies, and print what each loses."""
    started_s = time.monotonic()
    seeds = range(seed, seed + SEEDS)
    pasts = {count: history(seeds=seeds, nodes=nodes, jobs=jobs, resources=count, alike=alike) for count in (2, len(RESOURCES))}
    found = {count: measure(past, seed) for count, past in pasts.items()}
    if plot is not None:
        plot.write_text(bar_chart(_bars(found[2]), list(MIXES)), encoding="utf-8")
    wall_s = time.monotonic() - started_s
    if as_json:
        default = max(one.mean_pct for one in found[2]["default"].values())
        result = {
            "seed": seed,
            "seeds": SEEDS,
            "nodes": nodes,
            "jobs": jobs,
            "alike": alike,
            "packing_loss": default,
            "loss": found,
            "wall_s": wall_s,
        }
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    loads = ", ".join(f"{load:.0%}" for load in LOADS)
    kind = "alike" if alike else "mixed"
    click.echo(
        f"seeds {seed} to {seeds.stop - 1}, {nodes} {kind} nodes, {jobs} workloads a history, loads {loads}, {wall_s:.0f} s"
    )
    for count, losses in found.items():
        click.echo("\n" + table(count, losses))


def _bars(found: dict[str, dict[str, Loss]]) -> dict[str, list[tuple[float, float]]]:
    return {
        name: [(one.mean_pct, one.spread_pct) for one in by_mix.values()] for name, by_mix in found.items() if name != BASELINE
    }


if __name__ == "__main__":
    main()

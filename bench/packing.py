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
from bench.packing_plot import bar_chart, scatter_chart
from bench.packing_policies import Encoded, Exact, Policy
from bench.packing_sim import simulate
from veil.fhe.circuits.spec import CircuitSpec, lookups
from veil.fhe.encoding import Name, default_encoding
from veil.fhe.material import Profile
from veil.fhe.sizes import GIB

SEEDS = 8
"""Clusters and histories for each mix and load."""

REFERENCES: dict[str, dict[Name, int] | None] = {
    "": None,
    ", reference / 8": {"cpu_milli": 4_000, "memory_bytes": 16 * GIB},
    ", reference x 8": {"cpu_milli": 256_000, "memory_bytes": 1024 * GIB},
}
"""None is 32 cores and 128 GiB, as in an epoch that names none; the simulated nodes' mean is near it."""

BASELINE = "best-fit"

PBS_S, FIXED_S = 0.0082, 0.041
"""Of a decision on two cores, for the plot: `python -m bench.placement` measures both anew."""

Make = Callable[[History, int], Policy]


def _encoded(profile: Profile, *, reference: str = "", fallback: bool = False) -> Make:
    encoding = default_encoding(REFERENCES[reference])
    return lambda past, seed: Encoded(past, encoding, seed, profile=profile, fallback=fallback)


PROFILES: tuple[Profile, ...] = ("default", "precise")

POLICIES: dict[str, Make] = {
    BASELINE: lambda past, seed: Exact(past, "best-fit", seed),
    **{profile: _encoded(profile) for profile in PROFILES},
    **{f"{profile}+fallback": _encoded(profile, fallback=True) for profile in PROFILES},
    **{f"default{other}": _encoded("default", reference=other) for other in REFERENCES if other},
    "first-fit": lambda past, seed: Exact(past, "first-fit", seed),
    "random": lambda past, seed: Exact(past, "random", seed),
    "spread": lambda past, seed: Exact(past, "spread", seed),
}

AGES = {"fresh": 0, "stale": 10}
"""Arrivals between what nodes tell and what is decided by it. A round asks for fresh telemetry; a batch of ten has the age 10."""


COUNTS = ("2", str(len(RESOURCES)))
"""Of resources: cpu and memory, or all."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Accepted demand against exact best-fit, in percent; the spread is the standard deviation over seeds."""

    mean_pct: float
    spread_pct: float
    refusals: float
    """Offers that a node refused, for each workload."""


def measure(past: History, seed: int, policies: dict[str, Make] = POLICIES, *, age: int = 0) -> dict[str, dict[str, Loss]]:
    """By policy and mix, loads averaged. Needs at least two seeds; ``policies`` must have the baseline, which is always fresh."""
    outcomes = {name: simulate(past, make(past, seed), age=age) for name, make in policies.items()}
    exact = (outcomes[BASELINE] if age == 0 else simulate(past, policies[BASELINE](past, seed))).accepted
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


def loss_of(profile: Profile, *, seed: int = 1, jobs: int = 3000) -> float:
    """A short run: percent that a profile with fallback loses against exact best-fit, R=2, mean of all mixes."""
    past = history(seeds=range(seed, seed + 2), nodes=32, jobs=jobs, resources=2)
    policies = {BASELINE: POLICIES[BASELINE], profile: POLICIES[f"{profile}+fallback"]}
    found = measure(past, seed, policies)[profile]
    return float(np.mean([found[mix].mean_pct for mix in MIXES]))


def table(title: str, found: dict[str, dict[str, Loss]]) -> str:
    """Markdown: a policy a line, a mix a column."""
    mixes = list(found[BASELINE])
    lines = [f"| loss in %, {title} | " + " | ".join(mixes) + " | refused offers |", "|---" * (len(mixes) + 2) + "|"]
    for name, by_mix in found.items():
        if name == BASELINE and by_mix[mixes[0]].mean_pct == 0:
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
@click.option(
    "--resources", "counts", type=click.Choice(COUNTS), multiple=True, default=COUNTS, help="Only with so many; repeatable."
)
@click.option(
    "--telemetry", "ages", type=click.Choice(tuple(AGES)), multiple=True, default=tuple(AGES), help="Only fresh, or stale."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead of tables.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a bar chart (SVG).")
@click.option("--latency-plot", type=click.Path(dir_okay=False, path_type=Path), help="Write latency against loss (SVG).")
def main(
    seed: int,
    nodes: int,
    jobs: int,
    alike: bool,
    counts: tuple[str, ...],
    ages: tuple[str, ...],
    as_json: bool,
    plot: Path | None,
    latency_plot: Path | None,
) -> None:
    """Simulate packing by exact and by encoded policies, and print what each loses."""
    started_s = time.monotonic()
    seeds = range(seed, seed + SEEDS)
    found: dict[str, dict[str, dict[str, Loss]]] = {}
    for count in counts:
        past = history(seeds=seeds, nodes=nodes, jobs=jobs, resources=int(count), alike=alike)
        found |= {f"R={count}, {name}": measure(past, seed, age=AGES[name]) for name in ages}
    first = next(iter(found.values()))
    if plot is not None:
        plot.write_text(bar_chart(_bars(first), list(MIXES)), encoding="utf-8")
    if latency_plot is not None:
        latency_plot.write_text(scatter_chart(_points(first), "seconds for one decision, 16 nodes"), encoding="utf-8")
    wall_s = time.monotonic() - started_s
    if as_json:
        result = {
            "seed": seed,
            "seeds": SEEDS,
            "nodes": nodes,
            "jobs": jobs,
            "alike": alike,
            "packing_loss": {profile: max(one.mean_pct for one in first[profile].values()) for profile in PROFILES},
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
    for title, losses in found.items():
        click.echo("\n" + table(title, losses))


def _bars(found: dict[str, dict[str, Loss]]) -> dict[str, list[tuple[float, float]]]:
    """Profiles with fallback, as nodes do it."""
    shown = {name: by_mix for name, by_mix in found.items() if name not in (BASELINE, *PROFILES) and "reference" not in name}
    return {name: [(one.mean_pct, one.spread_pct) for one in by_mix.values()] for name, by_mix in shown.items()}


def _points(found: dict[str, dict[str, Loss]]) -> dict[str, tuple[float, float]]:
    """By policy: seconds of a decision, and the mean loss of all mixes. Decisions in clear take no time."""
    points = {}
    for name, by_mix in found.items():
        profile = next((one for one in PROFILES if name.startswith(one)), None)
        if "reference" in name:
            continue
        bootstraps = lookups(CircuitSpec(profile, "choose", 16)) if profile else 0
        seconds = FIXED_S + PBS_S * bootstraps if profile else 0.0
        points[name] = (seconds, float(np.mean([one.mean_pct for one in by_mix.values()])))
    return points


if __name__ == "__main__":
    main()

"""How long simulated members take to see a death: ``python -m bench.mesh_detection [--plot FILE] [--json]``.

Everything here is simulated: the product's state machines in virtual time (:mod:`bench.mesh_sim`). Beside it stands what
memberlist's figures give by SWIM's formula, for a member that falls silent.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.mesh_plot import line_chart
from bench.mesh_sim import Network
from veil.mesh.ports import PeerState
from veil.mesh.preset import LAN, Preset
from veil.types import PeerId

TRIALS = {10: 20, 30: 20, 100: 10, 1000: 2}
"""By number of members; a death among 1,000 takes a minute of CPU."""

QUIET_S = 10.0
IDLE_S = 10.0
LONGEST_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians over the trials, in simulated seconds after the death."""

    members: int
    trials: int
    killed_first_s: float
    killed_all_s: float
    silent_first_s: float
    silent_all_s: float
    formula_s: float
    messages_per_s_per_member: float
    false_deaths: int


def formula_s(members: int, preset: Preset = LAN) -> float:
    """Until a silent member is first declared dead, by SWIM and memberlist.

    It is first probed after e/(e-1) intervals in the mean (SWIM, section 3.2), each probe taking one, and the suspicion then
    lasts its shortest, because enough others confirm it.
    """
    shortest_s, _ = preset.suspicion_s(members)
    return math.e / (math.e - 1) * preset.probe_interval_s + shortest_s


def measure(members: int, trials: int, seed: int = 1) -> Row:
    """One death of each kind in each trial, among the same members."""
    network = Network(members, seed=seed, settled=True)
    network.run(QUIET_S)
    sent = network.sent
    network.run(IDLE_S)
    messages = (network.sent - sent) / members / IDLE_S
    killed: list[tuple[float, float]] = []
    silent: list[tuple[float, float]] = []
    victims = network.rng.choices(network.peers, k=2 * trials)
    for number, victim in enumerate(victims):
        (killed if number % 2 == 0 else silent).append(_death(network, victim, kill=number % 2 == 0))
        network.boot(network.signatories[network.peers.index(victim)])
        network.run(QUIET_S)
    return Row(
        members=members,
        trials=trials,
        killed_first_s=_median([first for first, _ in killed]),
        killed_all_s=_median([last for _, last in killed]),
        silent_first_s=_median([first for first, _ in silent]),
        silent_all_s=_median([last for _, last in silent]),
        formula_s=round(formula_s(members), 1),
        messages_per_s_per_member=round(messages, 2),
        false_deaths=len({(of, at) for at, _, of in network.deaths() if of not in victims}),
    )


def _death(network: Network, victim: PeerId, *, kill: bool) -> tuple[float, float]:
    """When the first and the last of the others saw it."""
    began_s, before = network.now_s, len(network.changes)
    if kill:
        network.kill(victim)
    else:
        network.down.add(victim)
    waiting = len(network.peers) - 1
    counted = before

    def all_saw() -> bool:
        nonlocal waiting, counted
        for _, _, of, state in network.changes[counted:]:
            waiting -= of == victim and state is PeerState.DEAD
        counted = len(network.changes)
        return waiting == 0

    if not network.run(LONGEST_S, all_saw):
        raise RuntimeError(f"{waiting} members did not see a death within {LONGEST_S} s")
    seen = [at for at, _, of, state in network.changes[before:] if of == victim and state is PeerState.DEAD]
    return min(seen) - began_s, max(seen) - began_s


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


def table(rows: Sequence[Row]) -> str:
    """In Markdown, for the docs."""
    lines = [
        "| members (simulated) | trials | killed: first | killed: all | silent: first | silent: all | formula | msgs/s/member |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.members:,} | {row.trials} | {row.killed_first_s} s | {row.killed_all_s} s | {row.silent_first_s} s "
            f"| {row.silent_all_s} s | {row.formula_s} s | {row.messages_per_s_per_member} |"
        )
    return "\n".join(lines)


def plot(rows: Sequence[Row]) -> str:
    return line_chart(
        {
            "silent, seen by all": [(row.members, row.silent_all_s) for row in rows],
            "memberlist's formula": [(row.members, row.formula_s) for row in rows],
            "killed, seen by all": [(row.members, row.killed_all_s) for row in rows],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.mesh_detection", description=__doc__)
    parser.add_argument("--members", type=int, nargs="*", default=list(TRIALS))
    parser.add_argument("--plot", type=Path, help="write the chart to this SVG file")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    options = parser.parse_args()
    rows = [measure(members, TRIALS.get(members, 2)) for members in options.members]
    sys.stdout.write((json.dumps([asdict(row) for row in rows]) if options.json else table(rows)) + "\n")
    if options.plot is not None:
        options.plot.write_text(plot(rows))


if __name__ == "__main__":
    main()

"""How long simulated members take to see a death: ``python -m bench.mesh_detection [--plot FILE] [--false-deaths] [--json]``.

Everything here is simulated: the product's state machines in virtual time (:mod:`bench.mesh_sim`). Beside it stands what
memberlist's figures give by SWIM's formula, for a member that falls silent. ``--false-deaths`` shows instead who is wrongly
declared dead when packets are lost and members stand still, by how many must say so and after how long.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.mesh_plot import line_chart
from bench.mesh_sim import Network
from veil.mesh import roster
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


@dataclass(frozen=True, kw_only=True)
class FalseRow:
    """What ``members``, all healthy but for pauses of their processes, say of each other in ``minutes``."""

    rule: str
    members: int
    loss: float
    minutes: float
    suspicions: int
    deaths: int
    """Views in which a member became dead: one member wrongly given up by all is ``members - 1`` of them."""


FALSE_MEMBERS, FALSE_LOSS, FALSE_MINUTES = 30, 0.2, 5.0

PAUSED, PAUSE_S, PAUSE_INTERVAL_S = 3, (1.0, 4.0), 10.0
"""So many members stand still for so long, each so often: shorter than any suspicion, so that none of them should die."""


RULES = {"memberlist's suspicion, one accuser": (4, 1), "memberlist's suspicion, 3 accusers": (4, 3), "as `lan` is": (3, 3)}
"""By name: the shortest suspicion and how many must say dead."""


def measure_false(rule: str, seed: int = 1) -> FalseRow:
    """One of RULES; the rest, Lifeguard included, is always the same."""
    mult, wanted = RULES[rule]
    accusers, roster.DEATH_ACCUSERS_MAX = roster.DEATH_ACCUSERS_MAX, wanted
    preset = replace(LAN, suspicion_mult=mult)
    try:
        network = Network(FALSE_MEMBERS, seed=seed, loss=FALSE_LOSS, preset=preset, settled=True)
        for _ in range(int(FALSE_MINUTES * 60 / PAUSE_INTERVAL_S)):
            paused = network.rng.sample(network.peers, PAUSED)
            network.down.update(paused)
            pause_s = network.rng.uniform(*PAUSE_S)
            network.run(pause_s)
            network.down.difference_update(paused)
            network.run(PAUSE_INTERVAL_S - pause_s)
    finally:
        roster.DEATH_ACCUSERS_MAX = accusers
    return FalseRow(
        rule=rule,
        members=FALSE_MEMBERS,
        loss=FALSE_LOSS,
        minutes=FALSE_MINUTES,
        suspicions=sum(state is PeerState.SUSPECT for _, _, _, state in network.changes),
        deaths=len(network.deaths()),
    )


def false_table(rows: Sequence[FalseRow]) -> str:
    lines = ["| rule (simulated) | suspected | declared dead |", "|---|---|---|"]
    lines += [f"| {row.rule} | {row.suspicions:,} | {row.deaths:,} |" for row in rows]
    return "\n".join(lines)


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
    parser.add_argument("--false-deaths", action="store_true", help="who is wrongly declared dead, instead")
    options = parser.parse_args()
    if options.false_deaths:
        wrong = [measure_false(rule) for rule in RULES]
        sys.stdout.write((json.dumps([asdict(row) for row in wrong]) if options.json else false_table(wrong)) + "\n")
        return
    rows = [measure(members, TRIALS.get(members, 2)) for members in options.members]
    sys.stdout.write((json.dumps([asdict(row) for row in rows]) if options.json else table(rows)) + "\n")
    if options.plot is not None:
        options.plot.write_text(plot(rows))


if __name__ == "__main__":
    main()

"""The packing simulator against the encoding and the circuit's clear reference, and what it says of the default profile."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bench import packing
from bench.packing_load import LOADS, MIXES, RESOURCES, History, Ints, history
from bench.packing_policies import Encoded, Exact
from bench.packing_sim import simulate
from veil.fhe.circuits import clear, layout
from veil.fhe.circuits.choose_clear import choose
from veil.fhe.encoding import INFEASIBLE_LEVEL, Name, default_encoding
from veil.fhe.material import Profile
from veil.fhe.ports import Figures

SEED = 7

LOSS_PCT = 1.5
"""Long runs give well below 1, and a short one has this much noise."""

OTHER_REFERENCE_PCT = 3.0
"""With a reference eight times too small or too large; long runs give 1 to 2."""


def figures(column: Ints) -> Figures:
    return Figures(**(dict.fromkeys(RESOURCES, 0) | {name: int(value) for name, value in zip(RESOURCES, column, strict=False)}))


@pytest.fixture(scope="module")
def past() -> History:
    return history(seeds=range(SEED, SEED + 2), nodes=32, jobs=1200, resources=2)


@pytest.mark.parametrize("reference", packing.REFERENCES.values(), ids=["own", "small", "large"])
@pytest.mark.parametrize("resources", [2, 4])
def test_scores_are_those_of_the_tables_and_the_clear_circuit(reference: dict[Name, int] | None, resources: int) -> None:
    small = history(seeds=range(SEED, SEED + 1), nodes=8, jobs=120, resources=resources)
    encoding, rng = default_encoding(reference), np.random.default_rng(SEED)
    encoding = encoding.resized(encoding.resources[:resources], reference)
    policy, lenient = (Encoded(small, encoding, SEED, fallback=fallback) for fallback in (False, True))
    kinds, hopeful = set(), 0
    for step in range(15):
        free = (small.capacity * rng.random(small.capacity.shape) ** 3).astype(np.int64)
        if step % 3 == 2:  # exactly enough in one node and little in the others: only optimistic telemetry finds it
            free //= 64
            free[:, :, 0] = small.demand[:, step]
        scores, finer, more = policy.scores(step, free), policy.finer(step, free), lenient.scores(step, free)
        for lane in range(len(small.lanes)):
            slots = encoding.slots(figures(small.demand[:, step, lane]))
            nodes = [figures(free[:, lane, node]) for node in range(8)]
            told = [layout.levels(encoding.table(node, None), slots) for node in nodes]
            found = [clear.score(one["level"]) for one in told]
            assert found == scores[lane].tolist()
            assert all(
                one["finer"] == fine for one, fine in zip(told, finer[lane], strict=True) if one["level"] < INFEASIBLE_LEVEL
            )
            least = scores[lane].min()
            assert choose(found) == [*(scores[lane] == least).astype(int), int(least == INFEASIBLE_LEVEL)]
            kinds |= set(found)
            if least == INFEASIBLE_LEVEL:
                optimistic = [layout.levels(encoding.table(node, None, optimistic=True), slots) for node in nodes]
                assert [clear.score(one["level"]) for one in optimistic] == more[lane].tolist()
                hopeful += int((more[lane] < INFEASIBLE_LEVEL).any())
    assert len(kinds) >= 4
    assert INFEASIBLE_LEVEL in kinds
    assert hopeful > 0


def test_stale_telemetry_makes_nodes_refuse_and_loses_more(past: History) -> None:
    fresh, stale = (simulate(past, Encoded(past, default_encoding(), SEED), age=age) for age in (0, 10))
    assert fresh.refusals.max() == 0
    assert stale.refusals.mean() > 0.001
    assert stale.accepted.mean() < fresh.accepted.mean() + 0.002


@pytest.mark.parametrize("profile", packing.PROFILES)
def test_a_short_run_says_what_a_profile_loses(profile: Profile) -> None:
    assert -1.0 < packing.loss_of(profile, jobs=600) < LOSS_PCT


def test_a_size_that_just_fits_is_not_lost_at_the_boundary() -> None:
    small = history(seeds=range(SEED, SEED + 1), nodes=4, jobs=100, resources=2)
    encoding = default_encoding()
    policy = Encoded(small, encoding, SEED)
    for step in range(20):
        cpu = np.array(encoding.resources[0].sizes)
        asked = cpu[np.searchsorted(cpu, small.demand[0, step])]
        free = small.capacity.copy()
        free[0], free[1] = asked[:, None], 1 << 45
        assert (policy.scores(step, free) < INFEASIBLE_LEVEL).all()
        free[0] -= 1
        assert (policy.scores(step, free) == INFEASIBLE_LEVEL).all()


def test_the_order_of_nodes_is_a_tie_break_only(past: History) -> None:
    policy = Encoded(past, default_encoding(), SEED)
    scores, keys = policy.scores(0, past.capacity), policy.keys(0, past.capacity)
    assert (np.floor(keys[scores < INFEASIBLE_LEVEL]) == scores[scores < INFEASIBLE_LEVEL]).all()
    assert len(set(keys[0].tolist())) == 32


def test_the_default_profile_packs_better_than_first_fit_and_its_twins(past: History) -> None:
    encoding = default_encoding()
    policies = {name: make for name, make in packing.POLICIES.items() if name != "random"} | {
        "rounded up": lambda past, seed: Encoded(past, encoding, seed, rounding="up"),
        "no levels": lambda past, seed: Encoded(past, encoding, seed, levels=False),
    }
    found = packing.measure(past, SEED, policies)
    loss = {name: float(np.mean([one.mean_pct for one in by_mix.values()])) for name, by_mix in found.items()}
    refusals = {name: float(np.mean([one.refusals for one in by_mix.values()])) for name, by_mix in found.items()}
    assert loss["default"] < LOSS_PCT
    assert loss["precise"] < LOSS_PCT
    for other in packing.REFERENCES:
        assert loss[f"default{other}"] < OTHER_REFERENCE_PCT < loss["spread"]
    assert loss["default"] < loss["first-fit"]
    assert loss["no levels"] > 2 * max(loss["default"], 1)
    assert refusals["default"] == refusals["precise"] == refusals[packing.BASELINE] == 0
    assert refusals["rounded up"] > 0.001


def test_what_left_is_free_again(past: History) -> None:
    """Were departures lost, the cluster would fill up and accept next to nothing."""
    assert len(past.lanes) == len(MIXES) * len(LOADS) * 2
    outcome = simulate(past, Exact(past, "best-fit", SEED))
    assert ((outcome.accepted > 0.85) & (outcome.accepted <= 1)).all()


def test_alike_nodes_lose_no_more() -> None:
    alike = history(seeds=range(SEED, SEED + 2), nodes=16, jobs=600, resources=2, alike=True)
    found = packing.measure(alike, SEED, {name: packing.POLICIES[name] for name in (packing.BASELINE, "default", "precise")})
    for profile in packing.PROFILES:
        assert float(np.mean([one.mean_pct for one in found[profile].values()])) < LOSS_PCT


def test_a_seed_replays() -> None:
    runs = []
    for seed in (SEED, SEED, SEED + 1):
        small = history(seeds=range(seed, seed + 1), nodes=8, jobs=200, resources=4)
        runs.append(simulate(small, Encoded(small, default_encoding(), seed)).accepted)
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


def test_the_command_prints_one_line_and_a_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SEEDS", 2)
    chart, points = tmp_path / "chart.svg", tmp_path / "points.svg"
    done = CliRunner().invoke(
        packing.main, ["--jobs", "100", "--nodes", "4", "--json", "--plot", str(chart), "--latency-plot", str(points)]
    )
    assert done.exit_code == 0, done.output
    assert done.output.count("\n") == 1
    assert set(msgspec.json.decode(done.output)["loss"]) == {"R=2, fresh", "R=2, stale", "R=4, fresh", "R=4, stale"}
    assert chart.read_text().startswith("<svg")
    assert all(name in points.read_text() for name in packing.POLICIES if "reference" not in name)

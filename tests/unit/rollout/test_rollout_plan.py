"""The plan, applied again and again: it ends, it ends right, and on the way it keeps its bounds."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veil.rollout.plan import Desired, Observed, Plan, plan
from veil.rollout.strategy import Strategy, StrategyType, strategy_of

Planner = Callable[[Desired, list[Observed]], Plan]
ROLLING = StrategyType.ROLLING_UPDATE
RECREATE = StrategyType.RECREATE

FIGURES = st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any)
STRATEGIES = st.builds(
    lambda kind, figures: Strategy(type=kind, max_surge=figures[0], max_unavailable=figures[1]),
    st.sampled_from(StrategyType),
    FIGURES,
)
DESIRED = st.builds(
    lambda generation, replicas, strategy: Desired(generation=generation, replicas=replicas, strategy=strategy),
    st.integers(1, 4),
    st.integers(0, 6),
    STRATEGIES,
)


def seen(generation: int, replica: int, *, ready: bool = True, phase: str = "Running") -> Observed:
    return Observed(name=f"w-{generation}-{replica}", generation=generation, replica=replica, phase=phase, ready=ready)


OBSERVED = st.lists(
    st.builds(
        lambda generation, replica, ready, phase: seen(generation, replica, ready=ready, phase=phase),
        st.integers(1, 4),
        st.integers(0, 7),
        st.booleans(),
        st.sampled_from(["", "Pending", "Creating", "Running", "Succeeded", "Terminating"]),
    ),
    max_size=14,
    unique_by=lambda one: one.name,
)


def alive(instances: list[Observed]) -> list[Observed]:
    return [one for one in instances if one.phase != "Terminating"]


def available(instances: list[Observed]) -> int:
    return sum(one.available for one in instances)


def apply(step: Plan, instances: list[Observed], *, slow: random.Random) -> list[Observed]:
    """What a cluster makes of a step: some removed ones linger as Terminating, new ones are not ready yet."""
    left = []
    for one in instances:
        if one.name not in step.remove:
            left.append(one)
        elif slow.random() < 0.5:
            left.append(replace(one, phase="Terminating", ready=False))
    return left + [seen(generation, replica, ready=False, phase="") for generation, replica in step.create]


def live(instances: list[Observed], slow: random.Random) -> list[Observed]:
    """Time passes: what ends, ends; what starts becomes ready, sooner or later."""
    moved = []
    for one in instances:
        if slow.random() < 0.3:
            moved.append(one)
        elif one.phase != "Terminating":
            moved.append(replace(one, phase=one.phase if one.phase == "Succeeded" else "Running", ready=True))
    return moved


def settle(desired: Desired, instances: list[Observed], seed: int, planner: Planner = plan) -> None:
    """Run to rest; fail when it does not come to rest, rests elsewhere, or breaks a bound on the way."""
    slow = random.Random(seed)
    for _ in range(200):
        step = planner(desired, instances)
        before = instances
        instances = apply(step, instances, slow=slow)
        check_step(desired, before, instances, step)
        instances = live(instances, slow)
        if not planner(desired, instances) and all(one.available for one in instances):
            rest = {(one.generation, one.replica) for one in instances}
            assert rest == {(desired.generation, n) for n in range(desired.replicas)}, "at rest at the wrong place"
            return
    raise AssertionError("the plan does not come to rest")


def check_step(desired: Desired, before: list[Observed], after: list[Observed], step: Plan) -> None:
    surge = desired.strategy.max_surge if desired.strategy.type is ROLLING else 0
    if step.create:
        assert len(alive(after)) <= desired.replicas + surge, "more than replicas + surge"
        assert {generation for generation, _ in step.create} == {desired.generation}
        assert len(set(step.create)) == len(step.create)
        assert not {f"w-{g}-{r}" for g, r in step.create} & {one.name for one in before}, "created twice"
        assert all(replica < desired.replicas for _, replica in step.create)
    if desired.strategy.type is RECREATE and step.create:
        assert all(one.generation == desired.generation for one in before), "an old one was still there"
    if desired.strategy.type is ROLLING:
        floor = desired.replicas - desired.strategy.max_unavailable
        kept = [one for one in before if one.generation != desired.generation or one.replica < desired.replicas]
        left = [one for one in kept if one.name not in step.remove]
        assert available(left) >= min(floor, available(kept)), "fewer available than promised"


@settings(max_examples=300, deadline=None)
@given(DESIRED, OBSERVED, st.integers(0, 2**32))
def test_every_start_comes_to_rest_at_exactly_the_desired_replicas(desired: Desired, start: list[Observed], seed: int) -> None:
    settle(desired, start, seed)


@settings(max_examples=200, deadline=None)
@given(DESIRED, OBSERVED)
def test_a_terminating_instance_is_left_alone(desired: Desired, start: list[Observed]) -> None:
    ending = {one.name for one in start if one.phase == "Terminating"}
    assert not ending & set(plan(desired, start).remove)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda d, o: Plan(create=plan(d, o).create), id="removes nothing"),
        pytest.param(lambda d, o: Plan(create=_all_missing(d, o), remove=plan(d, o).remove), id="ignores the surge"),
        pytest.param(lambda d, o: Plan(create=plan(d, o).create, remove=_all_old(d, o)), id="removes old ones too early"),
    ],
)
def test_broken_twins_are_caught(broken: Planner) -> None:
    desired = Desired(generation=2, replicas=3)
    with pytest.raises(AssertionError):
        settle(desired, [seen(1, replica) for replica in range(3)], 1, broken)


def _all_missing(desired: Desired, observed: list[Observed]) -> tuple[tuple[int, int], ...]:
    there = {(one.generation, one.replica) for one in observed}
    return tuple((desired.generation, n) for n in range(desired.replicas) if (desired.generation, n) not in there)


def _all_old(desired: Desired, observed: list[Observed]) -> tuple[str, ...]:
    return tuple(one.name for one in alive(observed) if one.generation != desired.generation)


def test_first_rollout_creates_all_at_once() -> None:
    assert plan(Desired(generation=1, replicas=3), []) == Plan(create=((1, 0), (1, 1), (1, 2)))


def test_scale_down_removes_the_highest_numbers_first() -> None:
    step = plan(Desired(generation=1, replicas=2), [seen(1, n) for n in (0, 3, 1, 2)])
    assert step == Plan(remove=("w-1-3", "w-1-2"))


def test_a_smaller_next_generation_removes_the_highest_numbers_first() -> None:
    assert plan(Desired(generation=2, replicas=1), [seen(1, n) for n in range(3)]).remove == ("w-1-2", "w-1-1")


def test_a_gap_is_filled_with_the_lowest_number() -> None:
    assert plan(Desired(generation=1, replicas=3), [seen(1, 0), seen(1, 2)]) == Plan(create=((1, 1),))


def test_rolling_update_creates_then_waits_then_removes() -> None:
    desired = Desired(generation=2, replicas=2)
    old = [seen(1, 0), seen(1, 1)]
    assert plan(desired, old) == Plan(create=((2, 0),))
    assert plan(desired, [*old, seen(2, 0, ready=False)]) == Plan()
    assert plan(desired, [*old, seen(2, 0)]) == Plan(create=((2, 1),), remove=("w-1-1",))


def test_recreate_removes_first_and_waits_until_the_old_ones_are_gone() -> None:
    desired = Desired(generation=2, replicas=2, strategy=Strategy(type=RECREATE))
    assert plan(desired, [seen(1, 0), seen(1, 1)]) == Plan(remove=("w-1-1", "w-1-0"))
    assert plan(desired, [seen(1, 0, phase="Terminating")]) == Plan()
    assert plan(desired, []) == Plan(create=((2, 0), (2, 1)))


def test_an_old_one_that_lost_its_report_is_not_removed_early() -> None:
    silent = [seen(1, n, ready=False, phase="") for n in range(3)]
    assert plan(Desired(generation=2, replicas=3), silent) == Plan(create=((2, 0),))


def test_old_ones_that_do_not_serve_go_before_those_that_do() -> None:
    step = plan(Desired(generation=2, replicas=2), [seen(1, 0, ready=False), seen(1, 1), seen(2, 0)])
    assert step.remove == ("w-1-0",)


def test_a_finished_run_is_not_run_again() -> None:
    finished = seen(1, 0, ready=False, phase="Succeeded")
    assert plan(Desired(generation=1, replicas=1), [finished]) == Plan()


def test_a_generation_that_was_taken_back_is_replaced_too() -> None:
    assert plan(Desired(generation=1, replicas=1), [seen(2, 0), seen(1, 0)]).remove == ("w-2-0",)


@pytest.mark.parametrize(
    ("spec", "surge", "unavailable"),
    [
        ({"replicas": 1}, 1, 0),
        ({"replicas": 30}, 8, 0),
        ({"replicas": 4, "strategy": {"type": "RollingUpdate", "maxSurge": 2, "maxUnavailable": 1}}, 2, 1),
        ({"replicas": 10, "strategy": {"maxSurge": "0%", "maxUnavailable": "25%"}}, 0, 2),
        ({"replicas": 1, "strategy": {"maxSurge": 0, "maxUnavailable": "25%"}}, 0, 1),
        ({"replicas": 0}, 0, 1),
    ],
)
def test_strategy_figures(spec: dict[str, object], surge: int, unavailable: int) -> None:
    strategy = strategy_of(spec)
    assert (strategy.max_surge, strategy.max_unavailable) == (surge, unavailable)


@pytest.mark.parametrize("figures", [(0, 0), (-1, 1), (1, -1)])
def test_impossible_strategies_are_refused(figures: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="maxUnavailable"):
        Strategy(max_surge=figures[0], max_unavailable=figures[1])

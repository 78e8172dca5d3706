"""Room is promised exactly once."""

from dataclasses import fields
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veil.agent import capacity as module
from veil.agent.capacity import EXPIRED_MAX, MeasuredCapacity, measure_machine
from veil.fhe.ports import Figures


class HandClock:
    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s


def figures(cpu: int = 0, memory: int = 0, disk: int = 0, gpu: int = 0) -> Figures:
    return Figures(cpu_milli=cpu, memory_bytes=memory, disk_bytes=disk, gpu_count=gpu)


def made(clock: HandClock | None = None, *, share: float = 1.0, reserve: Figures | None = None) -> MeasuredCapacity:
    machine = figures(4000, 8000, 10_000, 2)
    return MeasuredCapacity(
        clock or HandClock(), Path(), share=share, reserve=reserve or figures(100, 1000, 500), measure=lambda path: machine
    )


def test_free_is_total_less_reserve_less_promised() -> None:
    capacity = made()
    assert capacity.total() == figures(4000, 8000, 10_000, 2)
    assert capacity.free() == figures(3900, 7000, 9500, 2)
    assert capacity.reserve("a", figures(900, 2000, 500, 1), 10)
    assert capacity.free() == figures(3000, 5000, 9000, 1)
    capacity.release("a")
    assert capacity.free() == figures(3900, 7000, 9500, 2)


def test_what_else_is_on_the_disk_is_not_free() -> None:
    taken = {"bytes": 4000}
    machine = figures(4000, 8000, 10_000, 2)
    nothing = figures()
    capacity = MeasuredCapacity(
        HandClock(), Path(), share=0.5, reserve=nothing, measure=lambda path: machine, disk_taken=lambda: taken["bytes"]
    )
    assert capacity.free() == figures(2000, 4000, 3000, 1)
    assert not capacity.reserve("a", figures(disk=3001), 10)
    assert capacity.reserve("a", figures(disk=3000), 10)
    taken["bytes"] = 20_000
    assert capacity.free().disk_bytes == 0


def test_a_share_of_the_machine() -> None:
    assert made(share=0.5).total() == figures(2000, 4000, 5000, 1)


@pytest.mark.parametrize("share", [0, -1, 1.01])
def test_impossible_shares(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        made(share=share)


@pytest.mark.parametrize("field", [field.name for field in fields(Figures)])
def test_every_figure_is_checked_exactly(field: str) -> None:
    capacity = made()
    room = getattr(capacity.free(), field)
    wanted = {"cpu_milli": 0, "memory_bytes": 0, "disk_bytes": 0, "gpu_count": 0}
    assert not capacity.reserve("a", Figures(**wanted | {field: room + 1}), 10)
    assert capacity.reserve("a", Figures(**wanted | {field: room}), 10)
    assert not capacity.reserve("b", Figures(**wanted | {field: 1}), 10)


def test_a_promise_ends_by_itself_unless_confirmed() -> None:
    clock = HandClock()
    capacity = made(clock)
    assert capacity.reserve("a", figures(1000), 10)
    assert capacity.reserve("b", figures(1000), 10)
    capacity.confirm("b")
    clock.time_s = 9.9
    assert capacity.free().cpu_milli == 1900
    clock.time_s = 10
    assert capacity.free().cpu_milli == 2900


def test_a_late_confirmation_counts_all_the_same() -> None:
    clock = HandClock()
    capacity = made(clock)
    assert capacity.reserve("a", figures(3900), 10)
    clock.time_s = 11
    assert capacity.reserve("b", figures(3900), 10)
    capacity.confirm("a")
    assert capacity.free().cpu_milli == 0
    capacity.release("b")
    assert capacity.free().cpu_milli == 0
    capacity.release("a")
    assert capacity.free().cpu_milli == 3900


def test_confirming_what_nobody_reserved_is_nothing() -> None:
    capacity = made()
    capacity.confirm("x")
    capacity.release("x")
    assert capacity.free() == made().free()


def test_reserving_again_replaces_and_a_refusal_changes_nothing() -> None:
    capacity = made()
    assert capacity.reserve("a", figures(3000), 10)
    assert capacity.reserve("a", figures(3900), 10)
    assert not capacity.reserve("a", figures(3901), 10)
    assert capacity.free().cpu_milli == 0


def test_a_confirmed_promise_stays_confirmed() -> None:
    clock = HandClock()
    capacity = made(clock)
    assert capacity.reserve("a", figures(1000), 10)
    capacity.confirm("a")
    assert capacity.reserve("a", figures(1000), 10)
    clock.time_s = 100
    assert capacity.free().cpu_milli == 2900


def test_what_runs_after_a_restart_counts_even_if_it_does_not_fit() -> None:
    capacity = made()
    capacity.restore("a", figures(9000))
    assert capacity.free().cpu_milli == 0
    assert not capacity.reserve("b", figures(1), 10)


def test_expired_promises_are_not_kept_for_ever() -> None:
    clock = HandClock()
    capacity = made(clock)
    for number in range(EXPIRED_MAX + 10):
        assert capacity.reserve(number, figures(1), 1)
        clock.time_s += 2
    capacity.free()
    assert len(capacity._expired) == EXPIRED_MAX


@given(
    st.lists(
        st.tuples(st.sampled_from(["reserve", "confirm", "release", "wait"]), st.sampled_from("abcdef"), st.integers(0, 3000))
    )
)
def test_no_more_is_promised_than_there_is(steps: list[tuple[str, str, int]]) -> None:
    """Against a plain count of what is held: a reservation is given exactly when it fits."""
    clock = HandClock()
    capacity, held = made(clock), dict[str, tuple[int, float]]()
    for verb, key, amount in steps:
        held = {name: entry for name, entry in held.items() if entry[1] > clock.time_s}
        others = sum(entry[0] for name, entry in held.items() if name != key)
        if verb == "reserve":
            assert capacity.reserve(key, figures(amount), 10) == (others + amount <= 3900)
            if others + amount <= 3900:
                lasts = held.get(key, (0, 0.0))[1] == float("inf")
                held[key] = (amount, float("inf") if lasts else clock.time_s + 10)
        elif verb == "confirm" and key in held:
            capacity.confirm(key)
            held[key] = (held[key][0], float("inf"))
        elif verb == "release":
            capacity.release(key)
            held.pop(key, None)
        elif verb == "wait":
            clock.time_s += 4
        alive = sum(entry[0] for entry in held.values() if entry[1] > clock.time_s)
        assert capacity.free().cpu_milli == 3900 - alive


def test_this_machine_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = measure_machine(tmp_path)
    assert measured.cpu_milli >= 1000
    assert measured.memory_bytes > 1 << 28
    assert measured.disk_bytes > 0
    limit = tmp_path / "memory.max"
    limit.write_text("1000\n")
    monkeypatch.setattr(module, "_CGROUP_MEMORY", (limit, tmp_path / "none"))
    assert measure_machine(tmp_path).memory_bytes == 1000
    limit.write_text("max\n")
    assert measure_machine(tmp_path).memory_bytes == psutil.virtual_memory().total

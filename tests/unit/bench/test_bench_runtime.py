"""The bench of the node agent: its figures have the names that are quoted, and percentiles are what they say."""

import pytest

from bench.runtime import WANTED, Figures, _p99, main, table

QUOTED = (
    "start_p50_vs_ctr, start_p99_s, starts_per_s, restart_s, relist_500_s, agent_cpu_idle, agent_rss_mb, log_follow_p99_ms, twins"
)


def test_the_figures_have_their_names() -> None:
    assert set(QUOTED.split(", ")) <= set(Figures.__struct_fields__)


def test_the_table_has_every_promise_and_who_is_beside_it() -> None:
    figures = Figures(**{**dict.fromkeys(Figures.__struct_fields__, 0.25), "docker_start_p50_s": None})  # type: ignore[arg-type]
    lines = {line.split()[0]: line.split()[1:] for line in table(figures).splitlines()[1:]}
    assert set(QUOTED.split(", ")) <= set(lines)
    assert lines["start_p50_s"] == ["0.25", "0.25", "0.25", "0.25", "-"]
    assert lines["starts_per_s"] == ["0.25", ">=", "13", "0.25", "0.25"]
    beside = {other for _, others in WANTED.values() for other in others if other}
    assert {*WANTED, *beside} <= set(Figures.__struct_fields__)


@pytest.mark.parametrize(("values", "expected"), [([3.0], 3.0), ([1.0] * 99 + [9.0], 9.0), ([2.0] * 990 + [9.0] * 10, 9.0)])
def test_p99(values: list[float], expected: float) -> None:
    assert _p99(values) == expected


@pytest.mark.parametrize("wrong", ["--starts=0", "--instances=1", "--idle-s=0", "--relist=-1"])
def test_what_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench", wrong])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2

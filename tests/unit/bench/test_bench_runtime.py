"""The bench of the node agent: its figures have the names that are quoted, and percentiles are what they say."""

import pytest

from bench.runtime import Figures, _p99, main

QUOTED = (
    "start_p50_vs_ctr, start_p99_s, starts_per_s, restart_s, relist_500_s, agent_cpu_idle, agent_rss_mb, log_follow_p99_ms, twins"
)


def test_the_figures_have_their_names() -> None:
    assert set(QUOTED.split(", ")) <= set(Figures.__struct_fields__)


@pytest.mark.parametrize(("values", "expected"), [([3.0], 3.0), ([1.0] * 99 + [9.0], 9.0), ([2.0] * 990 + [9.0] * 10, 9.0)])
def test_p99(values: list[float], expected: float) -> None:
    assert _p99(values) == expected


@pytest.mark.parametrize("wrong", ["--starts=0", "--instances=1", "--idle-s=0"])
def test_what_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench", wrong])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2

"""The wall clock is set back or forward while the agent works: nothing waits until it has caught up, nothing runs twice."""

import asyncio
import itertools
from typing import Any

import pytest

from veil.errors import ContainerFailed
from veil.runtime.fake import Behaviour

pytestmark = pytest.mark.looptime

HOUR_S = 3600.0


async def jump(host: Any, monkeypatch: pytest.MonkeyPatch, by_s: float) -> None:
    monkeypatch.setattr(type(host.agent._clock), "jump_s", by_s)


async def starts_of(host: Any, during_s: float) -> int:
    before: int = host.count("start", host.id())
    await asyncio.sleep(during_s)
    return host.count("start", host.id()) - before


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S])
async def test_a_crash_loop_goes_on_with_its_pauses(host: Any, monkeypatch: pytest.MonkeyPatch, by_s: float) -> None:
    host.machine.behaviours["crash",] = Behaviour(exit_code=3)
    host.want(host.instance(command=["crash"]))
    await asyncio.sleep(50)
    assert host.status().reason == "CrashLoopBackOff"
    await jump(host, monkeypatch, by_s)
    assert 1 <= await starts_of(host, 330) <= 4, "neither stuck for an hour nor without pauses"
    assert host.status().reason == "CrashLoopBackOff"


async def test_a_failed_attempt_is_made_again(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host.machine.fail_next("create", ContainerFailed("not now"), times=2)
    host.want(host.instance())
    await host.until(lambda: host.status().reason == "ContainerError")
    await jump(host, monkeypatch, -HOUR_S)
    await host.until(lambda: host.status().phase == "Running", 60)
    assert host.status().restarts == 0


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S])
async def test_what_runs_is_left_alone(host: Any, monkeypatch: pytest.MonkeyPatch, by_s: float) -> None:
    host.want(host.instance())
    await host.until(lambda: host.status() and host.status().phase == "Running")
    await jump(host, monkeypatch, by_s)
    assert await starts_of(host, 100) == 0
    assert (host.status().phase, host.status().restarts) == ("Running", 0)
    host.machine.finish(host.id(), 3)
    await host.until(lambda: host.status().restarts == 1)
    assert list(itertools.chain(host.runtime.overlaps, host.runtime.needless_starts)) == []

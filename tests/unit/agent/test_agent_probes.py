"""Probes on the fake runtime, in virtual time: Kubernetes' semantics, second by second."""

import asyncio
from typing import Any

import pytest

from veil.agent.probes import Check, ExecAction, Health, HttpAction, Probe, Probes, Tally, TcpAction, probes_of
from veil.errors import ContainerFailed, RuntimeUnavailable
from veil.runtime.fake import Behaviour
from veil.runtime.ports import ExecResult

pytestmark = pytest.mark.looptime

GOOD, BAD, HANGS = (ExecResult(exit_code=code, output=b"") for code in (0, 1, -1))


def probe(command: str = "ask", **figures: int) -> dict[str, Any]:
    return {"exec": {"command": [command]}, **figures}


def probed(host: Any, **probes: Any) -> Any:
    """An Instance whose one container has these probes; what is left of the arguments goes to the template."""
    checks = {name: probes.pop(name) for name in list(probes) if name.endswith("Probe")}
    containers = [{"name": "main", "image": "app:1", "command": ["serve"], **checks}]
    return host.instance(containers=containers, **probes)


def answers(host: Any, command: str, result: ExecResult) -> None:
    host.machine.execs[command,] = result


async def test_ready_follows_the_readiness_probe_and_nothing_is_restarted(host: Any) -> None:
    answers(host, "ask", BAD)
    host.want(probed(host, readinessProbe=probe(periodSeconds=5, failureThreshold=2, successThreshold=3)))
    await host.until(lambda: host.status().reason == "NotReady" and host.count("exec") == 1)
    assert (host.status().phase, host.status().ready) == ("Running", False)
    assert host.status().message == "container main runs; its readiness probe does not succeed"
    answers(host, "ask", GOOD)
    assert 14 <= await host.until(lambda: host.status().ready, 30) <= 16  # the third success in a row
    answers(host, "ask", BAD)
    assert 5 <= await host.until(lambda: not host.status().ready, 30) <= 11  # the second failure in a row
    await asyncio.sleep(100)
    assert (host.status().restarts, host.count("start")) == (0, 1)


async def test_the_first_question_comes_after_the_initial_delay_and_then_every_period(host: Any) -> None:
    host.want(probed(host, livenessProbe=probe(initialDelaySeconds=20, periodSeconds=7)))
    await host.until(lambda: bool(host.running()))
    await asyncio.sleep(19)
    assert host.count("exec") == 0
    await asyncio.sleep(2)
    assert host.count("exec") == 1
    await asyncio.sleep(70)
    assert host.count("exec") == 11


async def test_a_failed_liveness_probe_stops_and_restarts_with_back_off(host: Any) -> None:
    host.machine.behaviours["serve",] = Behaviour(on_sigterm=0)
    host.want(probed(host, livenessProbe=probe(periodSeconds=10), restartPolicy="OnFailure"))
    await host.until(lambda: host.status().ready)
    answers(host, "ask", BAD)
    assert 20 <= await host.until(lambda: host.status().restarts == 1, 60) <= 31  # three failures in a row
    assert host.machine.signals == [(host.id(), "TERM")]
    assert 29 <= await host.until(lambda: host.status().restarts == 2, 60) <= 41  # at 0, 10, 20 s of the run, then the pause
    assert host.status().ready


async def test_what_is_said_after_a_liveness_probe_failed(host: Any) -> None:
    host.machine.behaviours["serve",] = Behaviour(on_sigterm=None)
    answers(host, "ask", BAD)
    host.want(probed(host, livenessProbe=probe(periodSeconds=1), terminationGracePeriodSeconds=8))
    await host.until(lambda: host.status().reason == "Unhealthy", 10)
    assert host.status().message == "container main is being stopped: its liveness probe failed"
    assert (host.status().phase, host.status().ready) == ("Running", False)
    assert 7.9 <= await host.until(lambda: (host.id(), "KILL") in host.machine.signals, 20) <= 8.1
    await host.until(lambda: host.status().reason == "CrashLoopBackOff", 30)
    assert host.status().message.startswith("container main was stopped because its liveness probe failed; ")


async def test_a_probe_has_its_own_grace_period(host: Any) -> None:
    host.machine.behaviours["serve",] = Behaviour(on_sigterm=None)
    answers(host, "ask", BAD)
    host.want(probed(host, livenessProbe=probe(periodSeconds=1, terminationGracePeriodSeconds=2)))
    await host.until(lambda: (host.id(), "TERM") in host.machine.signals, 10)
    assert 1.9 <= await host.until(lambda: (host.id(), "KILL") in host.machine.signals, 20) <= 2.1


async def test_never_restart_makes_a_failed_liveness_probe_the_end(host: Any) -> None:
    host.machine.behaviours["serve",] = Behaviour(on_sigterm=0)
    answers(host, "ask", BAD)
    host.want(probed(host, livenessProbe=probe(periodSeconds=1), restartPolicy="Never"))
    await host.until(lambda: host.status().phase == "Failed", 10)
    assert host.status().reason == "Error"
    assert "its liveness probe failed" in host.status().message
    asked = host.count("exec")
    await asyncio.sleep(60)
    assert (host.count("start"), host.count("exec")) == (1, asked)


async def test_a_startup_probe_holds_back_the_others(host: Any) -> None:
    answers(host, "begun", BAD)
    answers(host, "live", BAD)
    startup = probe("begun", periodSeconds=10, failureThreshold=30)
    host.want(probed(host, startupProbe=startup, livenessProbe=probe("live"), readinessProbe=probe("ready")))
    await host.until(lambda: host.status().reason == "NotStarted")
    await asyncio.sleep(200)
    assert (host.status().reason, host.status().ready, host.count("start")) == ("NotStarted", False, 1)
    answers(host, "begun", GOOD)
    answers(host, "live", GOOD)
    assert await host.until(lambda: host.status().ready, 20) <= 11
    asked = host.count("exec")
    answers(host, "begun", BAD)  # is not asked any more
    await asyncio.sleep(100)
    assert host.count("exec") - asked == 20
    assert host.status().ready


async def test_a_startup_probe_that_never_succeeds_has_it_restarted(host: Any) -> None:
    answers(host, "ask", BAD)
    host.want(probed(host, startupProbe=probe(periodSeconds=2, failureThreshold=5)))
    assert 7.5 <= await host.until(lambda: host.status().restarts == 1, 30) <= 8.5
    assert host.status().reason == "NotStarted"


async def test_a_question_without_an_answer_in_time_is_a_failure(host: Any) -> None:
    answers(host, "ask", HANGS)
    host.want(probed(host, livenessProbe=probe(periodSeconds=5, timeoutSeconds=3, failureThreshold=2)))
    assert 7.9 <= await host.until(lambda: host.status().restarts == 1, 30) <= 8.5  # 3 s each, the second at 5 s


@pytest.mark.parametrize("error", [RuntimeUnavailable("away"), ContainerFailed("no space left on device")])
async def test_what_cannot_be_asked_is_no_failure(host: Any, error: Exception) -> None:
    host.want(probed(host, livenessProbe=probe(periodSeconds=1), readinessProbe=probe(periodSeconds=1)))
    await host.until(lambda: host.status().ready, 5)
    host.machine.fail_next("exec", error, times=200)
    await asyncio.sleep(60)
    assert (host.status().ready, host.status().restarts) == (True, 0)


async def test_a_restarted_container_is_not_ready_before_it_was_asked(host: Any) -> None:
    host.want(probed(host, readinessProbe=probe(initialDelaySeconds=3)))
    await host.until(lambda: host.status().ready, 5)
    host.machine.finish(host.id(), 1)
    await host.until(lambda: host.status().restarts == 1)
    await host.until(lambda: host.status().phase == "Running")
    assert not host.status().ready
    assert await host.until(lambda: host.status().ready, 5) >= 2.5


async def test_a_new_agent_asks_at_once_and_does_not_restart(host: Any) -> None:
    host.want(probed(host, readinessProbe=probe(initialDelaySeconds=30), livenessProbe=probe(initialDelaySeconds=30)))
    await host.until(lambda: host.status().ready, 40)
    await host.restart_agent()
    host.want(probed(host, readinessProbe=probe(initialDelaySeconds=30), livenessProbe=probe(initialDelaySeconds=30)))
    await host.until(lambda: host.status().ready, 0.5)
    assert host.count("start") == 1


async def test_nobody_is_asked_any_more_when_it_is_removed(host: Any) -> None:
    host.machine.behaviours["serve",] = Behaviour(on_sigterm=None)
    host.want(probed(host, livenessProbe=probe(periodSeconds=1), terminationGracePeriodSeconds=60))
    await host.until(lambda: host.count("exec") == 3, 10)
    host.want()
    await asyncio.sleep(30)
    assert host.count("exec") == 3


def test_a_tally_counts_answers_in_a_row() -> None:
    tally = Tally(Probe(action=TcpAction(1), successes=2, failures=3))
    given = [True, True, True, False, False, True, False, False, False, True, True]
    assert [tally.add(one) for one in given] == [None, True, True, None, None, None, None, None, False, None, True]


def test_probes_are_read_with_the_kubelets_defaults() -> None:
    container = {
        "readinessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "Host", "value": "x"}]}, "periodSeconds": 3},
        "livenessProbe": {"tcpSocket": {"port": 81}, "terminationGracePeriodSeconds": 4},
        "startupProbe": {"exec": {"command": ["a", "b"]}},
    }
    assert probes_of(container) == Probes(
        {
            Check.STARTUP: Probe(action=ExecAction(("a", "b")), period_s=10, timeout_s=1, failures=3, successes=1),
            Check.READINESS: Probe(action=HttpAction(80, headers=(("Host", "x"),)), period_s=3),
            Check.LIVENESS: Probe(action=TcpAction(81), grace_s=4),
        }
    )
    assert probes_of({}).at_start() == Health(started=True, ready=True)
    assert probes_of(container).at_start() == Health(started=False, ready=False)


@pytest.mark.parametrize(
    "wrong", [{"tcpSocket": {"port": 70000}}, {"periodSeconds": 1}, {"exec": {}}, {"tcpSocket": {"port": 1}, "periodSeconds": 0}]
)
async def test_a_probe_that_cannot_be_read_is_a_template_that_cannot_be_run(host: Any, wrong: dict[str, Any]) -> None:
    host.want(probed(host, livenessProbe=wrong))
    await host.until(lambda: host.status().reason == "InvalidTemplate")

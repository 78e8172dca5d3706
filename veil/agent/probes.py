"""Probes: what asks a container how it is, and what follows from the answers. Pure; the semantics and figures are the kubelet's.

A startup probe holds back the other two until it has succeeded once. A container is ready while its readiness probe succeeds (or
as soon as it has started, when it has none). A container whose startup or liveness probe fails is stopped, and counts as failed
for its restart policy, whatever exit code it then has.
Source: Kubernetes, "Configure Liveness, Readiness and Startup Probes"; kubelet ``prober/worker.go``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

PERIOD_DEFAULT_S = 10
TIMEOUT_DEFAULT_S = 1
FAILURES_DEFAULT = 3
SUCCESSES_DEFAULT = 1


class Check(StrEnum):
    """What a probe's answer is taken for; the values are the template's fields."""

    STARTUP = "startupProbe"
    READINESS = "readinessProbe"
    LIVENESS = "livenessProbe"

    @property
    def words(self) -> str:
        return f"{self.name.lower()} probe"


@dataclass(frozen=True, slots=True)
class ExecAction:
    """Success is exit code 0 of a command in the container."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HttpAction:
    """Success is a status of 200 to 399."""

    port: int
    path: str = "/"
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpAction:
    """Success is a connection."""

    port: int


Action = ExecAction | HttpAction | TcpAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    action: Action
    initial_delay_s: int = 0
    """From the container's start."""
    period_s: int = PERIOD_DEFAULT_S
    timeout_s: int = TIMEOUT_DEFAULT_S
    successes: int = SUCCESSES_DEFAULT
    """Answers in a row that make a verdict."""
    failures: int = FAILURES_DEFAULT
    grace_s: int | None = None
    """For the stop that its failure causes; None = the Instance's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the probes say of one run of a container. The default is that of a container without probes."""

    started: bool = True
    ready: bool = True
    failed: Check | None = None
    """The probe for which this run is to be stopped. Once set it stays: the next run has a Health of its own."""
    grace_s: int | None = None


@dataclass(slots=True)
class Tally:
    """Answers in a row of one probe."""

    probe: Probe
    _last: bool | None = None
    _count: int = 0

    def add(self, success: bool) -> bool | None:
        """One more answer. The verdict once there are enough equal ones in a row; None before."""
        self._count = self._count + 1 if success == self._last else 1
        self._last = success
        return success if self._count >= (self.probe.successes if success else self.probe.failures) else None


@dataclass(frozen=True, slots=True)
class Probes:
    """Those of one container."""

    by_check: Mapping[Check, Probe] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.by_check)

    def at_start(self) -> Health:
        """Before anything was asked."""
        started = Check.STARTUP not in self.by_check
        return Health(started=started, ready=started and Check.READINESS not in self.by_check)


def probes_of(container: Mapping[str, Any]) -> Probes:
    """The probes of a container in a template. Raises KeyError, TypeError, ValueError for what admission would have refused."""
    return Probes({check: _probe(container[check.value]) for check in Check if container.get(check.value)})


def _probe(given: Mapping[str, Any]) -> Probe:
    grace_s = given.get("terminationGracePeriodSeconds")
    return Probe(
        action=_action(given),
        initial_delay_s=_whole(given.get("initialDelaySeconds", 0), 0),
        period_s=_whole(given.get("periodSeconds", PERIOD_DEFAULT_S), 1),
        timeout_s=_whole(given.get("timeoutSeconds", TIMEOUT_DEFAULT_S), 1),
        successes=_whole(given.get("successThreshold", SUCCESSES_DEFAULT), 1),
        failures=_whole(given.get("failureThreshold", FAILURES_DEFAULT), 1),
        grace_s=None if grace_s is None else _whole(grace_s, 1),
    )


def _action(given: Mapping[str, Any]) -> Action:
    if "exec" in given:
        return ExecAction(tuple(str(word) for word in given["exec"]["command"]))
    if "httpGet" in given:
        asked = given["httpGet"]
        headers = tuple((str(entry["name"]), str(entry["value"])) for entry in asked.get("httpHeaders") or ())
        return HttpAction(_port(asked), str(asked.get("path", "/")), str(asked.get("scheme", "HTTP")), headers)
    return TcpAction(_port(given["tcpSocket"]))


def _port(asked: Mapping[str, Any]) -> int:
    port = _whole(asked["port"], 1)
    if port > 65535:
        raise ValueError("port")
    return port


def _whole(value: Any, least: int) -> int:
    if not isinstance(value, int) or value < least:
        raise ValueError("a figure of a probe")
    return value

"""What is said of an Instance: phase, stable reason, words without figures. Pure.

Running means that every container runs; whether it is ready is said beside it. An Instance whose container waits for its next
try is Creating (Pending until something of it has run), so that a phase alone never looks better than it is.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from veil.agent.backoff import History, Trouble, due_s
from veil.agent.probes import Health
from veil.agent.reconcile import final, next_containers, policy_of
from veil.agent.spec import InstancePlan, Planned, RestartPolicy
from veil.runtime.ports import Container, ContainerState
from veil.wire.rounds import REASON_MAX_CHARS, InstanceStatus

CONTAINER_CREATING = "ContainerCreating"
CONTAINER_ERROR = "ContainerError"
CRASH_LOOP = "CrashLoopBackOff"
DISK_PRESSURE = "DiskPressure"
EVICTED = "Evicted"
GPU_UNAVAILABLE = "GpuUnavailable"
INITIALIZING = "Initializing"
IMAGE_LIST_MISSING = "ImageListMissing"
IMAGE_NOT_ALLOWED = "ImageNotAllowed"
IMAGE_PULL = "ImagePullBackOff"
INVALID_TEMPLATE = "InvalidTemplate"
NOT_READY = "NotReady"
NOT_STARTED = "NotStarted"
PULLING = "PullingImage"
RESTARTING = "Restarting"
RUNTIME_UNAVAILABLE = "RuntimeUnavailable"
UNHEALTHY = "Unhealthy"
VOLUME_UNAVAILABLE = "VolumeUnavailable"
NETWORK_UNAVAILABLE = "NetworkUnavailable"
COMPLETED = "Completed"
ERROR = "Error"
LOST = "ContainerLost"

PLAIN_WORDS = {
    CONTAINER_CREATING: "a container is being created",
    CONTAINER_ERROR: "a container cannot be created or started; the node's log says why",
    CRASH_LOOP: "a container keeps ending; the next try waits longer each time",
    ERROR: "a container has failed and is not to be restarted",
    IMAGE_LIST_MISSING: "the node does not have the cluster's list of allowed images yet",
    IMAGE_NOT_ALLOWED: "the cluster does not allow an image",
    IMAGE_PULL: "an image cannot be fetched; the node's log says why",
    GPU_UNAVAILABLE: "a GPU cannot be had on this node",
    EVICTED: "it was ended because it held too much of its node's disk",
    DISK_PRESSURE: "a container waits: the node's disk is full",
    INITIALIZING: "an init container runs; the others wait for it",
    LOST: "a container is gone and is not to be restarted",
    NOT_READY: "a container runs; its readiness probe does not succeed",
    NOT_STARTED: "a container runs; its startup probe has not succeeded yet",
    PULLING: "an image is being fetched",
    RESTARTING: "a container has ended and is started again",
    RUNTIME_UNAVAILABLE: "the node's container runtime does not answer; running containers go on",
    UNHEALTHY: "a container is being stopped: a probe failed",
    VOLUME_UNAVAILABLE: "a volume cannot be had on this node",
    NETWORK_UNAVAILABLE: "a network cannot be had on this node",
    INVALID_TEMPLATE: "the template cannot be run; apply the manifest again",
}
"""What is said of a template that not everybody may read."""

Phase = Literal["Pending", "Creating", "Running", "Succeeded", "Failed", "Terminating"]


def instance_status(
    plan: InstancePlan,
    actual: Collection[Container],
    *,
    histories: Mapping[str, History],
    troubles: Mapping[str, Trouble],
    healths: Mapping[str, Health],
    pulling: Collection[str],
    now_s: float,
) -> InstanceStatus:
    """The status now. ``pulling``: the images that are on their way."""
    there = {container.id: container for container in actual}
    sights = [
        _Sight(
            planned=planned,
            policy=policy_of(plan, planned),
            container=there.get(planned.spec.id),
            history=histories.get(planned.name, History()),
            health=healths.get(planned.name, Health()),
            trouble=troubles.get(planned.name),
        )
        for planned in plan.everything
    ]
    turn = {planned.name for planned in next_containers(plan, there, histories)}
    shown = [sight for sight in sights if sight.planned.name in turn]
    phase, reason, message = _summary(shown, any(sight.history.started for sight in sights), pulling, now_s)
    codes = [sight.container.exit_code for sight in shown if sight.container is not None]
    return InstanceStatus(
        phase=phase,
        reason=reason,
        message=message[:REASON_MAX_CHARS],
        restarts=sum(sight.history.count for sight in sights),
        exit_code=next((code for code in codes if code), 0),
        ready=phase == "Running" and all(sight.running and sight.health.ready for sight in shown),
        started_s=int(max((sight.container.started_s for sight in shown if sight.container and sight.running), default=0)),
        observed_s=int(now_s),
    )


def terminating(before: InstanceStatus | None, now_s: float) -> InstanceStatus:
    """While its containers are being stopped."""
    restarts = before.restarts if before is not None else 0
    return InstanceStatus(phase="Terminating", restarts=restarts, observed_s=int(now_s))


def runtime_unavailable(before: InstanceStatus | None, now_s: float) -> InstanceStatus:
    """The runtime does not answer: containers go on, so what was true of phase and readiness is still shown."""
    phase: Phase = before.phase if before is not None else "Pending"
    return InstanceStatus(
        phase=phase,
        reason=RUNTIME_UNAVAILABLE,
        message=PLAIN_WORDS[RUNTIME_UNAVAILABLE],
        restarts=before.restarts if before is not None else 0,
        exit_code=before.exit_code if before is not None else 0,
        ready=before.ready if before is not None else False,
        started_s=before.started_s if before is not None else 0,
        observed_s=int(now_s),
    )


def invalid_template(now_s: float) -> InstanceStatus:
    """Nothing can be run from this template."""
    return InstanceStatus(
        phase="Failed",
        reason=INVALID_TEMPLATE,
        message=PLAIN_WORDS[INVALID_TEMPLATE],
        observed_s=int(now_s),
    )


def evicted(message: str, now_s: float) -> InstanceStatus:
    """Ended for the disk's sake, and not to be started again."""
    return InstanceStatus(phase="Failed", reason=EVICTED, message=message[:REASON_MAX_CHARS], observed_s=int(now_s))


def without_names(status: InstanceStatus) -> InstanceStatus:
    """The same status, saying nothing that is in the template."""
    return msgspec.structs.replace(status, message=PLAIN_WORDS.get(status.reason, ""))


def same(one: InstanceStatus | None, other: InstanceStatus) -> bool:
    """Equal but for when it was looked at."""
    return one is not None and msgspec.structs.replace(one, observed_s=0) == msgspec.structs.replace(other, observed_s=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """All that is known of one container."""

    planned: Planned
    policy: RestartPolicy
    container: Container | None
    history: History
    health: Health
    trouble: Trouble | None

    @property
    def name(self) -> str:
        return f"{'init ' if self.planned.init else ''}container {self.planned.name}"

    @property
    def running(self) -> bool:
        return self.container is not None and self.container.state is ContainerState.RUNNING

    @property
    def over(self) -> bool:
        return final(self.policy, self.container, self.history, self.health)

    @property
    def end(self) -> str:
        """How its last run ended, as a sentence without its point."""
        code = self.container.exit_code if self.container is not None else None
        if self.health.failed is not None:
            return f"{self.name} was stopped because its {self.health.failed.words} failed"
        return f"{self.name} ended with exit code {code}" if code is not None else f"{self.name} ended"


def _summary(sights: list[_Sight], ever_started: bool, pulling: Collection[str], now_s: float) -> tuple[Phase, str, str]:
    waiting = [_waiting(sight, pulling, now_s) for sight in sights if not sight.over and not sight.running]
    if waiting:
        return "Creating" if ever_started or waiting[0][0] in (CONTAINER_ERROR, EVICTED) else "Pending", *waiting[0]
    if not all(sight.over for sight in sights):
        return _running(sights)
    for sight in sights:
        if sight.container is None or sight.container.exit_code is None:
            return "Failed", LOST, f"{sight.name} is gone and restartPolicy is {sight.policy}"
        if sight.health.failed is not None or sight.container.exit_code != 0:
            return "Failed", ERROR, f"{sight.end} and restartPolicy is {sight.policy}"
    return "Succeeded", COMPLETED, ""


def _running(sights: list[_Sight]) -> tuple[Phase, str, str]:
    """Every container that should run does."""
    for sight in (sight for sight in sights if sight.running):
        if sight.planned.init:
            return "Creating", INITIALIZING, f"{sight.name} runs; the others wait for it"
        if sight.health.failed is not None:
            return "Running", UNHEALTHY, f"{sight.name} is being stopped: its {sight.health.failed.words} failed"
        if not sight.health.started:
            return "Running", NOT_STARTED, f"{sight.name} runs; its startup probe has not succeeded yet"
        if not sight.health.ready:
            return "Running", NOT_READY, f"{sight.name} runs; its readiness probe does not succeed"
    return "Running", "", ""


def _waiting(sight: _Sight, pulling: Collection[str], now_s: float) -> tuple[str, str]:
    """Why a container that should run does not run at this moment."""
    container, history, image = sight.container, sight.history, sight.planned.spec.image
    if sight.trouble is not None:
        return sight.trouble.reason, sight.trouble.message
    if image in pulling:
        return PULLING, f"image {image} is being fetched"
    if history.started and (container is None or container.state is not ContainerState.CREATED):
        ended_s = container.finished_s if container is not None else 0.0
        if due_s(history, ended_s=ended_s, now_s=now_s) > now_s:
            return CRASH_LOOP, f"{sight.end}; the next try waits longer each time"
        return RESTARTING, f"{sight.end} and is started again"
    return CONTAINER_CREATING, f"{sight.name} is being created"

"""What is said of an Instance: phase, stable reason, words without figures. Pure.

Running means that every container runs. An Instance whose container waits for its next try is Creating (Pending until
something of it has run), so that a phase alone never looks better than it is.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from veil.agent.backoff import History, Trouble, due_s
from veil.agent.reconcile import final
from veil.agent.spec import InstancePlan, Planned, RestartPolicy
from veil.runtime.ports import Container, ContainerState
from veil.wire.rounds import REASON_MAX_CHARS, InstanceStatus

CONTAINER_CREATING = "ContainerCreating"
CONTAINER_ERROR = "ContainerError"
CRASH_LOOP = "CrashLoopBackOff"
IMAGE_PULL = "ImagePullBackOff"
INVALID_TEMPLATE = "InvalidTemplate"
PULLING = "PullingImage"
RESTARTING = "Restarting"
RUNTIME_UNAVAILABLE = "RuntimeUnavailable"
COMPLETED = "Completed"
ERROR = "Error"
LOST = "ContainerLost"

PLAIN_WORDS = {
    CONTAINER_CREATING: "a container is being created",
    CONTAINER_ERROR: "a container cannot be created or started; the node's log says why",
    CRASH_LOOP: "a container keeps ending; the next try waits longer each time",
    ERROR: "a container has failed and is not to be restarted",
    IMAGE_PULL: "an image cannot be fetched; the node's log says why",
    LOST: "a container is gone and is not to be restarted",
    PULLING: "an image is being fetched",
    RESTARTING: "a container has ended and is started again",
    RUNTIME_UNAVAILABLE: "the node's container runtime does not answer; running containers go on",
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
    pulling: Collection[str],
    now_s: float,
) -> InstanceStatus:
    """The status now. ``pulling``: the images that are on their way."""
    there = {container.id: container for container in actual}
    pairs = [(planned, there.get(planned.spec.id)) for planned in plan.containers]
    remembered = [histories.get(planned.name, History()) for planned in plan.containers]
    running = [container for _, container in pairs if container is not None and container.state is ContainerState.RUNNING]
    over = [final(plan.policy, container, history) for (_, container), history in zip(pairs, remembered, strict=True)]
    waiting = [
        _waiting(planned, container, history, troubles.get(planned.name), pulling, now_s)
        for (planned, container), history, ended in zip(pairs, remembered, over, strict=True)
        if not ended and container not in running
    ]
    codes = [container.exit_code for _, container in pairs if container is not None and container.exit_code is not None]
    phase, reason, message = _summary(plan.policy, pairs, over, waiting, any(history.started for history in remembered))
    return InstanceStatus(
        phase=phase,
        reason=reason,
        message=message[:REASON_MAX_CHARS],
        restarts=sum(history.count for history in remembered),
        exit_code=next((code for code in codes if code), 0),
        ready=phase == "Running" and len(running) == len(pairs),
        started_s=int(max((container.started_s for container in running), default=0)),
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


def without_names(status: InstanceStatus) -> InstanceStatus:
    """The same status, saying nothing that is in the template."""
    return msgspec.structs.replace(status, message=PLAIN_WORDS.get(status.reason, ""))


def same(one: InstanceStatus | None, other: InstanceStatus) -> bool:
    """Equal but for when it was looked at."""
    return one is not None and msgspec.structs.replace(one, observed_s=0) == msgspec.structs.replace(other, observed_s=0)


def _summary(
    policy: RestartPolicy,
    pairs: list[tuple[Planned, Container | None]],
    over: list[bool],
    waiting: list[tuple[str, str]],
    ever_started: bool,
) -> tuple[Phase, str, str]:
    if waiting:
        return "Creating" if ever_started or waiting[0][0] == CONTAINER_ERROR else "Pending", *waiting[0]
    if not all(over):
        return "Running", "", ""
    for planned, container in pairs:
        if container is None or container.exit_code is None:
            return "Failed", LOST, f"container {planned.name} is gone and restartPolicy is {policy}"
        if container.exit_code != 0:
            return "Failed", ERROR, f"container {planned.name} has failed and restartPolicy is {policy}"
    return "Succeeded", COMPLETED, ""


def _waiting(
    planned: Planned,
    container: Container | None,
    history: History,
    trouble: Trouble | None,
    pulling: Collection[str],
    now_s: float,
) -> tuple[str, str]:
    """Why a container that should run does not run at this moment."""
    if trouble is not None:
        return trouble.reason, trouble.message
    if planned.spec.image in pulling:
        return PULLING, f"image {planned.spec.image} is being fetched"
    if history.started and (container is None or container.state is not ContainerState.CREATED):
        if due_s(history, ended_s=container.finished_s if container is not None else 0.0) > now_s:
            return CRASH_LOOP, f"container {planned.name} keeps ending; the next try waits longer each time"
        return RESTARTING, f"container {planned.name} has ended and is started again"
    return CONTAINER_CREATING, f"container {planned.name} is being created"

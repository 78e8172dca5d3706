"""What to do next for one Instance, given what is desired, what the runtime has, what is remembered, and the time. Pure.

The agent carries the actions out in order and then asks again, until there is nothing left to do now. Every action may be
repeated: after a crash between two of them the next agent sees what is there and goes on.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from veil.agent.backoff import History, Trouble, due_s
from veil.agent.keys import LABEL_SPEC, grace_of
from veil.agent.probes import Health
from veil.agent.spec import GRACE_DEFAULT_S, InstancePlan, Planned, RestartPolicy
from veil.runtime.ports import Container, ContainerState

ENDED = (ContainerState.EXITED, ContainerState.UNKNOWN)


class Verb(StrEnum):
    REMOVE = "remove"
    """Stop within the grace period, then delete."""
    STOP = "stop"
    """Stop within the grace period: it is to be started again."""
    CREATE = "create"
    START = "start"
    """The first start of a container."""
    RESTART = "restart"
    """A further one: counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """``container`` is its name in the template (empty for one that the template does not know)."""

    verb: Verb
    id: str
    container: str = ""
    grace_s: int = 0
    ended_s: float = 0.0
    """RESTART: when the run before ended, 0 = unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``wake_s``: look again at that time (Unix seconds) even if nothing happens; None = no need."""

    actions: tuple[Action, ...] = ()
    wake_s: float | None = None


def decide(
    plan: InstancePlan | None,
    actual: Collection[Container],
    *,
    histories: Mapping[str, History],
    troubles: Mapping[str, Trouble],
    healths: Mapping[str, Health],
    now_s: float,
) -> Decision:
    """The next actions. ``plan`` None = nothing of this Instance should be here. The mappings go by container name."""
    there = {container.id: container for container in actual}
    known = {planned.spec.id for planned in plan.everything} if plan else set()
    actions = [_remove(container) for container in actual if container.id not in known]
    wakes: list[float] = []
    for planned in next_containers(plan, there, histories) if plan else ():
        assert plan is not None
        trouble = troubles.get(planned.name)
        if trouble is not None and trouble.holds(now_s):
            wakes.append(trouble.until_s)
            continue
        policy = policy_of(plan, planned)
        health = healths.get(planned.name, Health())
        history = histories.get(planned.name, History())
        step = _container(planned, there.get(planned.spec.id), policy, history, health, plan.grace_s, now_s)
        if isinstance(step, float):
            wakes.append(step)
        else:
            actions += step
    return Decision(actions=tuple(actions), wake_s=min(wakes, default=None))


def next_containers(plan: InstancePlan, there: Mapping[str, Container], histories: Mapping[str, History]) -> tuple[Planned, ...]:
    """Those whose turn it is: the first init container that has not succeeded, or, after the last, all others.

    Once any of the others has been made, the init containers are over for good, whatever has become of their records.
    """
    if any(planned.spec.id in there or histories.get(planned.name, History()).started for planned in plan.containers):
        return plan.containers
    for init in plan.inits:
        container = there.get(init.spec.id)
        if container is None or container.state is not ContainerState.EXITED or container.exit_code != 0:
            return (init,)
    return plan.containers


def policy_of(plan: InstancePlan, planned: Planned) -> RestartPolicy:
    """An init container is to succeed once: Always means for it that it is tried until it does."""
    return RestartPolicy.ON_FAILURE if planned.init and plan.policy is RestartPolicy.ALWAYS else plan.policy


def final(policy: RestartPolicy, container: Container | None, history: History, health: Health) -> bool:
    """Has this container ended for good? One that was started and is no longer there has ended, nobody knows how."""
    if container is None:
        return policy is RestartPolicy.NEVER and history.started
    if container.state not in ENDED:
        return False
    succeeded = container.exit_code == 0 and health.failed is None
    return policy is RestartPolicy.NEVER or (policy is RestartPolicy.ON_FAILURE and succeeded)


def _container(
    planned: Planned,
    container: Container | None,
    policy: RestartPolicy,
    history: History,
    health: Health,
    grace_s: int,
    now_s: float,
) -> list[Action] | float:
    """What to do now, or when there will be something to do."""
    if container is not None and container.labels.get(LABEL_SPEC) != planned.digest:
        return [_remove(container), _do(Verb.CREATE, planned), _do(Verb.START, planned)]
    if container is not None and container.state is ContainerState.CREATED:
        return [_do(Verb.START, planned)]
    if container is not None and container.state is ContainerState.RUNNING:
        if health.failed is None:
            return []
        grace_s = grace_s if health.grace_s is None else health.grace_s
        return [Action(verb=Verb.STOP, id=planned.spec.id, container=planned.name, grace_s=grace_s)]
    if final(policy, container, history, health):
        return []
    if container is None and not history.started:
        return [_do(Verb.CREATE, planned), _do(Verb.START, planned)]
    return _restart(planned, container, history, now_s)


def _restart(planned: Planned, container: Container | None, history: History, now_s: float) -> list[Action] | float:
    ended_s = container.finished_s if container is not None else 0.0
    due = due_s(history, ended_s=ended_s, now_s=now_s)
    if due > now_s:
        return due
    restart = Action(verb=Verb.RESTART, id=planned.spec.id, container=planned.name, ended_s=ended_s)
    if container is not None and container.state is ContainerState.EXITED:
        return [restart]
    lost = [_remove(container)] if container is not None else []
    return [*lost, _do(Verb.CREATE, planned), restart]


def _do(verb: Verb, planned: Planned) -> Action:
    return Action(verb=verb, id=planned.spec.id, container=planned.name)


def _remove(container: Container) -> Action:
    return Action(verb=Verb.REMOVE, id=container.id, grace_s=grace_of(container.labels, GRACE_DEFAULT_S))

"""The pure parts: ids and labels, back-off, what to do, what to say."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veil.agent.backoff import BACKOFF_MAX_S, BACKOFF_RESET_S, History, Trouble, again, due_s, first_start, restarted
from veil.agent.keys import DesiredInstance, InstanceKey, container_id, container_labels, grace_of, owner_of
from veil.agent.reconcile import Verb, decide
from veil.agent.spec import GRACE_MAX_S, InstancePlan, LogPaths, plan_instance
from veil.agent.status import instance_status
from veil.errors import InvalidInput
from veil.manifest.rules import CONTAINERS_MAX
from veil.runtime.ids import check_id
from veil.runtime.ports import Container, ContainerState
from veil.types import Generation, ObjectId
from veil.wire.objects import ContainerResources, Resources
from veil.wire.rounds import REASON_MAX_CHARS

NOW = 1_700_000_000.0
KEYS = st.builds(
    lambda object_id, generation, replica: InstanceKey(ObjectId(object_id), Generation(generation), replica),
    st.binary(min_size=32, max_size=32),
    st.integers(1, 2**32),
    st.integers(0, 999),
)
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


def planned(*, policy: str = "Always", count: int = 1, **template: Any) -> InstancePlan:
    spec = {
        "restartPolicy": policy,
        "containers": [{"name": f"c{number}", "image": "app:1", "command": ["serve"]} for number in range(count)],
        **template,
    }
    desired = DesiredInstance(
        key=InstanceKey(ObjectId(bytes(32)), Generation(1), 0),
        namespace="shop",
        workload="web",
        spec=spec,
        resources=Resources(containers={"c0": ContainerResources(cpu_milli=250, memory_bytes=1 << 26)}),
    )
    return plan_instance(
        desired, node="n1", log_paths=LogPaths(Path("logs")), volumes_home=Path("volumes"), network_home=Path("net")
    )


def there(plan: InstancePlan, state: ContainerState, number: int = 0, **facts: Any) -> Container:
    spec = plan.containers[number].spec
    return Container(id=spec.id, state=state, labels=spec.labels, **facts)


def verbs(plan: InstancePlan | None, *actual: Container, history: History | None = None, now_s: float = NOW) -> list[str]:
    decision = decide(plan, actual, histories={"c0": history or History()}, troubles={}, healths={}, now_s=now_s)
    return [action.verb.value for action in decision.actions]


@given(KEYS, NAMES)
def test_every_id_is_one_the_runtimes_take(key: InstanceKey, name: str) -> None:
    assert check_id(container_id(key, name))


@given(KEYS, NAMES, KEYS, NAMES)
def test_ids_differ_when_anything_differs(key: InstanceKey, name: str, other: InstanceKey, another: str) -> None:
    assert (container_id(key, name) == container_id(other, another)) == ((key, name) == (other, another))


def test_long_names_with_the_same_beginning_keep_apart() -> None:
    key = InstanceKey(ObjectId(bytes(32)), Generation(1), 0)
    assert container_id(key, "a" * 62 + "b") != container_id(key, "a" * 62 + "c")


@given(KEYS, NAMES)
def test_labels_lead_back_to_the_owner(key: InstanceKey, name: str) -> None:
    labels = container_labels(key, name, node="n1", grace_s=9, spec_digest="d")
    assert owner_of(labels, "n1") == key
    assert owner_of(labels, "n2") is None
    assert grace_of(labels, 30) == 9


@pytest.mark.parametrize(
    "labels", [{}, {"veil.dev/node": "n1"}, {"veil.dev/node": "n1", "veil.dev/object": "zz", "veil.dev/generation": "1"}]
)
def test_labels_of_others_have_no_owner(labels: dict[str, str]) -> None:
    assert owner_of(labels, "n1") is None
    assert grace_of(labels, 30) == 30


def test_pauses_double_up_to_the_limit_and_restarts_are_counted() -> None:
    history, pauses, now_s = first_start(History(), NOW), [], NOW
    for _ in range(8):
        ended_s = now_s + 1
        due = due_s(history, ended_s=ended_s, now_s=ended_s)
        pauses.append(due - ended_s)
        now_s = due
        history = restarted(history, ended_s=ended_s, now_s=now_s)
    assert pauses == [0, 10, 20, 40, 80, 160, 300, 300]
    assert (history.count, history.last_s) == (8, now_s)


@pytest.mark.parametrize(("ran_s", "pause_s"), [(BACKOFF_RESET_S - 1, 80), (BACKOFF_RESET_S, 0)])
def test_a_long_run_resets_the_pause(ran_s: float, pause_s: float) -> None:
    history = History(count=4, last_s=NOW, backoff_s=80)
    assert due_s(history, ended_s=NOW + ran_s, now_s=NOW + ran_s) == NOW + ran_s + pause_s
    assert restarted(history, ended_s=NOW + ran_s, now_s=NOW + 1000).backoff_s == (160 if pause_s else 10)


def test_an_end_at_an_unknown_time_is_taken_as_right_after_the_start() -> None:
    assert due_s(History(count=1, last_s=NOW, backoff_s=10), ended_s=0, now_s=NOW) == NOW + 10


def test_failed_attempts_wait_longer_and_longer() -> None:
    trouble: Trouble | None = None
    pauses = []
    for _ in range(7):
        trouble = again(trouble, reason="r", message="m", now_s=NOW)
        pauses.append(trouble.until_s - NOW)
    assert pauses == [10, 20, 40, 80, 160, BACKOFF_MAX_S, BACKOFF_MAX_S]


def test_what_is_done() -> None:
    plan = planned()
    started = first_start(History(), NOW - 60)
    ended = there(plan, ContainerState.EXITED, exit_code=1, finished_s=NOW - 1)
    assert verbs(plan) == ["create", "start"]
    assert verbs(plan, there(plan, ContainerState.CREATED)) == ["start"]
    assert verbs(plan, there(plan, ContainerState.RUNNING), history=started) == []
    assert verbs(plan, ended, history=started) == ["restart"]
    assert verbs(plan, there(plan, ContainerState.UNKNOWN), history=started) == ["remove", "create", "restart"]
    assert verbs(plan, history=started) == ["create", "restart"]
    assert verbs(None, there(plan, ContainerState.RUNNING)) == ["remove"]


def test_a_pause_is_waited_for() -> None:
    plan = planned()
    history = History(count=1, last_s=NOW - 5, backoff_s=10)
    ended = there(plan, ContainerState.EXITED, exit_code=1, finished_s=NOW - 1)
    decision = decide(plan, [ended], histories={"c0": history}, troubles={}, healths={}, now_s=NOW)
    assert (decision.actions, decision.wake_s) == ((), NOW + 9)
    assert verbs(plan, ended, history=history, now_s=NOW + 9) == ["restart"]


def test_trouble_holds_back_its_container_only() -> None:
    plan = planned(count=2)
    trouble = again(None, reason="ContainerError", message="m", now_s=NOW)
    decision = decide(plan, [], histories={}, troubles={"c0": trouble}, healths={}, now_s=NOW)
    assert {action.container for action in decision.actions} == {"c1"}
    assert decision.wake_s == NOW + 10


@pytest.mark.parametrize(
    ("policy", "code", "verbs_expected"),
    [
        ("Always", 0, ["restart"]),
        ("OnFailure", 0, []),
        ("OnFailure", 2, ["restart"]),
        ("OnFailure", None, ["restart"]),
        ("Never", 2, []),
    ],
)
def test_restart_policy(policy: str, code: int | None, verbs_expected: list[str]) -> None:
    plan = planned(policy=policy)
    ended = there(plan, ContainerState.EXITED, exit_code=code, finished_s=NOW - 1)
    assert verbs(plan, ended, history=first_start(History(), NOW - 60)) == verbs_expected


def test_a_container_of_another_spec_is_replaced_with_its_own_grace() -> None:
    old = planned(terminationGracePeriodSeconds=3)
    new = planned(hostNetwork=True)
    decision = decide(new, [there(old, ContainerState.RUNNING)], histories={}, troubles={}, healths={}, now_s=NOW)
    assert next((action.verb, action.grace_s) for action in decision.actions) == (Verb.REMOVE, 3)
    assert len(decision.actions) == 3


def test_a_container_that_the_template_lost_is_removed() -> None:
    two, one = planned(count=2), planned()
    actual = [there(two, ContainerState.RUNNING, number) for number in range(2)]
    decision = decide(one, actual, histories={}, troubles={}, healths={}, now_s=NOW)
    assert [(action.verb, action.id) for action in decision.actions] == [(Verb.REMOVE, two.containers[1].spec.id)]


def test_limits_and_environment_of_the_spec() -> None:
    plan = planned(hostNetwork=True, terminationGracePeriodSeconds=10**9)
    spec = plan.containers[0].spec
    assert (spec.cpu_milli, spec.memory_bytes, spec.network) == (250, 1 << 26, "host")
    assert plan.grace_s == GRACE_MAX_S


def test_veils_own_variables_cannot_be_replaced() -> None:
    env = [{"name": "VEIL_NODE", "value": "mine"}, {"name": "A", "value": "b"}, {"name": "EMPTY"}]
    plan = planned(containers=[{"name": "c0", "image": "i", "env": env}])
    assert plan.containers[0].spec.env["VEIL_NODE"] == "n1"
    assert plan.containers[0].spec.env["A"] == "b"
    assert plan.containers[0].spec.env["EMPTY"] == ""


@pytest.mark.parametrize(
    "template",
    [
        {"containers": []},
        {"containers": [{"name": "a", "image": "i"}] * 2},
        {"containers": [{"name": str(number), "image": "i"} for number in range(CONTAINERS_MAX + 1)]},
        {"containers": [{"name": "a", "image": "i", "command": "sh -c x"}]},
        {"containers": [{"name": "../x", "image": "i"}]},
        {"containers": "abc"},
        {"restartPolicy": "Sometimes"},
        {"terminationGracePeriodSeconds": "soon"},
    ],
)
def test_templates_that_cannot_be_run(template: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        planned(**template)


def status(plan: InstancePlan, *actual: Container, history: History | None = None, **facts: Any) -> Any:
    given = {"troubles": {}, "healths": {}, "pulling": (), "now_s": NOW} | facts
    return instance_status(plan, actual, histories={"c0": history or History()}, **given)


def test_what_is_said() -> None:
    plan, started = planned(), first_start(History(), NOW - 60)
    looping = History(count=2, last_s=NOW - 2, backoff_s=20)
    ended = there(plan, ContainerState.EXITED, exit_code=4, finished_s=NOW - 1)
    cases = [
        (status(plan), ("Pending", "ContainerCreating", False)),
        (status(plan, pulling=["app:1"]), ("Pending", "PullingImage", False)),
        (status(plan, there(plan, ContainerState.RUNNING), history=started), ("Running", "", True)),
        (status(plan, ended, history=started), ("Creating", "Restarting", False)),
        (status(plan, ended, history=looping), ("Creating", "CrashLoopBackOff", False)),
        (status(plan, history=looping), ("Creating", "CrashLoopBackOff", False)),
        (status(planned(policy="Never"), ended, history=started), ("Failed", "Error", False)),
        (status(planned(policy="Never"), history=started), ("Failed", "ContainerLost", False)),
    ]
    assert [(said.phase, said.reason, said.ready) for said, _ in cases] == [expected for _, expected in cases]
    assert status(plan, ended, history=looping).exit_code == 4
    assert status(plan, ended, history=looping).restarts == 2


def test_running_needs_every_container() -> None:
    plan = planned(count=2)
    assert status(plan, there(plan, ContainerState.RUNNING)).phase == "Pending"
    both = [there(plan, ContainerState.RUNNING, number, started_s=NOW - number) for number in range(2)]
    said = status(plan, *both)
    assert (said.phase, said.ready, said.started_s) == ("Running", True, int(NOW))


def test_a_finished_side_container_leaves_the_instance_running_but_not_ready() -> None:
    plan = planned(policy="Never", count=2)
    side = there(plan, ContainerState.EXITED, 1, exit_code=0)
    said = status(plan, there(plan, ContainerState.RUNNING), side)
    assert (said.phase, said.ready) == ("Running", False)


def test_a_message_fits_the_wire() -> None:
    plan = planned(containers=[{"name": "c0", "image": "x" * 4000}])
    assert len(status(plan, pulling=["x" * 4000]).message) == REASON_MAX_CHARS

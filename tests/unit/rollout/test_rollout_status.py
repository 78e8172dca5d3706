"""What a user reads of a Workload, from what is known of its Instances."""

from typing import Any

import pytest

from veil.rollout.instance import desired_of, new_instance, observed_of
from veil.rollout.status import workload_status

Obj = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:05:00Z"


def workload(replicas: int = 2, generation: int = 3, **metadata: Any) -> Obj:
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": generation, "labels": {"a": "b"}, **metadata},
        "spec": {"replicas": replicas},
    }


def instance(of: Obj, replica: int, generation: int = 3, **status: Any) -> Obj:
    return {**new_instance(of, generation, replica), "status": status}


def running(of: Obj, replica: int, generation: int = 3) -> Obj:
    return instance(of, replica, generation, phase="Running", ready=True, node="n1", placement={"shard": 1})


def condition(status: Obj, kind: str) -> tuple[str, str]:
    (found,) = [entry for entry in status["conditions"] if entry["type"] == kind]
    return found["status"], found["reason"]


def test_all_is_well() -> None:
    of = workload()
    status = workload_status(of, [running(of, 0), running(of, 1)], NOW)
    counts = ("observedGeneration", "replicas", "readyReplicas", "updatedReplicas")
    assert [status[key] for key in counts] == [3, 2, 2, 2]
    assert condition(status, "Placed") == ("True", "AllPlaced")
    assert condition(status, "Available") == ("True", "AllAvailable")
    assert condition(status, "Progressing") == ("True", "Complete")


def test_nothing_yet() -> None:
    status = workload_status(workload(), [], NOW)
    assert condition(status, "Placed") == ("False", "InstancesMissing")
    assert condition(status, "Available") == ("False", "InstancesMissing")
    assert condition(status, "Progressing") == ("True", "RollingOut")


@pytest.mark.parametrize("reason", ["NoNodeFits", "FheUnavailable", "DemandNotInEpoch", "QuorumMissing"])
def test_placement_says_why_not(reason: str) -> None:
    of = workload()
    waiting = instance(of, 1, phase="Pending", reason=reason, message="no node has room")
    status = workload_status(of, [running(of, 0), waiting], NOW)
    assert condition(status, "Placed") == ("False", reason)
    assert condition(status, "Available") == ("False", reason)
    assert status["conditions"][0]["message"] == "1 of 2 replicas have no node: no node has room"


def test_the_most_frequent_reason_is_shown() -> None:
    of = workload(3)
    reasons = ["QuorumMissing", "NoNodeFits", "NoNodeFits"]
    status = workload_status(of, [instance(of, n, phase="Pending", reason=reason) for n, reason in enumerate(reasons)], NOW)
    assert condition(status, "Placed") == ("False", "NoNodeFits")


def test_a_placed_replica_that_crashes_is_placed_and_not_available() -> None:
    of = workload(1)
    status = workload_status(of, [instance(of, 0, phase="Creating", reason="CrashLoopBackOff", peer="12D3")], NOW)
    assert condition(status, "Placed") == ("True", "AllPlaced")
    assert condition(status, "Available") == ("False", "CrashLoopBackOff")


def test_during_a_rollout_the_old_ones_count_as_available() -> None:
    of = workload(1)
    status = workload_status(of, [running(of, 0, 2), instance(of, 0, phase="Pending")], NOW)
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (2, 1, 1)
    assert condition(status, "Available") == ("True", "AllAvailable")
    assert condition(status, "Placed") == ("False", "Placing")
    assert condition(status, "Progressing") == ("True", "RollingOut")


def test_a_replica_that_failed_for_good_stops_progress() -> None:
    of = workload(1)
    status = workload_status(of, [instance(of, 0, phase="Failed", reason="Error", message="ended", node="n1")], NOW)
    assert condition(status, "Progressing") == ("False", "ReplicaFailed")


def test_terminating_instances_do_not_count() -> None:
    of = workload(1)
    status = workload_status(of, [running(of, 0), instance(of, 1, phase="Terminating", ready=True)], NOW)
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (1, 1, 1)


def test_zero_replicas_and_deletion() -> None:
    assert condition(workload_status(workload(0), [], NOW), "Available") == ("True", "ScaledToZero")
    leaving = workload(2, deletionTimestamp=NOW)
    assert desired_of(leaving).replicas == 0
    assert condition(workload_status(leaving, [running(leaving, 0)], NOW), "Progressing") == ("True", "Removing")


def test_the_template_s_generation_names_the_instances_and_the_object_s_is_observed() -> None:
    of = workload(2, generation=5, annotations={"veil.dev/template-generation": "3"})
    assert desired_of(of).generation == 3
    assert desired_of(workload(generation=5)).generation == 5
    assert desired_of(workload(generation=5, annotations={"note": "x"})).generation == 5
    status = workload_status(of, [running(of, 0), running(of, 1)], NOW)
    assert (status["observedGeneration"], status["updatedReplicas"]) == (5, 2)
    assert {entry["observedGeneration"] for entry in status["conditions"]} == {5}
    assert condition(status, "Progressing") == ("True", "Complete")


def test_recomputing_changes_nothing() -> None:
    of = workload()
    instances = [running(of, 0), instance(of, 1, phase="Pending", reason="NoNodeFits")]
    first = workload_status(of, instances, NOW)
    assert workload_status({**of, "status": first}, instances, LATER) == first


def test_transition_time_moves_with_the_status_only() -> None:
    of = workload(1)
    first = workload_status(of, [instance(of, 0, phase="Pending", reason="NoNodeFits")], NOW)
    other_reason = workload_status({**of, "status": first}, [instance(of, 0, phase="Pending", reason="QuorumMissing")], LATER)
    assert {entry["lastTransitionTime"] for entry in other_reason["conditions"]} == {NOW}
    placed = workload_status({**of, "status": first}, [running(of, 0)], LATER)
    times = {entry["type"]: entry["lastTransitionTime"] for entry in placed["conditions"]}
    assert times == {"Placed": LATER, "Available": LATER, "Progressing": NOW}


def test_conditions_and_fields_of_other_parts_are_kept() -> None:
    of = workload(1)
    foreign = {"type": "UnderReplicated", "status": "True", "reason": "CopiesMissing", "lastTransitionTime": NOW}
    status = workload_status({**of, "status": {"conditions": [foreign], "selector": "x"}}, [running(of, 0)], LATER)
    assert foreign in status["conditions"]
    assert status["selector"] == "x"


def test_an_instance_object_is_read_back_as_what_was_planned() -> None:
    of = workload()
    made = new_instance(of, 3, 1)
    assert made["metadata"]["labels"] == {
        "a": "b",
        "veil.dev/workload": "web",
        "veil.dev/generation": "3",
        "veil.dev/replica": "1",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
    seen = observed_of(made)
    assert (seen.name, seen.generation, seen.replica, seen.phase, seen.ready) == ("web-3-1", 3, 1, "", False)
    assert observed_of({**made, "metadata": {**made["metadata"], "deletionTimestamp": NOW}}).phase == "Terminating"

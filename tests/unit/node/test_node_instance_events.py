"""Events of Instances: what is worth a note, how many there are, and when they go."""

import itertools

import pytest

from veil.node.instance_events import PER_INSTANCE_MAX, PRUNE_EVERY_S, TOTAL_MAX, TTL_S, InstanceEvents, told
from veil.store.objects import RV_BLOCK, Obj, ObjectStore

PLACEMENT = {"shard": 3, "sequence": 7}


class VirtualClock:
    time = 1_700_000_000.0

    def now_s(self) -> float:
        return self.time

    def monotonic_s(self) -> float:
        return self.time


class Noted:
    def __init__(self) -> None:
        counter = itertools.count(1, RV_BLOCK)
        self.clock = VirtualClock()
        self.store = ObjectStore(None, reserve_rv=lambda count: next(counter))
        self.events = InstanceEvents(self.store, self.clock)
        self.status: Obj = {}

    def say(self, name: str = "hello-1-0", **status: object) -> None:
        after = {"phase": "Creating", "reason": "", **status}
        self.events.changed(instance(name), self.status, after)
        self.status = after

    def all(self) -> list[tuple[str, str, int]]:
        ordered = sorted(self.store.list("Event"), key=lambda one: (one["firstTimestamp"], one["metadata"]["name"]))
        return [(one["type"], one["reason"], one["count"]) for one in ordered]


def instance(name: str) -> Obj:
    metadata = {"name": name, "namespace": "default", "uid": "u", "labels": {"veil.dev/workload": "hello"}}
    return {"apiVersion": "veil.dev/v1alpha1", "kind": "Instance", "metadata": metadata}


@pytest.fixture
def noted() -> Noted:
    return Noted()


def test_what_is_worth_a_note() -> None:
    running = {"phase": "Running", "reason": "", "ready": True, "placement": PLACEMENT, "node": "node-2"}
    assert told({}, running) == [
        ("Placed", "on node-2: shard 3, append 7"),
        ("Running", "every container runs and is ready"),
    ]
    assert told(running, running) == []
    assert told(running, {**running, "restarts": 1}) == [("Restarted", "a container was started again")]
    looping = {**running, "phase": "Creating", "reason": "CrashLoopBackOff", "message": "it ended with 3"}
    assert told(running, looping) == [("CrashLoopBackOff", "it ended with 3")]


def test_the_same_again_counts_up(noted: Noted) -> None:
    for _ in range(5):
        noted.say(reason="CrashLoopBackOff", message="it ended with 3")
        noted.clock.time += 10
        noted.say(phase="Running")
        noted.clock.time += 10
    assert noted.all() == [("Warning", "CrashLoopBackOff", 5), ("Normal", "Running", 5)]
    (looping,) = [one for one in noted.store.list("Event") if one["reason"] == "CrashLoopBackOff"]
    assert looping["lastTimestamp"] > looping["firstTimestamp"]
    assert looping["involvedObject"]["name"] == "hello-1-0"


def test_there_is_a_bound_for_each_instance_and_the_oldest_goes(noted: Noted) -> None:
    for number in range(PER_INSTANCE_MAX + 5):
        noted.say(reason=f"Reason{number}")
        noted.clock.time += 1
    noted.say("other-1-0", reason="Reason0")
    kept = [reason for _, reason, _ in noted.all()]
    assert len(kept) == PER_INSTANCE_MAX + 1
    assert "Reason4" not in kept
    assert "Reason20" in kept


def test_old_ones_go_and_so_do_the_oldest_of_too_many(noted: Noted) -> None:
    noted.say(reason="PullingImage")
    noted.clock.time += TTL_S + 2
    for number in range(TOTAL_MAX + 3):
        noted.store.put(_bare(number, noted.clock.time + number))
    noted.events.prune()
    left = noted.store.list("Event")
    assert len(left) == TOTAL_MAX
    assert not any(one["reason"] == "PullingImage" for one in left)
    noted.clock.time += PRUNE_EVERY_S / 2
    noted.store.put(_bare(9999, 0))
    noted.events.prune()
    assert len(noted.store.list("Event")) == TOTAL_MAX + 1, "not looked at again so soon"


def _bare(number: int, at_s: float) -> Obj:
    from veil.node.instance_events import _event

    made = _event(instance(f"many-1-{number}"), "Running", "", "", at_s)
    return {**made, "metadata": {**made["metadata"], "name": f"e{number}"}}

"""A drain: one replica after the other, for as long as somebody asks, of a node that is cordoned."""

from dataclasses import dataclass, field

import pytest

from veil.errors import Conflict
from veil.node.draining import ASKED_S, TURN_S, Draining
from veil.placement.ports import ReplicaKey
from veil.placement.renewals import binding_key
from veil.store.journal import Binding
from veil.types import Generation, ObjectId
from veil.wire.rounds import InstanceStatus


class VirtualClock:
    time = 1000.0

    def now_s(self) -> float:
        return self.time

    def monotonic_s(self) -> float:
        return self.time


@dataclass
class FakePlaced:
    held: list[Binding]
    moving: frozenset[ReplicaKey] = frozenset()
    hindrances: dict[ReplicaKey, str] = field(default_factory=dict)
    statuses: dict[ReplicaKey, InstanceStatus] = field(default_factory=dict)

    def bindings(self) -> list[Binding]:
        return self.held

    def move(self, keys: frozenset[ReplicaKey]) -> None:
        self.moving = keys

    def hindrance(self, key: ReplicaKey) -> str:
        return self.hindrances.get(key, "")

    def said(self, key: ReplicaKey) -> InstanceStatus | None:
        return self.statuses.get(key)


def binding(replica: int, state: str = "bound") -> Binding:
    return Binding(
        object_id=ObjectId(bytes(32)),
        generation=Generation(1),
        replica=replica,
        state=state,  # type: ignore[arg-type]
        leaf=b"",
        resources=b"",
        expires_s=0,
        workload="web",
        namespace="team",
    )


class Drained:
    """A node with three replicas."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.placed = FakePlaced([binding(0), binding(1), binding(2)])
        self.status = "Cordoned"
        self.draining = Draining(self.placed, lambda: self.status, self.clock)

    @property
    def moving(self) -> list[int]:
        return sorted(key.replica for key in self.placed.moving)

    def left(self) -> list[tuple[str, str, str]]:
        return [(one["name"], one["state"], one["reason"]) for one in self.draining.ask()["left"]]


@pytest.fixture
def drained() -> Drained:
    return Drained()


async def test_one_after_the_other_until_each_has_gone(drained: Drained) -> None:
    assert drained.left() == [("web-1-0", "Moving", ""), ("web-1-1", "Waiting", ""), ("web-1-2", "Waiting", "")]
    drained.placed.held[0] = binding(0, "superseded")
    assert drained.left()[0] == ("web-1-0", "Stopping", "")
    assert drained.moving == []
    del drained.placed.held[0]
    await drained.draining.sync()
    assert drained.moving == [1]


async def test_one_that_cannot_go_does_not_hold_up_the_others(drained: Drained) -> None:
    drained.draining.ask()
    drained.placed.hindrances[binding_key(binding(0))] = "NoNodeFits"
    for _ in range(2):
        drained.clock.time += TURN_S / 2
        drained.draining.ask()
    assert drained.moving == [0, 1]
    assert drained.left()[0] == ("web-1-0", "Moving", "NoNodeFits")


async def test_it_ends_when_nobody_asks_any_more_or_the_node_is_uncordoned(drained: Drained) -> None:
    drained.draining.ask()
    drained.clock.time += ASKED_S + 1
    await drained.draining.sync()
    assert drained.moving == []
    drained.draining.ask()
    assert drained.moving == [0]
    drained.status = "Active"
    await drained.draining.sync()
    assert drained.moving == []
    with pytest.raises(Conflict, match="Active"):
        drained.draining.ask()


async def test_what_has_ended_for_good_is_left_alone(drained: Drained) -> None:
    drained.placed.statuses[binding_key(binding(0))] = InstanceStatus(phase="Succeeded", reason="Completed")
    assert [name for name, _, _ in drained.left()] == ["web-1-1", "web-1-2"]
    assert drained.moving == [1]


async def test_a_promise_is_waited_for(drained: Drained) -> None:
    drained.placed.held = [binding(0, "reserved")]
    assert drained.left() == [("web-1-0", "Arriving", "")]
    assert drained.moving == []

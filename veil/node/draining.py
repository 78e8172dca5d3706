"""Moving what a cordoned node runs to other nodes, one replica after the other, for as long as somebody asks for it.

Placement does the moving: a replica runs on here until another node is ready to take it over. This decides whose turn it is.
A drain is not a state of the node: whoever stops asking leaves it cordoned, with what has moved gone and the rest as it was.
"""

from collections.abc import Callable
from typing import Protocol

from veil.errors import Conflict
from veil.placement.ports import ReplicaKey
from veil.placement.renewals import binding_key
from veil.rollout.names import instance_name
from veil.store.journal import Binding
from veil.store.objects import Obj
from veil.types import Clock
from veil.wire.rounds import InstanceStatus

ASKED_S = 15.0
"""How long a drain goes on after it was last asked for."""

TURN_S = 30.0
"""A replica that has not gone by then (no node fits, a long grace period) does not hold the next ones up any longer."""

PERIOD_S = 0.5


class Placed(Protocol):
    """The part of the placement service that this uses."""

    def bindings(self) -> list[Binding]: ...

    def move(self, keys: frozenset[ReplicaKey]) -> None: ...

    def hindrance(self, key: ReplicaKey) -> str: ...

    def said(self, key: ReplicaKey) -> InstanceStatus | None: ...


class Draining:
    """``status`` gives what the registry says of this node. :meth:`sync` is level-triggered."""

    def __init__(self, placed: Placed, status: Callable[[], str], clock: Clock) -> None:
        self._placed = placed
        self._status = status
        self._clock = clock
        self._asked_s = float("-inf")
        self._turns: dict[ReplicaKey, float] = {}
        """Whose turn it is or was, since when (monotonic)."""

    def ask(self) -> Obj:
        """Go on for :data:`ASKED_S`; gives back what is left to wait for. Raises Conflict."""
        if self._status() != "Cordoned":
            raise Conflict(
                f"the node is {self._status() or 'not registered'}, so what leaves it could come back",
                hint="cordon it first: `veil node cordon`",
            )
        self._asked_s = self._clock.monotonic_s()
        self._take_turns()
        return {"kind": "Drain", "apiVersion": "veil.dev/v1alpha1", "left": [self._shown(one) for one in self._left()]}

    async def sync(self) -> None:
        """Give the next replica its turn, or end what nobody asks for any more."""
        self._take_turns()

    def _take_turns(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_s > ASKED_S or self._status() != "Cordoned":
            self._turns.clear()
            self._placed.move(frozenset())
            return
        left = {binding_key(binding): binding for binding in self._left()}
        self._turns = {key: since_s for key, since_s in self._turns.items() if key in left}
        waiting = sorted(key for key, binding in left.items() if binding.state == "bound" and key not in self._turns)
        if waiting and all(now_s - since_s >= TURN_S for since_s in self._turns.values()):
            self._turns[waiting[0]] = now_s
        self._placed.move(frozenset(key for key in self._turns if left[key].state == "bound"))

    def _left(self) -> list[Binding]:
        """What runs or may run here. What has ended for good stays until its Workload goes: elsewhere it would run again."""
        return [binding for binding in self._placed.bindings() if not self._has_ended(binding)]

    def _has_ended(self, binding: Binding) -> bool:
        said = self._placed.said(binding_key(binding))
        return binding.state == "bound" and said is not None and said.phase in ("Succeeded", "Failed")

    def _shown(self, binding: Binding) -> Obj:
        key = binding_key(binding)
        state = "Moving" if key in self._turns else "Waiting"
        if binding.state != "bound":
            state = "Stopping" if binding.state == "superseded" else "Arriving"
        reason = self._placed.hindrance(key) if state == "Moving" else ""
        name = instance_name(binding.workload, binding.generation, binding.replica)
        return {"namespace": binding.namespace, "name": name, "state": state, "reason": reason}

"""This node's own conditions: each part that works, or why it does not, on its own Node object."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from veil.errors import VeilError
from veil.store.objects import ObjectStore

Check = Callable[[], Awaitable[str]]
"""Gives back what is wrong in words, empty for nothing. May raise VeilError instead."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One part of the node."""

    kind: str
    good: str
    """The reason when all is well."""
    bad: str
    check: Check


class Health:
    """Level-triggered: :meth:`sync` writes the conditions of this node's object, whose name ``name`` gives (empty: none yet)."""

    def __init__(self, store: ObjectStore, name: Callable[[], str], conditions: list[Condition], now: Callable[[], str]) -> None:
        self._store = store
        self._name = name
        self._conditions = conditions
        self._now = now

    async def sync(self) -> None:
        """Nothing to write on until the registry has this node under its name."""
        problems = [(condition, await _problem(condition)) for condition in self._conditions]
        node = self._store.find("Node", "", self._name())
        if node is None:
            return
        status = dict(node.get("status", {}))
        old = {entry["type"]: entry for entry in status.get("conditions", [])}
        mine = {condition.kind for condition, _ in problems}
        shown = [entry for kind, entry in old.items() if kind not in mine]
        for condition, problem in problems:
            value = "False" if problem else "True"
            before = old.get(condition.kind, {})
            since = before.get("lastTransitionTime") if before.get("status") == value else self._now()
            reason = condition.bad if problem else condition.good
            entry = {"type": condition.kind, "status": value, "reason": reason, "message": problem, "lastTransitionTime": since}
            shown.append(entry)
        self._store.put({**node, "status": {**status, "conditions": shown}})


async def _problem(condition: Condition) -> str:
    try:
        return await condition.check()
    except VeilError as error:
        return f"{error.reason}: {error.message}"

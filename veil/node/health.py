"""This node's own conditions: each part that works, or why it does not, on its own Node object."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from veil.errors import VeilError
from veil.store.objects import Obj, ObjectStore


class Verdict(NamedTuple):
    """What a check found, for parts that can be well or unwell in several ways."""

    well: bool
    reason: str
    message: str = ""


Check = Callable[[], Awaitable[str | Verdict]]
"""Gives back what is wrong in words (empty for nothing), or a Verdict with a reason of its own. May raise VeilError instead."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One part of the node."""

    kind: str
    good: str
    """The reason when all is well."""
    bad: str
    check: Check


class Health:
    """Level-triggered: :meth:`sync` writes the conditions of this node's object, whose name ``name`` gives (empty: none yet).

    ``facts`` are further fields of its status.
    """

    def __init__(
        self,
        store: ObjectStore,
        name: Callable[[], str],
        conditions: list[Condition],
        now: Callable[[], str],
        facts: Callable[[], Obj] = dict,
    ) -> None:
        self._store = store
        self._name = name
        self._conditions = conditions
        self._now = now
        self._facts = facts

    async def sync(self) -> None:
        """Nothing to write on until the registry has this node under its name."""
        verdicts = [(condition, await _verdict(condition)) for condition in self._conditions]
        node = self._store.find("Node", "", self._name())
        if node is None:
            return
        status = dict(node.get("status", {}))
        old = {entry["type"]: entry for entry in status.get("conditions", [])}
        mine = {condition.kind for condition, _ in verdicts}
        shown = [entry for kind, entry in old.items() if kind not in mine]
        for condition, (well, reason, message) in verdicts:
            value = "True" if well else "False"
            before = old.get(condition.kind, {})
            since = before.get("lastTransitionTime") if before.get("status") == value else self._now()
            entry = {"type": condition.kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": since}
            shown.append(entry)
        self._store.put({**node, "status": {**status, **self._facts(), "conditions": shown}})


async def _verdict(condition: Condition) -> Verdict:
    try:
        found = await condition.check()
    except VeilError as error:
        found = f"{error.reason}: {error.message}"
    if isinstance(found, Verdict):
        return found
    return Verdict(not found, condition.bad if found else condition.good, found)

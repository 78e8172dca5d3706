"""What happened to Instances, as Kubernetes' Events, kept by each node that shows the Instance.

They are notes for people: made out of the changes of a status as they are heard, so what comes and goes between two renewals is
not among them. Nothing depends on them. There is a bound for each Instance and one for all, and none is older than an hour.
"""

from datetime import UTC, datetime

from veil.rollout.names import LABEL_WORKLOAD
from veil.store.objects import Obj, ObjectStore
from veil.types import Clock

PER_INSTANCE_MAX = 16
"""The oldest goes first. The same again counts up and takes no further place."""

TOTAL_MAX = 4096
TTL_S = 3600.0
"""As long as Kubernetes keeps them."""

PRUNE_EVERY_S = 30.0

_USUAL = {
    "Placing",
    "Appending",
    "Listening",
    "Starting",
    "WaitingForFinality",
    "WaitingForKey",
    "WaitingForHolder",
    "ContainerCreating",
    "PullingImage",
    "Initializing",
    "NotStarted",
    "Running",
    "Completed",
    "Terminating",
    "Stopped",
    "Superseded",
    "Deleted",
    "ScaledDown",
    "Retired",
    "Released",
}
"""Reasons of the way of every Instance; any other is a warning."""


class InstanceEvents:
    """Implements nothing: :class:`veil.node.reports.InstanceReports` tells it of changes."""

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._pruned_s = 0.0

    def changed(self, instance: Obj, before: Obj, after: Obj) -> None:
        """The status of ``instance`` was ``before`` and is ``after``."""
        for reason, message in told(before, after):
            self._note(instance, reason, message, after.get("node", ""))

    def prune(self) -> None:
        """Forget what is too old, and the oldest of too many. Called often, does something now and then."""
        now_s = self._clock.now_s()
        if now_s - self._pruned_s < PRUNE_EVERY_S:
            return
        self._pruned_s = now_s
        events = sorted(self._store.list("Event"), key=_last)
        oldest = _rfc3339(now_s - TTL_S)
        excess = max(0, len(events) - TOTAL_MAX)
        for index, event in enumerate(events):
            if index < excess or _last(event) < oldest:
                self._store.delete("Event", event["metadata"]["namespace"], event["metadata"]["name"])

    def _note(self, instance: Obj, reason: str, message: str, node: str) -> None:
        metadata, now_s = instance["metadata"], self._clock.now_s()
        known = sorted((one for one in self._store.list("Event", metadata["namespace"]) if _is_of(one, metadata)), key=_last)
        same = next((one for one in known if (one["reason"], one["message"]) == (reason, message)), None)
        if same is not None:
            self._store.put({**same, "count": same["count"] + 1, "lastTimestamp": _rfc3339(now_s)})
            return
        for event in known[: max(0, len(known) + 1 - PER_INSTANCE_MAX)]:
            self._store.delete("Event", event["metadata"]["namespace"], event["metadata"]["name"])
        self._store.put(_event(instance, reason, message, node, now_s))


def told(before: Obj, after: Obj) -> list[tuple[str, str]]:
    """Reasons and messages of what is worth a note in this change."""
    found = []
    placement = after.get("placement") or {}
    if placement and placement != before.get("placement"):
        where = f"on {after.get('node') or after.get('peer')}"
        found.append(("Placed", f"{where}: shard {placement['shard']}, append {placement['sequence']}"))
    if after.get("restarts", 0) > before.get("restarts", 0):
        found.append(("Restarted", "a container was started again"))
    state = [(one.get("phase", ""), one.get("reason", "")) for one in (before, after)]
    if state[0] != state[1]:
        phase, reason = state[1]
        message = after.get("message") or ("every container runs and is ready" if after.get("ready") else f"it is {phase}")
        found.append((reason or phase, message))
    return found


def _event(instance: Obj, reason: str, message: str, node: str, now_s: float) -> Obj:
    metadata, now = instance["metadata"], _rfc3339(now_s)
    workload = (metadata.get("labels") or {}).get(LABEL_WORKLOAD, "")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{int(now_s * 1e6):x}{len(reason):x}",
            "namespace": metadata["namespace"],
            "labels": {LABEL_WORKLOAD: workload},
        },
        "involvedObject": {
            "apiVersion": instance["apiVersion"],
            "kind": instance["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        },
        "type": "Normal" if reason in _USUAL or reason == "Placed" else "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": "veil-agent", "host": node},
    }


def _is_of(event: Obj, metadata: Obj) -> bool:
    return bool(event["involvedObject"]["name"] == metadata["name"])


def _last(event: Obj) -> str:
    return str(event["lastTimestamp"])


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

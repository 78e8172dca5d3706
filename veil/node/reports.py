"""Instances as this node hears of them: from its own controllers, from winners' renewals, from the coordinator's words.

On the coordinator an Instance object exists because the controllers made it; on a home node it appears with the first report.
Both show the same status. The workload's status is computed here from its Instances, by one pure function.
"""

import logging
import time
from datetime import UTC, datetime

from veil.identity import peer_id_text
from veil.rollout.instance import new_instance
from veil.rollout.status import workload_status
from veil.store.objects import Obj, ObjectStore
from veil.store.projection import Projection
from veil.types import Generation, ObjectId, PeerId
from veil.wire.codec import decode
from veil.wire.merkle import leaf_hash
from veil.wire.objects import KINDS, Envelope, object_id
from veil.wire.rounds import Bound, InstanceStatus

log = logging.getLogger(__name__)


def rfc3339(seconds: float) -> str:
    """A timestamp as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class InstanceReports:
    """Implements placement's ReportPort over the object store."""

    def __init__(self, store: ObjectStore, projection: Projection) -> None:
        self._store = store
        self._projection = projection

    def report(self, wanted: ObjectId, generation: Generation, replica: int, status: InstanceStatus, bound: Bound | None) -> None:
        """Show this state of a replica. Unknown workloads are ignored: their envelope has not arrived, or is gone."""
        live = self._find(wanted, generation, replica)
        if live is None:
            live = self._create(wanted, generation, replica)
        if live is not None:
            self._store.put({**live, "status": self._status(status, bound, live.get("status", {}))})

    def gone(self, wanted: ObjectId, generation: Generation, replica: int) -> None:
        """The replica's container is no more, and it is not wanted again."""
        live = self._find(wanted, generation, replica)
        if live is not None:
            self._store.delete("Instance", live["metadata"]["namespace"], live["metadata"]["name"])

    def _find(self, wanted: ObjectId, generation: Generation, replica: int) -> Obj | None:
        """By what an Instance is of: its workload's envelope may be gone already."""
        for obj in self._store.list("Instance"):
            spec = obj["spec"]
            if (spec["generation"], spec["replica"]) == (generation, replica) and (
                object_id(obj["metadata"]["namespace"], spec["workload"]) == wanted
            ):
                return obj
        return None

    def _create(self, wanted: ObjectId, generation: Generation, replica: int) -> Obj | None:
        row = self._projection.object(KINDS["Workload"], wanted)
        if row is None:
            return None
        envelope = decode(row.envelope, Envelope)
        workload = self._store.find("Workload", envelope.namespace, envelope.name)
        return None if workload is None else new_instance(workload, generation, replica)

    def refresh_workloads(self) -> None:
        """Recompute every workload's status from the Instances known here."""
        instances: dict[tuple[str, str], list[Obj]] = {}
        for obj in self._store.list("Instance"):
            key = (obj["metadata"]["namespace"], obj["spec"]["workload"])
            instances.setdefault(key, []).append(obj)
        now = rfc3339(time.time())
        for workload in self._store.list("Workload"):
            key = (workload["metadata"]["namespace"], workload["metadata"]["name"])
            status = workload_status(workload, instances.get(key, []), now)
            if status != workload.get("status"):
                self._store.put({**workload, "status": status})

    def _status(self, status: InstanceStatus, bound: Bound | None, before: Obj) -> Obj:
        shown: Obj = {
            "phase": status.phase,
            "reason": status.reason,
            "message": status.message,
            "restarts": status.restarts,
            "exitCode": status.exit_code,
            "ready": status.ready,
            "observedAt": rfc3339(status.observed_s) if status.observed_s else before.get("observedAt", ""),
        }
        if status.started_s:
            shown["startedAt"] = rfc3339(status.started_s)
        if bound is not None:
            peer = PeerId(bound.leaf.peer)
            node = self._projection.node(peer)
            shown |= {
                "node": node.name if node else "",
                "peer": peer_id_text(peer),
                "placement": {
                    "shard": bound.shard,
                    "sequence": bound.sequence,
                    "leaf": leaf_hash(bound.leaf).hex(),
                    "root": bound.root.hex(),
                },
            }
        shown["conditions"] = _conditions(status, bound, before.get("conditions", []))
        return shown


def _conditions(status: InstanceStatus, bound: Bound | None, before: list[Obj]) -> list[Obj]:
    placed = bound is not None
    wanted = [
        ("Placed", placed, "Appended" if placed else (status.reason or "Pending"), "" if placed else status.message),
        ("Ready", status.ready, status.reason or status.phase, status.message),
    ]
    old = {entry["type"]: entry for entry in before}
    shown = []
    for kind, true, reason, message in wanted:
        value = "True" if true else "False"
        since = old.get(kind, {}).get("lastTransitionTime") if old.get(kind, {}).get("status") == value else None
        stamp = since or rfc3339(status.observed_s or time.time())
        shown.append({"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": stamp})
    return shown

"""Instances as this node hears of them: from its own controllers, from winners' renewals, from the coordinator's words.

On the coordinator an Instance object exists because the controllers made it; on a home node it appears with the first report.
Both show the same status. The workload's status is computed here from its Instances, by one pure function.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from veil.identity import peer_id_text
from veil.node.envelopes import envelope_of
from veil.node.instance_events import InstanceEvents
from veil.rollout.instance import new_instance
from veil.rollout.names import instance_name
from veil.rollout.status import workload_status
from veil.store.objects import Obj, ObjectStore
from veil.store.projection import Projection
from veil.store.rows import ObjectRow
from veil.types import Clock, Generation, ObjectId, PeerId
from veil.wire.merkle import leaf_hash
from veil.wire.objects import KINDS, Envelope, object_id
from veil.wire.rounds import Bound, InstanceStatus

log = logging.getLogger(__name__)

UNHEARD_MAX_S = 60.0
"""How long a home node shows a replica that is not asked for any more and of which nothing is heard: its winner, which would
say that it is gone, is gone itself."""


def rfc3339(seconds: float) -> str:
    """A timestamp as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class InstanceReports:
    """Implements placement's ReportPort over the object store."""

    def __init__(self, store: ObjectStore, projection: Projection, clock: Clock) -> None:
        self._store = store
        self._projection = projection
        self._clock = clock
        self._heard_s: dict[tuple[str, str], float] = {}
        self._said: dict[ObjectId, dict[tuple[int, int], tuple[InstanceStatus, Bound | None]]] = {}
        self.events = InstanceEvents(store, clock)

    def report(self, wanted: ObjectId, generation: Generation, replica: int, status: InstanceStatus, bound: Bound | None) -> None:
        """Show this state of a replica. Unknown workloads are ignored: their envelope has not arrived, or is gone."""
        live = self._find(wanted, generation, replica)
        if live is None:
            live = self._create(wanted, generation, replica)
        if live is not None:
            self._heard_s[_key(live)] = self._clock.monotonic_s()
            before = live.get("status", {})
            shown = self._store.put({**live, "status": self._status(status, bound, before)})
            self.events.changed(shown, before, shown["status"])
            self._said.setdefault(wanted, {})[generation, replica] = (status, bound)

    def said_of(self, wanted: ObjectId) -> dict[tuple[int, int], tuple[InstanceStatus, Bound | None]]:
        """What was last said of each replica that is shown, by generation and number."""
        return dict(self._said.get(wanted, {}))

    def gone(self, wanted: ObjectId, generation: Generation, replica: int) -> None:
        """The replica's container is no more, and it is not wanted again."""
        self._said.get(wanted, {}).pop((generation, replica), None)
        live = self._find(wanted, generation, replica)
        if live is not None:
            self._store.delete("Instance", *_key(live))

    def drop_unheard(self, coordinates: Callable[[ObjectId], bool]) -> None:
        """Forget what another node coordinates, nobody asks for, and nobody has spoken of for UNHEARD_MAX_S."""
        now_s, known = self._clock.monotonic_s(), {}
        said, self._said = self._said, {}
        for obj in self._store.list("Instance"):
            of, key = object_id(obj["metadata"]["namespace"], obj["spec"]["workload"]), _key(obj)
            known[key] = self._heard_s.get(key, now_s)
            if now_s - known[key] > UNHEARD_MAX_S and not coordinates(of) and not self._is_asked_for(of, obj["spec"]):
                self._store.delete("Instance", *key)
            elif (one := (obj["spec"]["generation"], obj["spec"]["replica"])) in said.get(of, {}):
                self._said.setdefault(of, {})[one] = said[of][one]
        self._heard_s = known

    def _workload(self, of: ObjectId) -> tuple[ObjectRow, Envelope] | None:
        row = self._projection.object(KINDS["Workload"], of)
        envelope = envelope_of(row) if row is not None and not row.deleting else None
        return (row, envelope) if row is not None and envelope is not None else None

    def _is_asked_for(self, of: ObjectId, spec: Obj) -> bool:
        found = self._workload(of)
        return found is not None and found[0].template_generation == spec["generation"] and spec["replica"] < found[1].replicas

    def _find(self, wanted: ObjectId, generation: Generation, replica: int) -> Obj | None:
        """By its name; where the workload's envelope is gone already, by what an Instance is of."""
        found = self._workload(wanted)
        if found is not None:
            name = instance_name(found[1].name, generation, replica)
            return self._store.find("Instance", found[1].namespace, name)
        for obj in self._store.list("Instance"):
            spec = obj["spec"]
            if (spec["generation"], spec["replica"]) == (generation, replica) and (
                object_id(obj["metadata"]["namespace"], spec["workload"]) == wanted
            ):
                return obj
        return None

    def _create(self, wanted: ObjectId, generation: Generation, replica: int) -> Obj | None:
        found = self._workload(wanted)
        if found is None:
            return None
        workload = self._store.find("Workload", found[1].namespace, found[1].name)
        return None if workload is None else new_instance(workload, generation, replica)

    def refresh_workloads(self) -> None:
        """Recompute every workload's status from the Instances known here."""
        instances: dict[tuple[str, str], list[Obj]] = {}
        for obj in self._store.list("Instance"):
            key = (obj["metadata"]["namespace"], obj["spec"]["workload"])
            instances.setdefault(key, []).append(obj)
        now = rfc3339(self._clock.now_s())
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
        shown["conditions"] = _conditions(status, bound, before.get("conditions", []), self._clock.now_s())
        return shown


_CHECKED = ("QuorumAgreed", "")
_UNCHECKED = ("DecryptionUnchecked", "no more key holders than needed were there, so none could notice a lie of another")


def _conditions(status: InstanceStatus, bound: Bound | None, before: list[Obj], now_s: float) -> list[Obj]:
    placed = bound is not None
    wanted = [
        ("Placed", placed, "Appended" if placed else (status.reason or "Pending"), "" if placed else status.message),
        ("Ready", status.ready, status.reason or status.phase, status.message),
    ]
    if bound is not None:
        agreed = bound.leaf.checked
        wanted.append(("DecryptionChecked", agreed, *(_CHECKED if agreed else _UNCHECKED)))
    old = {entry["type"]: entry for entry in before}
    shown = []
    for kind, true, reason, message in wanted:
        value = "True" if true else "False"
        since = old.get(kind, {}).get("lastTransitionTime") if old.get(kind, {}).get("status") == value else None
        stamp = since or rfc3339(status.observed_s or now_s)
        shown.append({"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": stamp})
    return shown


def _key(obj: Obj) -> tuple[str, str]:
    return (obj["metadata"]["namespace"], obj["metadata"]["name"])

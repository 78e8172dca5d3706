"""The copies of what a workload's envelopes name: its body, sealed parts and demands.

Admission makes them. When members were away, or went away with theirs, a home node makes others, the first that is alive; and
while there are not enough members for them, the workload's condition ``UnderReplicated`` says so.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from veil.api.copies import Copies
from veil.api.resharing import whose_turn
from veil.mesh.ports import Mesh
from veil.node.envelopes import envelope_of
from veil.node.reports import rfc3339
from veil.store.objects import Obj, ObjectStore
from veil.store.projection import Projection
from veil.store.rows import ObjectRow
from veil.types import Clock, Digest, Epoch, ObjectId, PeerId
from veil.wire.codec import decode
from veil.wire.objects import KINDS, DemandEnvelope, Envelope, demand_id

CONDITION = "UnderReplicated"
MISSING = "CopiesMissing"
KEPT = "CopiesKept"


class Replication:
    """Completes copies of the workloads of which this node is a home, and says where they are missing."""

    def __init__(
        self,
        *,
        mesh: Mesh,
        projection: Projection,
        store: ObjectStore,
        copies: Copies,
        homes: Callable[[ObjectId], Sequence[PeerId]],
        clock: Clock,
    ) -> None:
        self._mesh = mesh
        self._projection = projection
        self._store = store
        self._copies = copies
        self._homes = homes
        self._clock = clock

    async def sync(self) -> None:
        """One look at every workload whose turn it is here."""
        wanted: set[Digest] = set()
        epochs = [one.epoch for one in self._projection.epochs()]
        for row in self._projection.objects(KINDS["Workload"]):
            envelope = envelope_of(row)
            homes = self._homes(row.object_id)
            if row.deleting or envelope is None or whose_turn(homes, self._copies.is_alive) != self._mesh.peer_id:
                continue
            digests = self._digests(row, envelope, epochs)
            wanted |= digests
            self._show(envelope, await self._copies.complete(digests, homes))
        self._copies.forget(but=wanted)

    def _digests(self, row: ObjectRow, envelope: Envelope, epochs: Iterable[Epoch]) -> set[Digest]:
        found = [envelope.body, envelope.resources, envelope.template]
        for epoch in epochs:
            demand = self._projection.object(KINDS["Demand"], demand_id(row.object_id, epoch))
            if demand is not None:
                named = decode(demand.envelope, DemandEnvelope)
                found += [named.demand, named.shared_resources, named.shared_template]
        return {Digest(digest) for digest in found if digest}

    def _show(self, envelope: Envelope, complete: bool) -> None:
        """The condition is shown from the first time that copies are missing."""
        live = self._store.find("Workload", envelope.namespace, envelope.name)
        if live is None:
            return
        status: Obj = live.get("status") or {}
        conditions: list[dict[str, Any]] = status.get("conditions") or []
        before = next((one for one in conditions if one["type"] == CONDITION), None)
        if (before is None and complete) or (before is not None and (before["status"] == "False") == complete):
            return
        shown = {
            "type": CONDITION,
            "status": "False" if complete else "True",
            "reason": KEPT if complete else MISSING,
            "message": "" if complete else "fewer members than there should be keep its parts: copies are made when they return",
            "lastTransitionTime": rfc3339(self._clock.now_s()),
        }
        others = [one for one in conditions if one["type"] != CONDITION]
        self._store.put({**live, "status": {**status, "conditions": [*others, shown]}})

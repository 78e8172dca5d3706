"""From the chain's projection to the objects that the API serves.

The projection holds envelopes; the API shows whole objects: envelope, body, and (on a home node) the exact resources. What is
local to this node (annotations, finalizers, status) stays as it is. Objects that the chain no longer has are removed.
"""

import logging

from veil.api.assemble import assemble
from veil.api.placements import placements
from veil.errors import MeshUnavailable, Unavailable
from veil.identity import peer_id_text
from veil.mesh.ports import Mesh, PeerState
from veil.node.contents import Contents
from veil.store.objects import Obj, ObjectStore
from veil.store.projection import Projection
from veil.store.rows import NodeRow, ObjectRow
from veil.types import SHARDS
from veil.wire.codec import decode
from veil.wire.objects import KINDS, Envelope
from veil.wire.rounds import LeafBatch

log = logging.getLogger(__name__)

PLACEMENTS_SHOWN = 64
"""Appends of one shard that the API shows; all of them are on the chain."""

SERVED = ("Namespace", "Workload")
"""The kinds of the generic object path that the API serves."""


class Assembler:
    """Keeps the object store's chain-held kinds equal to the projection. :meth:`sync` is level-triggered."""

    def __init__(self, store: ObjectStore, projection: Projection, contents: Contents, mesh: Mesh) -> None:
        self._store = store
        self._projection = projection
        self._contents = contents
        self._mesh = mesh
        self._done: dict[bytes, tuple[tuple[int, int, bytes], bool]] = {}
        self._placements: set[tuple[int, int, bytes]] = set()
        self.incomplete = 0
        """How many objects lack a part that could not be fetched yet."""

    async def sync(self) -> None:
        """Make every served object what the chain says. Raises MeshUnavailable, at the end, while parts are missing."""
        self.incomplete = 0
        for kind in SERVED:
            rows = [row for row in self._projection.objects(KINDS[kind]) if not row.deleting]
            names = {self._name(row) for row in rows}
            for row in rows:
                await self._sync_row(row)
            for obj in self._store.list(kind):
                key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
                if key not in names:
                    self._store.delete(kind, *key)
        self._sync_nodes()
        await self._sync_placements()
        if self.incomplete:
            raise MeshUnavailable(f"{self.incomplete} objects lack a part that no reachable member has")

    @staticmethod
    def _name(row: ObjectRow) -> tuple[str, str]:
        envelope = decode(row.envelope, Envelope)
        return (envelope.namespace if envelope.kind != "Namespace" else "", envelope.name)

    async def _sync_row(self, row: ObjectRow) -> None:
        version = (row.generation, row.template_generation, row.envelope)
        if self._done.get(row.object_id) == (version, True):
            return
        envelope = decode(row.envelope, Envelope)
        live = self._store.find(envelope.kind, "" if envelope.kind == "Namespace" else envelope.namespace, envelope.name)
        body, resources, template, complete = None, None, None, True
        try:
            body = await self._contents.body(envelope)
            resources = await self._contents.resources(envelope)
            template = await self._contents.template(envelope)
        except Unavailable as error:
            log.info("%s %s is shown in part: %s", envelope.kind, envelope.name, error.message)
            self.incomplete += 1
            complete = False
        self._store.put(assemble(row, envelope, body, resources, live, template))
        self._done[row.object_id] = (version, complete)

    def _sync_nodes(self) -> None:
        states = {member.peer: member.state for member in self._mesh.members()}
        rows = {row.name: row for row in self._projection.nodes() if row.proven and row.name}
        for name, row in rows.items():
            self._store.put(_node_object(row, states.get(row.peer), self._store.find("Node", "", name)))
        for obj in self._store.list("Node"):
            if obj["metadata"]["name"] not in rows:
                self._store.delete("Node", "", obj["metadata"]["name"])

    async def _sync_placements(self) -> None:
        """The newest appends of each shard; their leaves where this node keeps the batch (as coordinator or winner)."""
        rows = [row for shard in range(SHARDS) for row in self._projection.log(shard)[-PLACEMENTS_SHOWN:]]
        keys: set[tuple[int, int, bytes]] = {(row.shard, row.sequence, row.root) for row in rows}
        for row in rows:
            if (row.shard, row.sequence, row.root) not in self._placements:
                known = await self._mesh.has(row.data)
                batch = decode(await self._mesh.get(row.data), LeafBatch) if known else None
                for obj in placements(row, batch):
                    self._store.put(obj)
        self._placements = keys
        for obj in self._store.list("Placement"):
            spec = obj["spec"]
            if (spec["shard"], spec["sequence"], bytes.fromhex(spec["root"])) not in keys:
                self._store.delete("Placement", "", obj["metadata"]["name"])


def _node_object(row: NodeRow, state: PeerState | None, live: Obj | None) -> Obj:
    """A Node as this node sees it: what the registry says, and whether SWIM holds it alive. No figures."""
    metadata = dict((live or {}).get("metadata", {})) | {"name": row.name, "labels": dict(row.labels)}
    status = dict((live or {}).get("status", {}))
    others = [entry for entry in status.get("conditions", []) if entry["type"] != "Reachable"]
    reachable = state in (PeerState.ALIVE, PeerState.SUSPECT)
    condition = {
        "type": "Reachable",
        "status": "True" if reachable else "False",
        "reason": "SwimAlive" if reachable else "SwimDown",
        "message": f"SWIM: {state.value if state else 'unknown'}",
    }
    status |= {
        "peerID": peer_id_text(row.peer),
        "operator": row.operator,
        "phase": row.status,
        "proven": row.proven,
        "mesh": state.value if state else "left",
        "addresses": list(row.info.addresses) if row.info else [],
        "conditions": [*others, condition],
    }
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Node",
        "metadata": metadata,
        "spec": {"unschedulable": row.status == "Cordoned"},
        "status": status,
    }

"""From the chain's projection to the objects that the API serves.

The projection holds envelopes; the API shows whole objects: envelope, body, and (on a home node) the exact resources. What is
local to this node (annotations, finalizers, status) stays as it is. Objects that the chain no longer has are removed.

Anybody who may write in some namespace chooses what is in an envelope and behind its digests. So each object is assembled by
itself: one that cannot be read, or whose parts cannot be had, keeps no other waiting.
"""

import asyncio
import logging
from typing import NamedTuple

from veil.api.assemble import assemble
from veil.api.placements import placements
from veil.errors import MeshUnavailable, Unavailable, Untrusted, VeilError
from veil.identity import peer_id_text
from veil.mesh.ports import Mesh, PeerState
from veil.node.contents import Contents
from veil.node.envelopes import envelope_of
from veil.node.membership import MEMBER_STATUSES
from veil.store.objects import Obj, ObjectStore
from veil.store.projection import Projection
from veil.store.rows import LogRow, NodeRow, ObjectRow
from veil.types import SHARDS, Digest, ObjectId
from veil.wire.codec import decode
from veil.wire.objects import KINDS, Body, Envelope, Resources
from veil.wire.rounds import LeafBatch

log = logging.getLogger(__name__)

PLACEMENTS_SHOWN = 64
"""Appends of one shard that the API shows; all of them are on the chain."""

FETCHES_AT_ONCE = 64
"""Objects whose parts are fetched at a time and written together: one that nobody has holds up no more than these."""

SERVED = ("Namespace", "Workload")
"""The kinds of the generic object path that the API serves."""

Version = tuple[int | bytes | str, ...]
Append = tuple[int, int, Digest]
"""Shard, sequence, root."""


class _Parts(NamedTuple):
    """What could be had of one object; ``complete`` unless a later attempt may bring more."""

    row: ObjectRow
    envelope: Envelope
    body: Body | None
    resources: Resources | None
    template: Body | None
    complete: bool


class Assembler:
    """Keeps the object store's chain-held kinds equal to the projection. :meth:`sync` is level-triggered."""

    def __init__(self, store: ObjectStore, projection: Projection, contents: Contents, mesh: Mesh) -> None:
        self._store = store
        self._projection = projection
        self._contents = contents
        self._mesh = mesh
        self._done: dict[ObjectId, tuple[Version, bool]] = {}
        self._placements: dict[Append, bool] = {}
        """The appends shown, and whether with their leaves."""
        self.incomplete = 0
        """How many objects lack a part that could not be fetched yet."""

    async def sync(self) -> None:
        """Make every served object what the chain says. Raises MeshUnavailable, at the end, while parts are missing."""
        with self._store.batch():
            self._remove_foreign()
            self._sync_nodes()
        await self._sync_placements()
        await self._sync_objects()
        if self.incomplete:
            raise MeshUnavailable(f"{self.incomplete} objects lack a part that no reachable member has")

    # objects

    def _rows(self) -> list[tuple[ObjectRow, Envelope]]:
        rows = [row for kind in SERVED for row in self._projection.objects(KINDS[kind]) if not row.deleting]
        return [(row, envelope) for row in rows if (envelope := envelope_of(row)) is not None]

    def _remove_foreign(self) -> None:
        """Objects that the chain does not have (any more)."""
        rows = self._rows()
        names = {(envelope.kind, *_key(envelope)) for _, envelope in rows}
        for kind in SERVED:
            for obj in self._store.list(kind):
                key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
                if (kind, *key) not in names:
                    self._store.delete(kind, *key)
        known = {row.object_id for row, _ in rows}
        self._done = {of: done for of, done in self._done.items() if of in known}

    async def _sync_objects(self) -> None:
        """Those never tried come first: what cannot be had now is asked for after them."""
        todo = [(row, envelope) for row, envelope in self._rows() if not self._is_done(row, envelope)]
        todo.sort(key=lambda one: one[0].object_id in self._done)
        self.incomplete = 0
        for first in range(0, len(todo), FETCHES_AT_ONCE):
            chunk = todo[first : first + FETCHES_AT_ONCE]
            found = await asyncio.gather(*(self._fetch(row, envelope) for row, envelope in chunk))
            with self._store.batch():
                for parts in found:
                    self._put(parts)

    def _is_done(self, row: ObjectRow, envelope: Envelope) -> bool:
        live = self._store.find(envelope.kind, *_key(envelope))
        return live is not None and self._done.get(row.object_id) == (self._version(row, envelope), True)

    def _version(self, row: ObjectRow, envelope: Envelope) -> Version:
        """What is shown of an object changes with this, and not otherwise."""
        return (row.generation, row.template_generation, row.envelope, self._contents.is_lent(envelope), *self._homes(row))

    def _homes(self, row: ObjectRow) -> list[str]:
        """Of a Namespace, the home nodes that the registry names, which may be others than its object wishes."""
        if row.kind != KINDS["Namespace"]:
            return []
        return [peer_id_text(peer) for peer in self._projection.namespace(row.object_id[:16]).homes]

    async def _fetch(self, row: ObjectRow, envelope: Envelope) -> _Parts:
        body, resources, template, complete = None, None, None, True
        try:
            body = await self._contents.body(envelope)
            resources = await self._contents.resources(envelope)
            template = await self._contents.template(envelope)
        except Unavailable as error:
            log.info("%s %s is shown in part: %s", envelope.kind, envelope.name, error.message)
            complete = False
        except Untrusted as error:
            log.warning("%s %s is shown in part: %s: %s", envelope.kind, envelope.name, error.reason, error.message)
        return _Parts(row, envelope, body, resources, template, complete)

    def _put(self, parts: _Parts) -> None:
        """Unless the chain has moved on meanwhile: then it is done again. What is local is read only now, so that nothing of it
        that was written while the parts were fetched is lost."""
        row, envelope = parts.row, parts.envelope
        if self._projection.object(row.kind, row.object_id) != row:
            return
        live = self._store.find(envelope.kind, *_key(envelope))
        try:
            obj = assemble(row, envelope, parts.body, parts.resources, live, parts.template)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s %s is shown in part: its body is no spec: %r", envelope.kind, envelope.name, error)
            obj = assemble(row, envelope, None, None, live, None)
        if envelope.kind == "Namespace" and (homes := self._homes(row)):
            obj["spec"]["homePeers"] = homes
        self._store.put(obj)
        self._done[row.object_id] = (self._version(row, envelope), parts.complete)
        self.incomplete += not parts.complete

    # nodes

    def _sync_nodes(self) -> None:
        states = {member.peer: member.state for member in self._mesh.members()}
        rows = {row.name: row for row in self._projection.nodes() if row.proven and row.name}
        for name, row in rows.items():
            self._store.put(_node_object(row, states.get(row.peer), self._store.find("Node", "", name)))
        for obj in self._store.list("Node"):
            if obj["metadata"]["name"] not in rows:
                self._store.delete("Node", "", obj["metadata"]["name"])

    # placements

    async def _sync_placements(self) -> None:
        """The newest appends of each shard; their leaves once this node keeps the batch (as coordinator or winner)."""
        rows = [row for shard in range(SHARDS) for row in self._projection.log(shard)[-PLACEMENTS_SHOWN:]]
        keys = {_append(row) for row in rows}
        self._placements = {key: known for key, known in self._placements.items() if key in keys}
        batches = [(row, await self._batch(row)) for row in rows if not self._placements.get(_append(row))]
        with self._store.batch():
            for row, batch in batches:
                self._show_append(row, batch)
            for obj in self._store.list("Placement"):
                spec = obj["spec"]
                key = (spec["shard"], spec["sequence"], Digest(bytes.fromhex(spec["root"])))
                if key not in keys or ("leaf" not in spec and self._placements.get(key)):
                    self._store.delete("Placement", "", obj["metadata"]["name"])

    def _show_append(self, row: LogRow, batch: LeafBatch | None) -> None:
        if batch is None and _append(row) in self._placements:
            return
        for obj in placements(row, batch):
            self._store.put(obj)
        self._placements[_append(row)] = batch is not None

    async def _batch(self, row: LogRow) -> LeafBatch | None:
        """None while it is not here, and when what is here is no batch: its author chose the digest."""
        if not await self._mesh.has(row.data):
            return None
        try:
            return decode(await self._mesh.get(row.data), LeafBatch)
        except VeilError as error:
            log.info("the leaves of append %d in shard %d are not shown: %s", row.sequence, row.shard, error.message)
            return None


def _key(envelope: Envelope) -> tuple[str, str]:
    return ("" if envelope.kind == "Namespace" else envelope.namespace, envelope.name)


def _append(row: LogRow) -> Append:
    return (row.shard, row.sequence, row.root)


_REACHABLE: dict[PeerState | None, tuple[str, str]] = {
    PeerState.ALIVE: ("True", "SwimAlive"),
    PeerState.SUSPECT: ("Unknown", "SwimSuspect"),
}


def _eligible(row: NodeRow) -> tuple[str, str, str]:
    """Whether rounds may choose the node, as far as the registry decides: the condition's status, reason, message."""
    if row.status not in MEMBER_STATUSES:
        return "False", "NotActive", f"the registry says {row.status}"
    if row.down_incarnation is not None:
        return "False", "MarkedDown", f"members marked it down at incarnation {row.down_incarnation}"
    return ("True", "Active", "") if row.status == "Active" else ("False", "Cordoned", "it takes nothing new")


def _node_object(row: NodeRow, state: PeerState | None, live: Obj | None) -> Obj:
    """A Node as this node sees it: what the registry says, and whether SWIM holds it alive. No figures."""
    metadata = dict((live or {}).get("metadata", {})) | {"name": row.name, "labels": dict(row.labels)}
    status = dict((live or {}).get("status", {}))
    others = [entry for entry in status.get("conditions", []) if entry["type"] not in ("Reachable", "Eligible")]
    reachable = (*_REACHABLE.get(state, ("False", "SwimDown")), f"SWIM: {state.value if state else 'unknown'}")
    seen = [
        {"type": kind, "status": value, "reason": reason, "message": message}
        for kind, (value, reason, message) in (("Reachable", reachable), ("Eligible", _eligible(row)))
    ]
    status |= {
        "peerID": peer_id_text(row.peer),
        "operator": row.operator,
        "phase": row.status,
        "proven": row.proven,
        "mesh": state.value if state else "left",
        "addresses": list(row.info.addresses) if row.info else [],
        "conditions": [*others, *seen],
    }
    status.pop("labelsVouchedBy", None)
    if row.vouched:
        status["labelsVouchedBy"] = row.vouched_by
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Node",
        "metadata": metadata,
        "spec": {"unschedulable": row.status == "Cordoned", **({"taints": dict(row.taints)} if row.taints else {})},
        "status": status,
    }

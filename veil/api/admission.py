"""From a valid object to one that is anchored: split, seal, store on others, sign, wait.

The order is what makes it safe. Contents are on another member before the chain names them. The object is anchored before its
demand, because a demand that a refused update left behind would take the place of the one that still holds. A change that
leaves the template alone keeps its sealed parts, and with them its demand: scaling needs no new ciphertext and no key.
"""

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from veil.api.assemble import assemble, withheld_from
from veil.api.canonical import canonical_spec, make_envelope
from veil.api.copies import Copies
from veil.api.demands import Demands
from veil.api.namespaces import Namespaces
from veil.api.sealing import EpochKeys, Sealed, seal_parts
from veil.chain.ports import NodeStatus, Registry
from veil.errors import Conflict, FheUnavailable, Forbidden, LimitExceeded, NotFound
from veil.identity import Identity, parse_peer_id, peer_id_text
from veil.manifest.split import Parts, split
from veil.mesh.ports import Mesh
from veil.store.objects import Obj, ObjectStore
from veil.store.projection import Projection
from veil.store.rows import ObjectRow
from veil.types import Digest, Epoch, Generation, ObjectId, PeerId, Random, SystemRandom
from veil.wire.codec import decode, encode, sha256
from veil.wire.objects import BODY_MAX_BYTES, KINDS, Body, DemandEnvelope, Envelope, encode_envelope, object_id

log = logging.getLogger(__name__)

PROJECTION_TIMEOUT_S = 15.0
"""How long this node may take to see on the chain what it has written."""


class Admission:
    """Implements :class:`veil.api.ports.ObjectWriter`. ``keys`` gives the active epoch's, None while there are none."""

    def __init__(
        self,
        *,
        identity: Identity,
        chain: Registry,
        mesh: Mesh,
        projection: Projection,
        store: ObjectStore,
        keys: Callable[[], EpochKeys | None],
        random: Random | None = None,
        projection_timeout_s: float = PROJECTION_TIMEOUT_S,
    ) -> None:
        self._identity = identity
        self._chain = chain
        self._mesh = mesh
        self._projection = projection
        self._store = store
        self._keys = keys
        self._random = random or SystemRandom()
        self._namespaces = Namespaces(chain, projection)
        self.copies = Copies(mesh, self._random)
        """For the node's loop that completes them."""
        self._timeout_s = projection_timeout_s
        self.demands = Demands(
            identity=identity,
            chain=chain,
            mesh=mesh,
            projection=projection,
            copies=self.copies,
        )
        """For the node's loop that completes missing demands."""

    async def apply(self, obj: Obj, live: Obj | None) -> Obj:
        """See :class:`veil.api.ports.ObjectWriter`.

        Raises FheUnavailable when something is to be sealed and no epoch is active, MeshUnavailable when nobody else can
        keep a copy (nothing is sent then), DeadlineExceeded when the transaction went through and this node lags behind.
        """
        if obj["kind"] == "Namespace":
            obj = self._with_homes(obj)
            self._namespaces.check(obj)
        parts = split(obj)
        kind, row = KINDS[parts.kind], self._row(parts, live)
        before = decode(row.envelope, Envelope) if row else None
        homes = self._homes(parts.namespace)
        others = self.copies.receivers(homes)
        sealed = await self._seal(parts, obj, live, before, homes)
        body = _encode_body(parts.body)
        data = encode_envelope(self._envelope(parts, before, sealed, body))
        contents = ([body] if body else []) + (sealed.contents if sealed else [])
        await self.copies.keep(contents, others, homes)
        expected = row.generation if row else Generation(0)
        generation = await self._chain.apply_object(kind, parts.object_id, expected, data)
        if parts.kind == "Namespace":
            await self._namespaces.anchor(obj, live)
            await self._projection.wait_until(lambda: self._namespaces.anchored(obj), self._timeout_s)
        if sealed is not None:
            demand = DemandEnvelope(
                object_id=parts.object_id, epoch=sealed.epoch, resources=sealed.resources_digest, demand=sealed.demand_digest
            )
            await self.demands.anchor(demand)
        seen = await self._await_generation(kind, parts.object_id, generation, sealed)
        log.info("anchored %s %s, generation %d", parts.kind, _named(parts.namespace, parts.name), generation)
        knows = "resources" not in withheld_from(live) or sealed is not None
        template = Body(spec={"template": parts.template}) if parts.template else None
        envelope = decode(seen.envelope, Envelope)
        return assemble(seen, envelope, parts.body, parts.resources if knows else None, live, template)

    async def delete(self, obj: Obj) -> None:
        """See :class:`veil.api.ports.ObjectWriter`. A workload's demands go with it."""
        metadata, kind = obj["metadata"], KINDS[obj["kind"]]
        name, namespace = metadata["name"], metadata.get("namespace", "")
        where = object_id(name, "") if obj["kind"] == "Namespace" else object_id(namespace, name)
        row = self._projection.object(kind, where)
        if row is None:
            raise NotFound(f"{obj['kind']} {_named(namespace, name)} is not on the chain", hint="it was deleted meanwhile")
        await self._chain.delete_object(kind, where, row.generation)
        if obj["kind"] == "Workload":
            await self.demands.remove(where)
        await self._projection.wait_until(lambda: self._is_gone(kind, where, row.generation), self._timeout_s)
        log.info("deleted %s %s", obj["kind"], _named(namespace, name))

    async def cordon(self, node: Obj, *, unschedulable: bool) -> None:
        """See :class:`veil.api.ports.ObjectWriter`. Signed by this node's operator; the contract decides."""
        peer = parse_peer_id(node["status"]["peerID"])
        wanted = NodeStatus.CORDONED if unschedulable else NodeStatus.ACTIVE
        await self._chain.set_node_status(peer, wanted)
        await self._projection.wait_until(lambda: self._is_now(peer, wanted), self._timeout_s)

    def _is_now(self, peer: PeerId, wanted: NodeStatus) -> bool:
        row = self._projection.node(peer)
        return row is not None and row.status == wanted

    def _row(self, parts: Parts, live: Obj | None) -> ObjectRow | None:
        """The object as the chain has it. Raises Conflict when the caller decided on another state than that."""
        row = self._projection.object(KINDS[parts.kind], parts.object_id)
        what = f"{parts.kind} {_named(parts.namespace, parts.name)}"
        seen = live["metadata"].get("generation", 0) if live else 0
        if (row.generation if row else 0) != seen:
            raise Conflict(
                f"{what} is at generation {row.generation if row else 0} on the chain, this node shows {seen}",
                hint="somebody else changed it: try again in a moment",
            )
        return row

    async def _seal(
        self, parts: Parts, obj: Obj, live: Obj | None, before: Envelope | None, homes: Sequence[PeerId]
    ) -> Sealed | None:
        """The secret parts sealed anew; None when there are none, or those of before still hold."""
        if parts.resources is None:
            return None
        keys = self._keys()
        if before is not None and live is not None and self._keeps(parts, obj, live, before):
            return None
        if keys is None:
            raise FheUnavailable(
                "there is no active key epoch, so the resources cannot be sealed: nothing was sent",
                hint="an administrator publishes one with `veil key ceremony`; on a new cluster wait until it is ready",
            )
        return await seal_parts(parts, keys, homes)

    def _keeps(self, parts: Parts, obj: Obj, live: Obj, before: Envelope) -> bool:
        """Whether the sealed parts of before are also those of the new generation, whatever epoch they were sealed in.

        What the present epoch lacks of them is added outside the generation (:mod:`veil.api.demands`): a key rotation and a
        change of replicas after it are no rollout.
        """
        same = canonical_spec(parts)["template"] == live["spec"].get("template")
        same = same and bool(before.template) == (parts.template is not None)
        unknown = "resources" in withheld_from(live)
        states = any(container.get("resources") for container in obj["spec"]["template"]["containers"])
        if unknown and not same and not states:
            raise Forbidden(
                f"this node cannot read the resources of Workload {_named(parts.namespace, parts.name)}, so it cannot seal "
                "them with another template",
                hint="ask one of the namespace's home nodes, or apply the whole manifest with its resources",
            )
        return same

    def _envelope(self, parts: Parts, before: Envelope | None, sealed: Sealed | None, body: bytes) -> Envelope:
        uid = before.uid if before else uuid.UUID(bytes=self._random.bytes(16), version=4).bytes
        digest = sha256(body) if body else b""
        if sealed is not None:
            resources, template = sealed.resources_digest, sealed.template_digest
        else:
            resources, template = Digest(before.resources if before else b""), Digest(before.template if before else b"")
        return make_envelope(parts, uid=uid, body=digest, resources=resources, template=template)

    async def _await_generation(self, kind: int, where: ObjectId, generation: Generation, sealed: Sealed | None) -> ObjectRow:
        def there() -> bool:
            row = self._projection.object(kind, where)
            return row is not None and row.generation >= generation and (sealed is None or self._has_demand(where, sealed))

        await self._projection.wait_until(there, self._timeout_s)
        row = self._projection.object(kind, where)
        assert row is not None
        return row

    def _has_demand(self, where: ObjectId, sealed: Sealed) -> bool:
        return self.demands.anchored(where, Epoch(sealed.epoch)) is not None

    def _is_gone(self, kind: int, where: ObjectId, generation: Generation) -> bool:
        row = self._projection.object(kind, where)
        return row is None or row.deleting or row.generation > generation

    def _homes(self, namespace: str) -> tuple[PeerId, ...]:
        """The nodes that may read the sealed parts: the namespace's, or this one."""
        return (self._namespaces.homes(namespace) if namespace else ()) or (self._identity.peer_id,)

    def _with_homes(self, obj: Obj) -> Obj:
        """A Namespace that names no home nodes gets the node that was asked."""
        spec: dict[str, Any] = obj.get("spec") or {}
        return {**obj, "spec": {"homePeers": [peer_id_text(self._identity.peer_id)], **spec}}


def _encode_body(body: Body | None) -> bytes:
    if body is None:
        return b""
    data = encode(body)
    if len(data) > BODY_MAX_BYTES:
        raise LimitExceeded(
            f"the public template takes {len(data)} bytes, BODY_MAX_BYTES is {BODY_MAX_BYTES}", hint="shorten env and args"
        )
    return data


def _named(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name

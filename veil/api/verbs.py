"""What a request does to the store: get, list, create, update, patch, delete, with Kubernetes' rules and without HTTP.

Spec and labels of chain-held kinds go through the :class:`~veil.api.ports.ObjectWriter`; annotations, finalizers, owner
references, field managers and status are this node's own and go straight into the store. What a request changes of the local
part is carried over as a difference, so that a controller's annotation written meanwhile is not lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from veil.api import patches, rights
from veil.api.assemble import with_own_annotations
from veil.api.field_managers import apply as apply_fields
from veil.api.kinds import Kind
from veil.api.ports import Caller, ObjectWriter
from veil.api.selectors import Match, selector
from veil.api.status import Rejected
from veil.api.targets import Options, Target
from veil.api.validation import admissible
from veil.api.views import served, stored
from veil.client.requests import APPLY, JSON_PATCH, MERGE
from veil.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from veil.store.objects import Obj, ObjectStore
from veil.types import Clock, Random

STRATEGIC = "application/strategic-merge-patch+json"
GENERATED_NAME_TRIES = 8

LOCAL_METADATA = ("annotations", "finalizers", "ownerReferences", "managedFields")
"""The parts of metadata that are this node's own."""

_SERVERS_METADATA = ("uid", "creationTimestamp", "deletionTimestamp", "generation", "name", "namespace", "resourceVersion")


@dataclass(frozen=True, slots=True)
class Written:
    """The object after a write, as it is served; what the caller should be warned of."""

    object: Obj
    created: bool = False
    warnings: tuple[str, ...] = ()


class Verbs:
    """The verbs of one node's API, for every kind and caller."""

    def __init__(self, store: ObjectStore, writer: ObjectWriter, clock: Clock, random: Random) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._random = random

    # reading

    def read(self, caller: Caller, target: Target) -> Obj:
        """Raises NotFound."""
        return served(target.kind, self._live(caller, target), self._store)

    def select(self, caller: Caller, target: Target, query: Mapping[str, str]) -> list[Obj]:
        """The objects of a collection that the query's selectors match. Raises InvalidInput."""
        match, kind = self.matcher(caller, target, query), target.kind
        listed = self._store.list(kind.stored, target.namespace or None)
        return [served(kind, obj, self._store) for obj in listed if match(obj)]

    def matcher(self, caller: Caller, target: Target, query: Mapping[str, str]) -> Match:
        """Whether a stored object belongs to a list or watch."""
        match = selector(
            namespace=target.namespace,
            name=target.name,
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
        )
        return lambda obj: match(obj) and caller.visible(obj)

    def _live(self, caller: Caller, target: Target) -> Obj:
        found = self._store.find(target.kind.stored, target.namespace, target.name)
        if found is None or not caller.visible(found):
            raise NotFound(f'{target.kind.resource.qualified} "{target.name}" not found')
        return found

    # writing

    async def create(self, caller: Caller, target: Target, body: Obj, options: Options) -> Written:
        """Raises AlreadyExists besides what every write raises."""
        kind = target.kind
        rights.check_create(caller, kind)
        obj = self._named(target, _object(kind, stored(kind, body)))
        self._require_namespace(kind, obj)
        metadata = obj["metadata"]
        if self._store.find(kind.stored, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise AlreadyExists(f'{kind.resource.qualified} "{metadata["name"]}" already exists')
        rights.check_visible(caller, obj)
        obj["metadata"] = {key: value for key, value in metadata.items() if key not in _SERVERS_METADATA[:4]}
        obj["metadata"].pop("resourceVersion", None)
        obj.pop("status", None)
        return await self._write(caller, kind, None, obj, options)

    async def update(self, caller: Caller, target: Target, body: Obj, options: Options) -> Written:
        """Replace the object; with a status subresource only its status."""
        live = self._live(caller, target)
        return await self._replace(caller, target, live, _object(target.kind, stored(target.kind, body)), options)

    async def patch(self, caller: Caller, target: Target, form: str, change: object, options: Options) -> Written:
        """Change the object by a patch of media type ``form``; a server-side apply creates it when it is missing."""
        kind = target.kind
        if form == APPLY:
            return await self._apply(caller, target, change, options)
        live = self._live(caller, target)
        shown = served(kind, live, self._store)
        if form == MERGE:
            changed = patches.merge(shown, change)
        elif form == JSON_PATCH:
            changed = patches.json_patch(shown, change)
        elif form == STRATEGIC and not kind.resource.group:
            changed = patches.strategic(shown, change)
        else:
            accepted = ", ".join((JSON_PATCH, MERGE, APPLY))
            raise Rejected(
                415,
                "UnsupportedMediaType",
                f"the body of the request was in an unknown format - accepted media types include: {accepted}",
            )
        return await self._replace(caller, target, live, _object(kind, stored(kind, changed)), options)

    async def _apply(self, caller: Caller, target: Target, change: object, options: Options) -> Written:
        kind = target.kind
        if not options.manager:
            raise InvalidInput("fieldManager: Required value: is required for apply patch")
        if not isinstance(change, dict):
            raise InvalidInput("an apply patch is an object")
        applied = _object(kind, stored(kind, change))
        if applied["metadata"].get("managedFields"):
            raise InvalidInput("metadata.managedFields must be nil")
        applied["metadata"] = {**applied["metadata"], "name": target.name} | (
            {"namespace": target.namespace} if target.namespace else {}
        )
        live = self._store.find(kind.stored, target.namespace, target.name)
        new = apply_fields(live, applied, manager=options.manager, force=options.force, now=self._now())
        if live is not None:
            self._live(caller, target)
            return await self._replace(caller, target, live, new, options)
        rights.check_create(caller, kind)
        self._require_namespace(kind, new)
        rights.check_visible(caller, new)
        return await self._write(caller, kind, None, new, options)

    async def delete(self, caller: Caller, target: Target, options: Options, preconditions: Mapping[str, str]) -> Obj:
        """Gives back the object as it was. An object with finalizers stays until they are gone."""
        kind = target.kind
        rights.check_delete(caller, kind)
        live = self._live(caller, target)
        for key in ("uid", "resourceVersion"):
            if preconditions.get(key) and preconditions[key] != live["metadata"].get(key):
                raise Conflict(f"the precondition failed: {key} is {live['metadata'].get(key)}, not {preconditions[key]}")
        if options.dry_run:
            return live
        if kind.anchored:
            await self._writer.delete(live)
            return self._store.delete(kind.stored, target.namespace, target.name) or live
        if live["metadata"].get("finalizers"):
            if not live["metadata"].get("deletionTimestamp"):
                marks = {"deletionTimestamp": self._now(), "deletionGracePeriodSeconds": 0}
                live = self._store.put({**live, "metadata": {**live["metadata"], **marks}})
            return live
        return self._store.delete(kind.stored, target.namespace, target.name) or live

    # one object

    async def _replace(self, caller: Caller, target: Target, live: Obj, new: Obj, options: Options) -> Written:
        kind, status_only = target.kind, target.subresource == "status"
        rights.check_update(caller, kind, status=status_only)
        metadata = new["metadata"]
        wanted = metadata.get("resourceVersion")
        if wanted and wanted != live["metadata"]["resourceVersion"]:
            raise Conflict(
                f'Operation cannot be fulfilled on {kind.resource.qualified} "{target.name}": the object has been modified; '
                "please apply your changes to the latest version and try again"
            )
        if metadata.get("name", target.name) != target.name:
            raise InvalidInput("metadata.name: a name cannot be changed")
        if kind.cordons and not caller.controllers:
            return await self._cordon(kind, live, new, options)
        kept = {key: live["metadata"][key] for key in _SERVERS_METADATA if key in live["metadata"]}
        local = {key: metadata[key] for key in metadata if key not in _SERVERS_METADATA}
        new = {**new, "metadata": {**local, **kept}}
        if status_only:
            new = {**live, "metadata": {**live["metadata"], **_overlay(local)}, "status": new.get("status") or {}}
        else:
            new["status"] = live.get("status")
            if "status" not in live:
                new.pop("status")
        return await self._write(caller, kind, live, new, options)

    async def _cordon(self, kind: Kind, live: Obj, new: Obj, options: Options) -> Written:
        """Of a Node its users change one thing."""
        rights.check_cordon(served(kind, live, self._store), new)
        wanted = bool((new.get("spec") or {}).get("unschedulable"))
        changed = {**live, "spec": {**live["spec"], "unschedulable": wanted}}
        if wanted != bool(live["spec"].get("unschedulable")) and not options.dry_run:
            await self._writer.cordon(live, unschedulable=wanted)
            current = self._store.find(kind.stored, "", live["metadata"]["name"]) or live
            changed = self._store.put({**current, "spec": changed["spec"]})
        return Written(served(kind, changed, self._store))

    async def _write(self, caller: Caller, kind: Kind, live: Obj | None, new: Obj, options: Options) -> Written:
        new = {**new, "metadata": with_own_annotations(new["metadata"], live["metadata"] if live else {})}
        warnings: tuple[str, ...] = ()
        if kind.anchored and (live is None or _anchored(new) != _anchored(live)):
            new, warnings = admissible(new, live, options.validation)
        new = {**new, "metadata": {key: value for key, value in new["metadata"].items() if value not in ({}, [], None)}}
        if options.dry_run:
            return Written(served(kind, _preview(new, live, self._now()), self._store), live is None, warnings)
        if kind.anchored and (live is None or _anchored(new) != _anchored(live)):
            new = self._merged(await self._writer.apply(new, live), new, live)
        return Written(served(kind, self._put(kind, new), self._store), live is None, warnings)

    def _merged(self, anchored: Obj, wanted: Obj, before: Obj | None) -> Obj:
        """What was anchored, with the local part as it is now and the changes to it that the request asked for.

        What the node itself annotates belongs to what was anchored: to its generation or a newer one.
        """
        metadata = anchored["metadata"]
        current = self._store.find(anchored["kind"], metadata.get("namespace", ""), metadata["name"])
        base = anchored
        if current is not None and current["metadata"].get("uid") == metadata.get("uid"):
            newer = current["metadata"].get("generation", 0) >= metadata.get("generation", 0)
            base = current if newer else anchored | {key: current[key] for key in ("status",) if key in current}
            metadata = {**base["metadata"], **_local(current)}
        old = _local(before) if before else {}
        new = _local(wanted)
        changed = patches.merge(_local({"metadata": metadata}), patches.difference(old, new))
        rest = {key: value for key, value in metadata.items() if key not in LOCAL_METADATA}
        return {**base, "metadata": with_own_annotations({**rest, **changed}, base["metadata"])}

    def _put(self, kind: Kind, obj: Obj) -> Obj:
        metadata = obj["metadata"]
        key = (kind.stored, metadata.get("namespace", ""), metadata["name"])
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            return self._store.delete(*key) or obj
        return self._store.put(obj)

    def _named(self, target: Target, obj: Obj) -> Obj:
        """``obj`` with its name (made from generateName when it has none) and the namespace of the path."""
        kind, metadata = target.kind, dict(obj["metadata"])
        if kind.resource.namespaced:
            if not target.namespace:
                raise Rejected(405, "MethodNotAllowed", "create needs a namespace in the path")
            if metadata.setdefault("namespace", target.namespace) != target.namespace:
                raise InvalidInput(
                    f"the namespace of the object ({metadata['namespace']}) is not that of the request ({target.namespace})"
                )
        else:
            metadata.pop("namespace", None)
        for _ in range(GENERATED_NAME_TRIES):
            if metadata.get("name") or not metadata.get("generateName"):
                break
            name = f"{metadata['generateName']}{self._random.bytes(3).hex()[:5]}"
            if self._store.find(kind.stored, target.namespace, name) is None:
                metadata["name"] = name
        if not metadata.get("name"):
            raise InvalidInput("metadata.name: Required value: name or generateName is required")
        metadata.pop("generateName", None)
        return {**obj, "metadata": metadata}

    def _require_namespace(self, kind: Kind, obj: Obj) -> None:
        namespace = obj["metadata"].get("namespace", "")
        if kind.resource.namespaced and self._store.find("Namespace", "", namespace) is None:
            raise NotFound(f'namespaces "{namespace}" not found', hint="create it first: `kubectl create namespace`")

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _object(kind: Kind, obj: Obj) -> Obj:
    """Check what is the same for all kinds. Raises InvalidInput."""
    expected = "veil.dev/v1alpha1" if kind.stored == "Namespace" else kind.resource.api_version
    for key, value in (("apiVersion", expected), ("kind", kind.resource.kind)):
        if obj.get(key, value) != value:
            raise InvalidInput(f"the {key} in the data ({obj[key]}) does not match the expected ({value})")
    if not isinstance(obj.get("metadata", {}), dict):
        raise InvalidInput("metadata: must be an object")
    if not isinstance((obj.get("metadata") or {}).get("annotations") or {}, dict):
        raise InvalidInput("metadata.annotations: must be a map of strings")
    return {**obj, "apiVersion": expected, "kind": kind.resource.kind, "metadata": dict(obj.get("metadata") or {})}


def _anchored(obj: Obj) -> tuple[object, object]:
    return obj.get("spec") or {}, obj["metadata"].get("labels") or {}


def _local(obj: Obj) -> Obj:
    return {key: obj["metadata"][key] for key in LOCAL_METADATA if obj["metadata"].get(key)}


def _overlay(metadata: Obj) -> Obj:
    """What a write to the status may change besides: where controllers keep their notes."""
    return {key: metadata.get(key) or type(metadata[key])() for key in ("annotations", "finalizers") if key in metadata}


def _preview(new: Obj, live: Obj | None, now: str) -> Obj:
    """How a dry run's result looks: with what only a real write would set."""
    metadata = {"uid": "", "creationTimestamp": now, **new["metadata"]}
    if live is None or _anchored(new) != _anchored(live):
        metadata["generation"] = metadata.get("generation", 0) + 1
    return {**new, "metadata": metadata}

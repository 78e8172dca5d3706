"""OpenAPI documents made from the JSON Schemas of the kinds: `kubectl explain` and field validation read them.

OpenAPI 3.0 knows less than JSON Schema 2020-12: ``const`` becomes ``enum``, a list of types its first one (or
Kubernetes' int-or-string). OpenAPI v2 is an empty protobuf document: with it old kubectl skips its own validation, and the
server's counts.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from veil.api.kinds import KINDS, Kind
from veil.store.objects import Obj

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
NESTING_MAX = 32

_REF = "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_KEPT = (
    "type",
    "description",
    "default",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "required",
    "format",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "exclusiveMinimum",
    "exclusiveMaximum",
)
_OPTIONS = ("dryRun", "fieldManager", "fieldValidation")


def documents(schemas: Mapping[str, Obj], kinds: tuple[Kind, ...] = KINDS) -> dict[str, bytes]:
    """Every document by its path below ``/openapi/v3``, as JSON text; "" is the index."""
    versions: dict[str, list[Kind]] = {}
    for kind in kinds:
        versions.setdefault(kind.resource.prefix, []).append(kind)
    found = {prefix[1:]: msgspec.json.encode(_document(members, schemas)) for prefix, members in versions.items()}
    index = {
        path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={hashlib.sha256(text).hexdigest()[:32].upper()}"}
        for path, text in found.items()
    }
    found[""] = msgspec.json.encode({"paths": index})
    return found


def _document(kinds: list[Kind], schemas: Mapping[str, Obj]) -> Obj:
    components: Obj = {_META: _OBJECT_META}
    paths: Obj = {}
    for kind in kinds:
        components[_name(kind)] = definition(kind, schemas)
        paths |= _paths(kind)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Veil", "version": "v1alpha1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _name(kind: Kind) -> str:
    resource = kind.resource
    return ".".join([*reversed((resource.group or "core.veil.dev").split(".")), resource.version, resource.kind])


def definition(kind: Kind, schemas: Mapping[str, Obj]) -> Obj:
    """The OpenAPI schema of one kind, with Kubernetes' own metadata in place of ours."""
    schema = schemas.get(kind.schema_name, {}) if kind.resource.group else {}
    body = _convert(schema, 0)
    inner: Obj = body.get("properties", {})
    properties: Obj = {
        "apiVersion": {"type": "string", "description": "The version of this form of the object."},
        "kind": {"type": "string", "description": "What the object is."},
        "metadata": {"description": "Name, namespace, labels, annotations.", "allOf": [{"$ref": _REF + _META}]},
    }
    for key in ("spec", "status"):
        properties[key] = inner.get(key) or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "type": "object",
        "description": body.get("description", f"A {kind.resource.kind}."),
        "properties": properties,
        "x-kubernetes-group-version-kind": [_gvk(kind)],
    }


def _gvk(kind: Kind) -> Obj:
    return {"group": kind.resource.group, "version": kind.resource.version, "kind": kind.resource.kind}


def _paths(kind: Kind) -> Obj:
    resource = kind.resource
    base = resource.prefix + ("/namespaces/{namespace}" if resource.namespaced else "") + f"/{resource.plural}"

    def operation(action: str) -> Obj:
        return {
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _gvk(kind),
            "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _OPTIONS],
            "responses": {
                "200": {
                    "description": "OK",
                    "content": {"application/json": {"schema": {"$ref": _REF + _name(kind)}}},
                }
            },
        }

    if kind.view:
        return {base: {"get": operation("list")}, base + "/{name}": {"get": operation("get")}}
    one = {"get": "get", "put": "put", "patch": "patch", "delete": "delete"}
    return {
        base: {"get": operation("list"), "post": operation("post")},
        base + "/{name}": {method: operation(action) for method, action in one.items()},
    }


def _convert(schema: Any, depth: int) -> Obj:
    """A JSON Schema in the words of OpenAPI 3.0."""
    if not isinstance(schema, dict) or depth > NESTING_MAX:
        return {"x-kubernetes-preserve-unknown-fields": True}
    converted: Obj = {key: schema[key] for key in _KEPT if key in schema}
    if isinstance(kinds := schema.get("type"), list):
        converted["type"] = next((kind for kind in kinds if kind != "null"), "string")
        if "integer" in kinds and "string" in kinds:
            converted.pop("type")
            converted["x-kubernetes-int-or-string"] = True
    if "const" in schema:
        converted["enum"] = [schema["const"]]
    if "properties" in schema:
        converted["properties"] = {key: _convert(sub, depth + 1) for key, sub in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        converted["additionalProperties"] = _convert(schema["additionalProperties"], depth + 1)
    if "items" in schema:
        converted["items"] = _convert(schema["items"], depth + 1)
    return converted


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECT_META: Obj = {
    "type": "object",
    "description": "Name, namespace, labels, annotations.",
    "properties": {
        "name": {"type": "string", "description": "Unique within its namespace; cannot be changed."},
        "namespace": {"type": "string", "description": "The namespace that the name is unique in."},
        "labels": {**_TEXTS, "description": "Public: part of the envelope on the chain."},
        "annotations": {**_TEXTS, "description": "Kept by the node that was asked; never on the chain, never on other nodes."},
        "uid": {"type": "string", "description": "Unique in time and space."},
        "resourceVersion": {"type": "string", "description": "The node's own version of the object."},
        "generation": {"type": "integer", "description": "The registry's generation of the object."},
        "creationTimestamp": {"type": "string", "description": "When this node first saw the object."},
        "deletionTimestamp": {"type": "string", "description": "Since when the object is being deleted."},
        "finalizers": {"type": "array", "items": {"type": "string"}, "description": "Local to this node."},
        "ownerReferences": {"type": "array", "items": {"type": "object"}},
        "managedFields": {"type": "array", "items": {"type": "object"}},
    },
}

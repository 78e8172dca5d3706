"""A spec in the one form in which it is shown and compared: what means the same reads the same.

Quantities are in their shortest form and defaults are filled in, but not inside lists: clients compare lists as a whole, so a
default added to one of its items would look like a change to everybody who applies the same manifest again.
"""

from typing import Any

from veil.manifest.schemas import Schema, schema
from veil.manifest.split import Parts, join
from veil.store.objects import Obj
from veil.wire.objects import Envelope


def canonical_spec(parts: Parts) -> Obj:
    """The spec of a valid object as it will be shown once it is anchored."""
    confidential = parts.template is not None
    envelope = make_envelope(parts, uid=bytes(16), template=bytes(32) if confidential else b"")
    return plain_lists(parts.kind, join(envelope, parts.body, parts.resources, parts.template))


def plain_lists(kind: str, spec: Obj) -> Obj:
    """``spec`` without what items of lists would have by default."""
    shown: Obj = _plain(spec, schema(kind)["properties"].get("spec", {}), inside=False)
    return shown


def _plain(value: Any, part: Schema, *, inside: bool) -> Any:
    if isinstance(value, list):
        return [_plain(item, part.get("items", {}), inside=True) for item in value]
    if not isinstance(value, dict):
        return value
    known = part.get("properties", {})
    kept = {}
    for key, sub in value.items():
        below = known.get(key, {})
        if not (inside and "default" in below and below["default"] == sub):
            kept[key] = _plain(sub, below, inside=inside)
    return kept


def make_envelope(parts: Parts, *, uid: bytes, body: bytes = b"", resources: bytes = b"", template: bytes = b"") -> Envelope:
    """The public part of an object: its own fields, and the digests of the rest."""
    assert parts.kind in ("Namespace", "Workload")
    return Envelope(
        kind="Namespace" if parts.kind == "Namespace" else "Workload",
        namespace=parts.namespace,
        name=parts.name,
        uid=uid,
        labels=parts.labels,
        replicas=parts.replicas,
        policy=parts.policy,
        node_selector=parts.node_selector,
        tolerations=parts.tolerations,
        region=parts.region,
        anti_affinity=parts.anti_affinity,
        vouched_labels=parts.vouched_labels,
        body=body,
        resources=resources,
        template=template,
    )

"""Chain-held objects as the API shows them, put together from their parts. Pure.

What this node may not read (the exact resources away from the home nodes, the template of a confidential workload) is left
out and named in an annotation, so that nobody takes a gap for a wish. A Workload's template generation is an annotation too:
Kubernetes has no field for it.
"""

import uuid

from veil.api.canonical import plain_lists
from veil.manifest.split import join
from veil.rollout.names import TEMPLATE_GENERATION
from veil.store.objects import Obj
from veil.store.rows import ObjectRow
from veil.wire.objects import Body, Envelope, Resources

API_VERSION = "veil.dev/v1alpha1"

WITHHELD = "veil.dev/withheld"
"""The annotation that names the parts of an object (template, resources) that this node is not allowed to read."""


_OWN = (WITHHELD, TEMPLATE_GENERATION)
"""Annotations that say what this node knows of an object: set here, whatever a request says."""


def with_own_annotations(metadata: Obj, known: Obj) -> Obj:
    """``metadata`` with the annotations that only a node sets as they are in ``known`` (the metadata of the object as it is)."""
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _OWN}
    annotations |= {key: value for key, value in (known.get("annotations") or {}).items() if key in _OWN}
    rest = {key: value for key, value in metadata.items() if key != "annotations"}
    return rest | ({"annotations": annotations} if annotations else {})


def withheld_from(obj: Obj | None) -> frozenset[str]:
    """The parts of an object that this node cannot read."""
    annotations = (obj or {"metadata": {}})["metadata"].get("annotations") or {}
    return frozenset(str(annotations.get(WITHHELD, "")).split(",")) - {""}


def assemble(
    row: ObjectRow,
    envelope: Envelope,
    body: Body | None,
    resources: Resources | None,
    live: Obj | None,
    template: Body | None = None,
) -> Obj:
    """The object of a projection's row. ``template`` is the opened sealed one; what is None is not known here.

    What is local (annotations, finalizers, status …) is that of ``live``, unless that is another object of the same name.
    """
    uid = str(uuid.UUID(bytes=envelope.uid))
    if live is not None and live["metadata"].get("uid") != uid:
        live = None
    spec = join(envelope, body, resources, (template.spec.get("template") if template else None))
    spec = plain_lists(envelope.kind, spec)
    local = {key: value for key, value in (live or {}).get("metadata", {}).items() if key not in ("labels", "generation")}
    metadata: Obj = local | {"name": envelope.name, "uid": uid, "generation": row.generation}
    if envelope.kind != "Namespace":
        metadata["namespace"] = envelope.namespace
    if envelope.labels:
        metadata["labels"] = dict(envelope.labels)
    own = {}
    if withheld := _withheld(envelope, spec, resources):
        own[WITHHELD] = ",".join(withheld)
    if envelope.kind == "Workload":
        own[TEMPLATE_GENERATION] = str(row.template_generation)
    metadata = with_own_annotations(metadata, {"annotations": own})
    obj: Obj = {"apiVersion": API_VERSION, "kind": envelope.kind, "metadata": metadata, "spec": spec}
    status = dict((live or {}).get("status") or {})
    if envelope.kind == "Namespace":
        status["owner"] = row.owner
    return obj | ({"status": status} if status else {})


def _withheld(envelope: Envelope, spec: Obj, resources: Resources | None) -> list[str]:
    gaps = []
    if envelope.kind != "Namespace" and "template" not in spec:
        gaps.append("template")
    if envelope.resources and resources is None:
        gaps.append("resources")
    return gaps

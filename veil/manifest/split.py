"""A valid object taken apart into what is public, what is sealed, and what is only ever encrypted; and put together again.

Public: the envelope's fields and the body. Sealed: the exact resources, and with ``confidential`` the template. The resources
leave the template before anything else is done with it, so that no public part can have a figure.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from veil.manifest.quantity import format_bytes, format_cpu
from veil.manifest.rules import PARSERS
from veil.manifest.validate import default, identity_of
from veil.types import ObjectId
from veil.wire.objects import Body, ContainerResources, Envelope, Resources, object_id

Obj = dict[str, Any]

_FIELDS = {
    "cpu": "cpu_milli",
    "memory": "memory_bytes",
    "ephemeral-storage": "disk_bytes",
    "nvidia.com/gpu": "gpu_count",
}
_DEFAULT_STRATEGY = {"type": "RollingUpdate", "maxUnavailable": 0, "maxSurge": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An object's parts. Admission adds what only it has: the uid, keys, digests."""

    kind: str
    namespace: str
    """Empty for a Namespace."""
    name: str
    object_id: ObjectId
    labels: dict[str, str] = field(default_factory=dict)
    replicas: int = 0
    policy: str = ""
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: dict[str, str] = field(default_factory=dict)
    region: str = ""
    anti_affinity: bool = False
    vouched_labels: bool = False
    body: Body | None = None
    """The public part of the spec; None when there is nothing to say."""
    resources: Resources | None = None
    """The exact figures, to be sealed. None for kinds that run nothing."""
    template: Obj | None = None
    """What is to be sealed besides, when confidential: the template without its figures."""


def split(obj: Obj) -> Parts:
    """The parts of a valid Workload or Namespace (defaults are filled in first)."""
    obj = default(obj)
    kind, namespace, name = identity_of(obj)
    labels = obj["metadata"].get("labels", {})
    spec = obj["spec"]
    if kind == "Namespace":
        body = Body(spec=spec) if spec else None
        return Parts(kind=kind, namespace="", name=name, object_id=object_id(name, ""), labels=labels, body=body)
    template, resources = _without_figures(spec["template"])
    public = {} if spec["confidential"] else {"template": template}
    if spec["strategy"] != _DEFAULT_STRATEGY:
        public["strategy"] = spec["strategy"]
    return Parts(
        kind=kind,
        namespace=namespace,
        name=name,
        object_id=object_id(namespace, name),
        labels=labels,
        replicas=spec["replicas"],
        policy=spec["placement"]["policy"],
        node_selector=spec["placement"].get("nodeSelector", {}),
        tolerations=spec["placement"].get("tolerations", {}),
        region=spec["placement"].get("region", ""),
        anti_affinity=spec["placement"]["antiAffinity"],
        vouched_labels=spec["placement"].get("vouchedLabels", False),
        body=Body(spec=public) if public else None,
        resources=resources,
        template=template if spec["confidential"] else None,
    )


def _without_figures(template: Obj) -> tuple[Obj, Resources]:
    public: Obj = deepcopy(template)
    figures = {c["name"]: _figures(c.pop("resources", {})) for c in public["containers"]}
    return public, Resources(containers=figures)


def _figures(resources: Obj) -> ContainerResources:
    asked = resources.get("requests") or resources.get("limits") or {}
    return ContainerResources(**{_FIELDS[name]: PARSERS[name](value) for name, value in asked.items()})


def demand_of(resources: Resources) -> tuple[int, int, int, int]:
    """What one replica asks for in all: milli-cores, bytes of memory, bytes of disk, GPUs."""
    asked = resources.containers.values()
    return (
        sum(c.cpu_milli for c in asked),
        sum(c.memory_bytes for c in asked),
        sum(c.disk_bytes for c in asked),
        sum(c.gpu_count for c in asked),
    )


def join(envelope: Envelope, body: Body | None, resources: Resources | None, template: Obj | None = None) -> Obj:
    """The spec again, as far as its parts are known: the inverse of :func:`split`, with quantities in their shortest form.

    ``template`` is the opened sealed one of a confidential object. Without ``body`` and ``template`` there is no template,
    without ``resources`` its containers have none: both are simply not known here.
    """
    public = deepcopy(body.spec) if body else {}
    if envelope.kind == "Namespace":
        return public
    placement: Obj = {"policy": envelope.policy, "antiAffinity": envelope.anti_affinity}
    if envelope.region:
        placement["region"] = envelope.region
    if envelope.node_selector:
        placement["nodeSelector"] = dict(envelope.node_selector)
    if envelope.vouched_labels:
        placement["vouchedLabels"] = True
    if envelope.tolerations:
        placement["tolerations"] = dict(envelope.tolerations)
    spec: Obj = {
        "replicas": envelope.replicas,
        "confidential": bool(envelope.template),
        "placement": placement,
        "strategy": public.get("strategy", dict(_DEFAULT_STRATEGY)),
    }
    known = public.get("template") if template is None else deepcopy(template)
    if known is not None:
        spec["template"] = known if resources is None else _with_figures(known, resources)
    return spec


def _with_figures(template: Obj, resources: Resources) -> Obj:
    for container in template["containers"]:
        figures = resources.containers.get(container["name"])
        requests = _requests(figures) if figures else {}
        if requests:
            container["resources"] = {"requests": requests}
    return template


def _requests(figures: ContainerResources) -> dict[str, str]:
    texts = {
        "cpu": format_cpu(figures.cpu_milli),
        "memory": format_bytes(figures.memory_bytes),
        "ephemeral-storage": format_bytes(figures.disk_bytes),
        "nvidia.com/gpu": str(figures.gpu_count),
    }
    return {name: text for name, text in texts.items() if getattr(figures, _FIELDS[name])}

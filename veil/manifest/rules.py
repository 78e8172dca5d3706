"""What a valid object must keep to beyond its schema. Each broken rule is a path and what is wrong there."""

import json
from collections.abc import Iterator
from typing import Any

from veil.errors import LimitExceeded
from veil.manifest.parse import Path
from veil.manifest.quantity import QUANTITY_MAX, parse_bytes, parse_count, parse_cpu
from veil.wire.codec import encode
from veil.wire.objects import BODY_MAX_BYTES, Body, Envelope, encode_envelope
from veil.wire.sealed import PAD_BYTES

TEMPLATE_MAX_BYTES = BODY_MAX_BYTES - 2 * PAD_BYTES
"""What a template takes at most, so that it fits a sealed part with its padding."""

PARSERS = {"cpu": parse_cpu, "memory": parse_bytes, "ephemeral-storage": parse_bytes, "nvidia.com/gpu": parse_count}
"""How each resource's quantity is read."""

LOGIN_FILE = "config.json"
"""The file of a secret that imagePullSecrets names: what docker login writes."""

VOLUME_KINDS = ("emptyDir", "config", "secret", "hostPath")
PROBE_ACTIONS = ("exec", "httpGet", "tcpSocket")

CONTAINERS_MAX = 32
"""Containers and init containers of one template together."""

Broken = tuple[Path, str]


def broken_rules(obj: dict[str, Any]) -> Iterator[Broken]:
    """Every rule that ``obj``, which its schema allows, breaks."""
    metadata = obj["metadata"]
    if obj["kind"] in ("Namespace", "Node") and "namespace" in metadata:
        yield ("metadata", "namespace"), f"a {obj['kind']} is in no namespace: remove it"
    if obj["kind"] in ("Namespace", "Workload"):
        yield from _envelope(obj)
    if obj["kind"] == "Workload":
        spec = obj["spec"]
        yield from _placement(spec.get("placement", {}))
        yield from _strategy(spec.get("strategy", {}))
        yield from _template(spec["template"], ("spec", "template"))
        yield from _network(spec["template"], ("spec", "template"))
        yield from _volumes(spec["template"], ("spec", "template"), sealed=spec.get("confidential", False))


def _placement(placement: dict[str, Any]) -> Iterator[Broken]:
    nearest = placement.get("policy", "BinPack") == "LowestLatency"
    if nearest and "region" not in placement:
        yield ("spec", "placement", "policy"), "LowestLatency needs to know towards where: set spec.placement.region"
    if not nearest and "region" in placement:
        yield ("spec", "placement", "region"), "only the policy LowestLatency looks at it: remove it, or set that policy"


def _strategy(strategy: dict[str, Any]) -> Iterator[Broken]:
    rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
    if rolling and strategy.get("maxUnavailable", 0) == 0 and strategy.get("maxSurge", 1) == 0:
        yield ("spec", "strategy", "maxSurge"), "maxSurge and maxUnavailable are both 0: nothing could ever be replaced"


def _template(template: dict[str, Any], path: Path) -> Iterator[Broken]:
    containers = template["containers"]
    inits = template.get("initContainers", [])
    yield from _twice([container["name"] for container in containers], (*path, "containers"))
    yield from _inits(inits, {container["name"] for container in containers}, path)
    totals = dict.fromkeys(PARSERS, 0)
    for index, container in enumerate(containers):
        here = (*path, "containers", index)
        yield from _twice([entry["name"] for entry in container.get("env", [])], (*here, "env"))
        yield from _probes(container, here)
        resources = container.get("resources", {})
        yield from _limits(resources, (*here, "resources"))
        for name, value in (resources.get("requests") or resources.get("limits") or {}).items():
            totals[name] += PARSERS[name](value)
    for name, total in totals.items():
        if total > QUANTITY_MAX:
            yield (*path, "containers"), f"the containers ask for too much {name} together"
    size = len(encode(Body(spec={"template": template})))
    if size > TEMPLATE_MAX_BYTES:
        yield path, f"takes {size} bytes, TEMPLATE_MAX_BYTES is {TEMPLATE_MAX_BYTES}"


def _inits(inits: list[dict[str, Any]], taken: set[str], path: Path) -> Iterator[Broken]:
    yield from _twice([init["name"] for init in inits], (*path, "initContainers"))
    for index, init in enumerate(inits):
        here = (*path, "initContainers", index)
        if init["name"] in taken:
            yield (*here, "name"), f'"{init["name"]}" is the name of a container, too'
        yield from _twice([entry["name"] for entry in init.get("env", [])], (*here, "env"))
    if len(inits) + len(taken) > CONTAINERS_MAX:
        yield (*path, "initContainers"), f"more than CONTAINERS_MAX={CONTAINERS_MAX} with the containers"


def _network(template: dict[str, Any], path: Path) -> Iterator[Broken]:
    host = template.get("hostNetwork", False)
    listed = [
        ((*path, "containers", index, "ports", number), port)
        for index, container in enumerate(template["containers"])
        for number, port in enumerate(container.get("ports", []))
    ]
    if host and template.get("network") == "bridge":
        yield (*path, "network"), "hostNetwork is set: remove one of them"
    if template.get("network") == "none" and listed:
        yield (*path, "network"), "nobody could reach the containers' ports: remove it, or them"
    taken: set[tuple[int, str]] = set()
    for where, port in listed:
        published = (port.get("hostPort", 0), port.get("protocol", "TCP"))
        if host and published[0] not in (0, port["containerPort"]):
            yield (*where, "hostPort"), "hostNetwork is set: must be the containerPort, or left out"
        if published in taken:
            yield (*where, "hostPort"), f"{published[0]}/{published[1]} is there twice"
        taken |= {published} if published[0] else set()


def _volumes(template: dict[str, Any], path: Path, *, sealed: bool) -> Iterator[Broken]:
    volumes = template.get("volumes", [])
    yield from _twice([volume["name"] for volume in volumes], (*path, "volumes"))
    for index, volume in enumerate(volumes):
        if sum(kind in volume for kind in VOLUME_KINDS) != 1:
            yield (*path, "volumes", index), f"needs exactly one of {', '.join(VOLUME_KINDS)}"
        if "secret" in volume and not sealed:
            yield (*path, "volumes", index, "secret"), "would be published with the template: set spec.confidential"
        if ".." in volume.get("hostPath", {}).get("path", "").split("/"):
            yield (*path, "volumes", index, "hostPath", "path"), 'must not have ".." in it'
    yield from _logins(template.get("imagePullSecrets", []), volumes, (*path, "imagePullSecrets"))
    known = [volume["name"] for volume in volumes]
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(template.get(kind, [])):
            yield from _mounts(container.get("volumeMounts", []), known, (*path, kind, index, "volumeMounts"))


def _logins(named: list[dict[str, Any]], volumes: list[dict[str, Any]], path: Path) -> Iterator[Broken]:
    secrets = {volume["name"]: volume["secret"]["files"] for volume in volumes if "secret" in volume}
    for index, entry in enumerate(named):
        if LOGIN_FILE not in secrets.get(entry["name"], {}):
            yield (*path, index, "name"), f"must name a volume with a secret that has the file {LOGIN_FILE}"
            continue
        try:
            read = json.loads(secrets[entry["name"]][LOGIN_FILE])
        except ValueError:
            read = None
        if not isinstance(read, dict) or not isinstance(read.get("auths"), dict):
            yield (*path, index, "name"), f"{LOGIN_FILE} of that secret is not as docker login writes it: it has no auths"


def _mounts(mounts: list[dict[str, Any]], known: list[str], path: Path) -> Iterator[Broken]:
    places: list[list[str]] = []
    for index, mount in enumerate(mounts):
        parts = mount["mountPath"].rstrip("/").split("/")
        if mount["name"] not in known:
            yield (*path, index, "name"), f'there is no volume "{mount["name"]}"'
        if ".." in parts or parts[1:2] in (["proc"], ["sys"], ["dev"], []):
            yield (*path, index, "mountPath"), 'must not have ".." in it, nor be below /proc, /sys or /dev'
        if parts in places:
            yield (*path, index, "mountPath"), "is the place of another volume"
        places.append(parts)


def _probes(container: dict[str, Any], path: Path) -> Iterator[Broken]:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if name not in container:
            continue
        probe = container[name]
        if sum(action in probe for action in PROBE_ACTIONS) != 1:
            yield (*path, name), f"needs exactly one of {', '.join(PROBE_ACTIONS)}"
        if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
            yield (*path, name, "successThreshold"), "must be 1: one success is enough for it"


def _twice(names: list[str], path: Path) -> Iterator[Broken]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (*path, index, "name"), f'"{name}" is there twice'


def _limits(resources: dict[str, Any], path: Path) -> Iterator[Broken]:
    """Requests and limits are one thing here: what a node sets aside is what the container gets."""
    requests = resources.get("requests")
    for name, value in resources.get("limits", {}).items():
        figure = PARSERS[name](value)
        if requests is not None and (name not in requests or PARSERS[name](requests[name]) != figure):
            yield (*path, "limits", name), "must equal the request: what a node sets aside is what the container gets"


def _envelope(obj: dict[str, Any]) -> Iterator[Broken]:
    """Whether the public part fits on the chain, whatever its digests turn out to be."""
    metadata, placement = obj["metadata"], obj.get("spec", {}).get("placement", {})
    widest = Envelope(
        kind=obj["kind"],
        namespace=metadata.get("namespace", "default"),
        name=metadata["name"],
        uid=bytes(16),
        labels=metadata.get("labels", {}),
        replicas=obj.get("spec", {}).get("replicas", 0),
        policy=placement.get("policy", "BinPack"),
        node_selector=placement.get("nodeSelector", {}),
        tolerations=placement.get("tolerations", {}),
        region=placement.get("region", ""),
        anti_affinity=placement.get("antiAffinity", False),
        vouched_labels=placement.get("vouchedLabels", False),
        body=bytes(32),
        resources=bytes(32),
        template=bytes(32) if obj.get("spec", {}).get("confidential") else b"",
    )
    try:
        encode_envelope(widest)
    except LimitExceeded as error:
        yield ("metadata", "labels"), f"{error.message}: {error.hint}"

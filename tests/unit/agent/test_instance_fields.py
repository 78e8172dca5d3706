"""Every field that the schema lets a template say changes what the runtime is asked for: none is taken and forgotten.

A field that the schema gets has to be in ``FULL``, or in ``ELSEWHERE`` with where it counts.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from veil.agent.keys import LABEL_SPEC, DesiredInstance, InstanceKey
from veil.agent.spec import InstancePlan, LogPaths, Planned, plan_instance
from veil.errors import InvalidInput
from veil.manifest.schemas import schema
from veil.runtime.credentials import Logins
from veil.types import Generation, ObjectId
from veil.wire.objects import Resources

_FIGURES = {
    "initialDelaySeconds": 1,
    "periodSeconds": 20,
    "timeoutSeconds": 2,
    "successThreshold": 1,
    "failureThreshold": 4,
    "terminationGracePeriodSeconds": 5,
}
_ACTIONS: list[dict[str, Any]] = [
    {"exec": {"command": ["true"]}},
    {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP", "httpHeaders": [{"name": "a", "value": "b"}]}},
    {"tcpSocket": {"port": 80}},
]
_PROCESS: dict[str, Any] = {
    "image": "app:1",
    "command": ["serve"],
    "args": ["all"],
    "env": [{"name": "a", "value": "b"}],
    "workingDir": "/srv",
    "volumeMounts": [{"name": name, "mountPath": f"/{name}", "readOnly": False} for name in ("disk", "config", "secret", "host")],
    "readOnlyRootFilesystem": False,
}


def _container(name: str, shift: int) -> dict[str, Any]:
    """With three probes; over three containers each probe has each action."""
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    made = {**_PROCESS, "name": name}
    made |= {probe: {**_FIGURES, **_ACTIONS[(number + shift) % 3]} for number, probe in enumerate(probes)}
    return made


LOGIN = '{"auths": {"registry.example": {"username": "ann", "password": "sesame"}}}'
PORTS = [{"name": "web", "containerPort": 80, "hostPort": 8080, "protocol": "TCP"}]
FULL: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 3,
    "hostNetwork": False,
    "network": "bridge",
    "volumes": [
        {"name": "disk", "emptyDir": {"medium": "Disk", "sizeLimit": "1Mi"}},
        {"name": "diskx", "emptyDir": {"medium": "Disk"}},
        {"name": "config", "config": {"files": {"a": "b"}}},
        {"name": "secret", "secret": {"files": {"config.json": LOGIN}}},
        {"name": "host", "hostPath": {"path": "/srv"}},
    ],
    "imagePullSecrets": [{"name": "secret"}],
    "initContainers": [{**_PROCESS, "name": "first"}],
    "containers": [{**_container("a", 0), "ports": PORTS}, _container("b", 1), _container("c", 2)],
}
ELSEWHERE = {
    "containers.ports.name": "for people",
    "metadata.annotations": "for people: another one is another generation",
    "containers.resources.": "come beside the template, as Resources: test_agent_decisions.py",
}


def leaves(part: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    inner = part.get("items", {}) if part.get("type") == "array" else part
    if "properties" not in inner:
        yield path, part
        return
    for name, below in inner["properties"].items():
        yield from leaves(below, f"{path}.{name}".lstrip("."))


LEAVES = dict(leaves(schema("Workload")["properties"]["spec"]["properties"]["template"]))


def changed(value: Any, kind: dict[str, Any]) -> Any:
    """Another value that the field may have."""
    if "enum" in kind:
        return next(other for other in kind["enum"] if other != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return "2Mi" if value == "1Mi" else f"{value}x"
    return [*value, "more"] if isinstance(value, list) else {**value, "more": "more"}


def change(part: Any, path: list[str], kind: dict[str, Any]) -> bool:
    """Change the field in the first place that has it."""
    if isinstance(part, list):
        return any(change(one, path, kind) for one in part)
    name, *rest = path
    if name not in part:
        return False
    if rest:
        return change(part[name], rest, kind)
    part[name] = changed(part[name], kind)
    return True


def asked(template: dict[str, Any]) -> InstancePlan:
    """What follows from a template, but for the digest of it and for secrets, which do not compare."""
    desired = DesiredInstance(
        key=InstanceKey(ObjectId(bytes(32)), Generation(1), 0),
        namespace="shop",
        workload="web",
        spec=template,
        resources=Resources(containers={}),
    )
    plan = plan_instance(
        desired, node="n1", log_paths=LogPaths(Path("logs")), volumes_home=Path("volumes"), network_home=Path("net")
    )
    return replace(plan, containers=_undigested(plan.containers), inits=_undigested(plan.inits), logins=Logins())


def _undigested(those: Sequence[Planned]) -> tuple[Planned, ...]:
    return tuple(replace(one, digest="", spec=replace(one.spec, labels={**one.spec.labels, LABEL_SPEC: ""})) for one in those)


@pytest.mark.parametrize("path", [path for path in LEAVES if not path.startswith(tuple(ELSEWHERE))])
def test_every_field_of_the_template_counts(path: str) -> None:
    template = copy.deepcopy(FULL)
    if path in ("network", "hostNetwork"):  # with ports there is a network anyway
        del template["containers"][0]["ports"]
    before = asked(template)
    assert change(template, path.split("."), LEAVES[path]), f"put {path} into FULL, so that it is shown to count"
    if path in ("volumes.name", "imagePullSecrets.name"):  # what goes by that name is not found any more
        with pytest.raises(InvalidInput):
            asked(template)
        return
    assert asked(template) != before, f"{path} is taken and changes nothing"

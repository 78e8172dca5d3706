"""From a Workload's template to what the runtime is asked to create. Pure.

A template that was sealed could be validated by nobody but its author's node, so everything is checked here as it is read: a
wrong one is one Instance's failure, never the agent's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from veil.agent.keys import DesiredInstance, container_id, container_labels
from veil.agent.networks import Network, network_of
from veil.agent.probes import Probes, probes_of
from veil.agent.volumes import Volume, VolumeKind, mounts_of, volumes_of
from veil.errors import InvalidInput
from veil.manifest.rules import CONTAINERS_MAX, LOGIN_FILE
from veil.rollout.names import instance_name
from veil.runtime.credentials import Logins
from veil.runtime.ports import ContainerSpec
from veil.types import Secret
from veil.wire.objects import ContainerResources

GRACE_DEFAULT_S = 30
GRACE_MAX_S = 3600
PIDS_MAX = 4096
"""Processes in one container: enough for any server, not enough for a fork bomb to take the machine along."""


class RestartPolicy(StrEnum):
    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One container as it should be, and its name inside the template."""

    name: str
    spec: ContainerSpec
    digest: str
    """Of all that the container was made from: another one means that it has to be made anew."""
    disk_bytes: int = 0
    """What it may hold of the node's disk; 0 = no limit."""
    gpu_count: int = 0
    probes: Probes = Probes()
    init: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlan:
    """One Instance as it should be."""

    policy: RestartPolicy
    grace_s: int
    containers: tuple[Planned, ...]
    inits: tuple[Planned, ...] = ()
    """Run one after the other, each to its end, before the others are made."""
    volumes: tuple[Volume, ...] = ()
    network: Network | None = None
    """One for all containers; None for loopback alone or the machine's."""
    memory_bytes: int = 0
    """What all containers may use together; 0 = no limit."""
    disk_bytes: int = 0
    """What all containers and volumes may hold of the node's disk together; 0 = no limit."""
    logins: Logins = Logins()
    """Its own, for the registries of its images."""

    @property
    def everything(self) -> tuple[Planned, ...]:
        return (*self.inits, *self.containers)


def plan_instance(
    desired: DesiredInstance,
    *,
    node: str,
    log_paths: "LogPaths",
    volumes_home: Path,
    network_home: Path | None,
    network_by_runtime: bool = False,
) -> InstancePlan:
    """What the runtime should have; without ``network_home`` its containers have the network that the runtime gives them.

    Raises InvalidInput for a template that cannot be run.
    """
    template = desired.spec
    try:
        policy = RestartPolicy(template.get("restartPolicy", RestartPolicy.ALWAYS))
        grace_s = min(GRACE_MAX_S, max(0, int(template.get("terminationGracePeriodSeconds", GRACE_DEFAULT_S))))
        containers, inits = template["containers"], template.get("initContainers") or []
        called = [str(container["name"]) for container in (*containers, *inits)]
        if not containers or len(called) > CONTAINERS_MAX or len(set(called)) != len(called) or any("/" in one for one in called):
            raise ValueError("names of containers")
        figures = desired.resources.containers
        limits = [figures.get(str(container["name"]), ContainerResources()) for container in containers]
        whole = _together(limits)
        volumes = volumes_of(template, volumes_home)
        mounted = {str(mount["name"]) for one in (*containers, *inits) for mount in one.get("volumeMounts") or ()}
        own_name = instance_name(desired.workload, desired.key.generation, desired.key.replica)
        names = (own_name, desired.workload)
        network = network_of(template, network_home, desired.namespace, names, by_runtime=network_by_runtime)
        logins = Logins(tuple(_login_file(volumes[str(named["name"])]) for named in template.get("imagePullSecrets") or ()))
        planned = tuple(
            _planned(desired, container, limit, volumes, network, node, grace_s, log_paths)
            for container, limit in zip(containers, limits, strict=True)
        )
        first = [_planned(desired, container, whole, volumes, network, node, grace_s, log_paths) for container in inits]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"the template of {desired.namespace}/{desired.workload} cannot be run: {type(error).__name__}",
            hint="apply the manifest again: admission says which field is wrong",
        ) from error
    return InstancePlan(
        policy=policy,
        grace_s=grace_s,
        containers=planned,
        inits=tuple(replace(planned, init=True, spec=replace(planned.spec, ports=())) for planned in first),
        volumes=tuple(volume for volume in volumes.values() if volume.name in mounted),
        network=network,
        memory_bytes=whole.memory_bytes,
        disk_bytes=whole.disk_bytes,
        logins=logins,
    )


def _login_file(volume: Volume) -> Secret:
    if volume.kind is not VolumeKind.SECRET:
        raise ValueError("logins that are no secret")
    return Secret(volume.files[LOGIN_FILE].encode())


def _together(limits: list[ContainerResources]) -> ContainerResources:
    """An init container runs alone, so it has what all containers have together. One without a limit leaves it without."""

    def total(figures: list[int]) -> int:
        return sum(figures) if all(figures) else 0

    return ContainerResources(
        cpu_milli=total([limit.cpu_milli for limit in limits]),
        memory_bytes=total([limit.memory_bytes for limit in limits]),
        disk_bytes=total([limit.disk_bytes for limit in limits]),
    )


class LogPaths:
    """Where a container's output goes: ``<root>/<instance>/<container>/<stream>.log``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def instance(self, instance: str) -> Path:
        return self.root / instance

    def container(self, instance: str, container: str) -> Path:
        return self.root / instance / container

    def stream(self, instance: str, container: str, stream: str) -> Path:
        return self.container(instance, container) / f"{stream}.log"


def _planned(
    desired: DesiredInstance,
    container: Mapping[str, Any],
    limits: ContainerResources,
    volumes: Mapping[str, Volume],
    network: Network | None,
    node: str,
    grace_s: int,
    log_paths: LogPaths,
) -> Planned:
    name = str(container["name"])
    host_network = bool(desired.spec.get("hostNetwork", False))
    made_from = [dict(container), host_network, limits.cpu_milli, limits.memory_bytes]
    made_from += [desired.spec["volumes"]] if desired.spec.get("volumes") else []
    made_from += ["bridge"] if network is not None else []
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
    spec = ContainerSpec(
        id=container_id(desired.key, name),
        image=str(container["image"]),
        command=_words(container.get("command")),
        args=_words(container.get("args")),
        env=_environment(desired, container, node),
        workdir=str(container.get("workingDir", "")),
        cpu_milli=limits.cpu_milli,
        memory_bytes=limits.memory_bytes,
        pids=PIDS_MAX,
        network="host" if host_network else "none" if network is None else network.asked,
        ports=network.published if network is not None else (),
        read_only_root=bool(container.get("readOnlyRootFilesystem", False)),
        mounts=(*(network.mounts if network is not None else ()), *mounts_of(container, volumes)),
        stdout=log_paths.stream(desired.key.text, name, "stdout"),
        stderr=log_paths.stream(desired.key.text, name, "stderr"),
        labels=container_labels(desired.key, name, node=node, grace_s=grace_s, spec_digest=digest),
    )
    return Planned(
        name=name, spec=spec, digest=digest, disk_bytes=limits.disk_bytes, gpu_count=limits.gpu_count, probes=probes_of(container)
    )


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError("a list of words, not one")
    return tuple(str(word) for word in value or ())


def _environment(desired: DesiredInstance, container: Mapping[str, Any], node: str) -> dict[str, str]:
    """The template's variables; the three of Veil's own cannot be replaced by it."""
    given = {str(entry["name"]): str(entry.get("value", "")) for entry in container.get("env") or ()}
    key = desired.key
    return given | {
        "VEIL_NODE": node,
        "VEIL_INSTANCE": instance_name(desired.workload, key.generation, key.replica),
        "VEIL_NAMESPACE": desired.namespace,
    }

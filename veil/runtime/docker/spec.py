"""From a ContainerSpec to the body of a create request, and from what is inspected to a Container."""

import contextlib
from collections.abc import Mapping
from typing import Any

from veil.errors import ContainerFailed
from veil.runtime.docker.timestamps import NS_PER_S, nanoseconds
from veil.runtime.isolation import CAPABILITIES, CPU_PERIOD_US, PIDS_DEFAULT, cpu_quota_us, cpu_shares
from veil.runtime.ports import BRIDGE, Container, ContainerSpec, ContainerState, PortMapping
from veil.runtime.reference import parse_reference

OWN = "veil.dev/runtime."
NAMESPACE, ID, IMAGE, STDOUT, STDERR = (OWN + name for name in ("namespace", "id", "image", "stdout", "stderr"))
"""Labels of ours; not given back by list."""

_STATES = {
    "created": ContainerState.CREATED,
    "configured": ContainerState.CREATED,
    "initialized": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "paused": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "stopping": ContainerState.RUNNING,
    "exited": ContainerState.EXITED,
    "stopped": ContainerState.EXITED,
}
"""podman's words are among them; any other (dead, removing) says nothing of how the process ended."""

_KEPT_BY_THE_DAEMON = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}
"""Output is copied from there at once: what is kept only bridges the node's own restarts."""


def create_body(spec: ContainerSpec, namespace: str) -> dict[str, Any]:
    """Raises ContainerFailed for a network of an unknown kind."""
    if spec.network not in ("none", "host", BRIDGE):
        raise ContainerFailed(f"container {spec.id}: no network {spec.network!r}", hint="use none, host or bridge, or containerd")
    own = {NAMESPACE: namespace, ID: spec.id, IMAGE: spec.image, STDOUT: str(spec.stdout), STDERR: str(spec.stderr)}
    body: dict[str, Any] = {
        "Image": str(parse_reference(spec.image)),
        "Env": [f"{key}={value}" for key, value in spec.env.items()],
        "Labels": {**spec.labels, **own},
        "HostConfig": {
            "NetworkMode": spec.network,
            "ReadonlyRootfs": spec.read_only_root,
            "CapDrop": ["ALL"],
            "CapAdd": [name.removeprefix("CAP_") for name in CAPABILITIES],
            "SecurityOpt": ["no-new-privileges"],
            "RestartPolicy": {"Name": "no"},
            "LogConfig": _KEPT_BY_THE_DAEMON,
            "Mounts": [
                {"Type": "bind", "Source": str(one.source), "Target": one.destination, "ReadOnly": one.read_only}
                for one in spec.mounts
            ],
            "Devices": [
                {"PathOnHost": str(path), "PathInContainer": str(path), "CgroupPermissions": "rwm"} for path in spec.devices
            ],
            **limits(spec.cpu_milli, spec.memory_bytes, spec.pids or PIDS_DEFAULT),
        },
    }
    if spec.network == BRIDGE:
        body["HostConfig"]["PortBindings"] = {_port(port): [{"HostPort": str(port.host_port)}] for port in spec.ports}
        body["ExposedPorts"] = {_port(port): {} for port in spec.ports}
    if spec.command:
        body["Entrypoint"] = list(spec.command)
    if spec.args:
        body["Cmd"] = list(spec.args)
    if spec.workdir:
        body["WorkingDir"] = spec.workdir
    return body


def _port(port: PortMapping) -> str:
    return f"{port.container_port}/{port.protocol}"


def limits(cpu_milli: int, memory_bytes: int, pids: int) -> dict[str, int]:
    """0 leaves a limit out. Swap is not limited, or no smaller memory limit could be set later."""
    found: dict[str, int] = {}
    if cpu_milli:
        found |= {"CpuPeriod": CPU_PERIOD_US, "CpuQuota": cpu_quota_us(cpu_milli), "CpuShares": cpu_shares(cpu_milli)}
    if memory_bytes:
        found |= {"Memory": memory_bytes, "MemorySwap": -1}
    if pids:
        found["PidsLimit"] = pids
    return found


def view(inspected: Mapping[str, Any]) -> Container:
    """What the daemon says of one container."""
    said, labels = inspected["State"], inspected["Config"].get("Labels") or {}
    state = _STATES.get(said["Status"], ContainerState.UNKNOWN)
    ended = state is ContainerState.EXITED
    return Container(
        id=labels[ID],
        state=state,
        pid=int(said.get("Pid") or 0) if state is ContainerState.RUNNING else 0,
        exit_code=int(said["ExitCode"]) if ended else None,
        started_s=_seconds(said.get("StartedAt")),
        finished_s=_seconds(said.get("FinishedAt")) if ended else 0.0,
        image=labels.get(IMAGE, ""),
        labels={key: value for key, value in labels.items() if not key.startswith(OWN)},
    )


def _seconds(text: str | None) -> float:
    with contextlib.suppress(ValueError, OverflowError):
        return nanoseconds(text or "") / NS_PER_S
    return 0.0

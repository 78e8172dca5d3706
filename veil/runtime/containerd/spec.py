"""The OCI runtime specification of a container: isolated as far as namespaces, capabilities, seccomp and cgroups go.

Pure, but for the numbers of devices. No rlimits and no oomScoreAdj, because setting them needs CAP_SYS_RESOURCE, which sandboxes
often lack. There is no user namespace: root in a container is the machine's root with few capabilities and few system calls.
Source: OCI runtime specification 1.0.2.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veil.errors import ContainerFailed
from veil.runtime.containerd.seccomp import default_profile
from veil.runtime.isolation import CAPABILITIES, CPU_PERIOD_US, PIDS_DEFAULT, cpu_quota_us, cpu_shares
from veil.runtime.ports import ContainerSpec, Mount

MAX_HOSTNAME_CHARS = 63

_MASKED = ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats")
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
"""null, zero, full, random, urandom, tty, console, ptmx."""
_PTY_MAJOR = 136


@dataclass(frozen=True, slots=True)
class User:
    """Whom the process runs as."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()


def runtime_spec(spec: ContainerSpec, image: Mapping[str, Any], user: User, cgroup: str) -> dict[str, Any]:
    """``config.json`` for runc. ``image`` is the image config's ``config``, ``cgroup`` an absolute cgroup path.

    Raises ContainerFailed when there is nothing to run or the network is of an unknown kind.
    """
    host = spec.network == "host"
    namespaces = [{"type": kind} for kind in ("pid", "ipc", "mount", "uts")] + _network(spec)
    return {
        "ociVersion": "1.0.2",
        "process": _process(spec, image, user),
        "root": {"path": "rootfs", "readonly": spec.read_only_root},
        "hostname": spec.id[:MAX_HOSTNAME_CHARS],
        "mounts": [*_MOUNTS, *(_NAME_FILES if host else ()), *map(_bind, spec.mounts)],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces,
            "devices": [_device(path) for path in spec.devices],
            "resources": {
                "devices": _devices(spec.devices),
                **resources(spec.cpu_milli, spec.memory_bytes, spec.pids or PIDS_DEFAULT),
            },
            "seccomp": default_profile(),
            "maskedPaths": [*(f"/proc/{name}" for name in _MASKED), "/sys/firmware", "/sys/devices/virtual/powercap"],
            "readonlyPaths": [f"/proc/{name}" for name in _READ_ONLY],
        },
    }


def _network(spec: ContainerSpec) -> list[dict[str, str]]:
    if spec.network == "host":
        return []
    if spec.network == "none":
        return [{"type": "network"}]
    if not spec.network.startswith("/"):
        raise ContainerFailed(f"container {spec.id}: no network {spec.network!r}", hint="use none, host or a namespace's path")
    return [{"type": "network", "path": spec.network}]


def resources(cpu_milli: int, memory_bytes: int, pids: int) -> dict[str, Any]:
    """``LinuxResources`` for limits; 0 leaves a limit out."""
    limits: dict[str, Any] = {}
    if cpu_milli:
        limits["cpu"] = {"shares": cpu_shares(cpu_milli), "quota": cpu_quota_us(cpu_milli), "period": CPU_PERIOD_US}
    if memory_bytes:
        limits["memory"] = {"limit": memory_bytes}
    if pids:
        limits["pids"] = {"limit": pids}
    return limits


def _process(spec: ContainerSpec, image: Mapping[str, Any], user: User) -> dict[str, Any]:
    entrypoint = list(spec.command or image.get("Entrypoint") or [])
    # a new command makes the image's arguments meaningless (as in Kubernetes)
    arguments = list(spec.args or ([] if spec.command else image.get("Cmd") or []))
    if not entrypoint + arguments:
        raise ContainerFailed(f"container {spec.id}: neither it nor its image says what to run", hint="set command")
    return {
        "terminal": False,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)},
        "args": entrypoint + arguments,
        "env": _environment(image.get("Env") or [], spec.env),
        "cwd": spec.workdir or image.get("WorkingDir") or "/",
        "noNewPrivileges": True,
        "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
    }


def _environment(image: list[str], own: Mapping[str, str]) -> list[str]:
    merged = dict(line.partition("=")[::2] for line in (_DEFAULT_PATH, *image))
    return [f"{key}={value}" for key, value in {**merged, **own}.items()]


def _device(path: Path) -> dict[str, Any]:
    """Raises ContainerFailed for what is no device."""
    try:
        found = path.stat()
    except OSError as error:
        raise ContainerFailed(f"device {path}: {error.strerror}", hint="load its driver") from error
    if not stat.S_ISCHR(found.st_mode):
        raise ContainerFailed(f"{path} is no character device", hint="see what made it")
    numbers = {"major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev)}
    return {"path": str(path), "type": "c", **numbers, "fileMode": 0o666, "uid": 0, "gid": 0}


def _devices(more: Sequence[Path]) -> list[dict[str, Any]]:
    allowed: list[dict[str, Any]] = [{"major": major, "minor": minor} for major, minor in _DEVICES]
    allowed += [{"major": one["major"], "minor": one["minor"]} for one in map(_device, more)]
    rules = [{"allow": True, "type": "c", "access": "rwm", **device} for device in (*allowed, {"major": _PTY_MAJOR})]
    return [{"allow": False, "access": "rwm"}, *rules]


def _bind(mount: Mount) -> dict[str, Any]:
    access = "ro" if mount.read_only else "rw"
    return _mount(mount.destination, "bind", str(mount.source), "rbind", "rprivate", "nosuid", "nodev", access)


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


_MOUNTS = (
    _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
    _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
    _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108
    _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    _mount("/run", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
)
_NAME_FILES = tuple(_mount(path, "bind", path, "rbind", "ro") for path in ("/etc/resolv.conf", "/etc/hosts"))
"""With the host's network a container resolves names as the host does."""

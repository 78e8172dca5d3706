"""How much of the node's disk an Instance holds, and whether that is more than it may.

What a container holds is what it wrote to its own root and its log files, those of runs before among them; a volume holds what
is in it. The rules are the kubelet's. Figures stay in this process: what is said of an excess names who, not how much.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from veil.agent.keys import InstanceKey
from veil.agent.spec import InstancePlan, LogPaths
from veil.agent.volumes import VolumeKind
from veil.errors import NotFound
from veil.runtime.disk_use import tree_bytes
from veil.runtime.ports import Runtime

EVICTED_MIN_BYTES = 16 << 20
"""What an Instance holds over its request at least, to be ended for the sake of the disk: else nothing would be gained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one Instance holds, in bytes. ``memory`` are the volumes that are not on a disk."""

    containers: Mapping[str, int]
    volumes: Mapping[str, int]
    memory: Mapping[str, int]

    @property
    def disk_bytes(self) -> int:
        return sum(self.containers.values()) + sum(self.volumes.values())


def is_limited(plan: InstancePlan) -> bool:
    """Whether there is anything that it could exceed."""
    return any(planned.disk_bytes for planned in plan.everything) or any(volume.limit_bytes for volume in plan.volumes)


def requested_bytes(plan: InstancePlan) -> int:
    """What was promised to it."""
    return sum(planned.disk_bytes for planned in plan.containers)


def excess(plan: InstancePlan, held: Held) -> str:
    """What holds more than it may, in words; empty when nothing does. Pure."""
    for planned in plan.everything:
        if 0 < planned.disk_bytes < held.containers.get(planned.name, 0):
            return f"container {planned.name} held more than its ephemeral-storage"
    for volume in plan.volumes:
        if 0 < volume.limit_bytes < {**held.volumes, **held.memory}.get(volume.name, 0):
            return f"volume {volume.name} held more than its sizeLimit"
    if 0 < plan.disk_bytes < held.disk_bytes:
        return "containers and volumes together held more than the containers' ephemeral-storage"
    return ""


def most_over(held: Iterable[tuple[InstanceKey, InstancePlan, Held]]) -> InstanceKey | None:
    """Who holds most over what it asked for, and enough to matter. One without a figure asked for nothing. Pure."""
    over = {key: one.disk_bytes - requested_bytes(plan) for key, plan, one in held}
    worst = max(over, key=lambda key: (over[key], key), default=None)
    return worst if worst is not None and over[worst] >= EVICTED_MIN_BYTES else None


async def measure(runtime: Runtime, plan: InstancePlan, logs: LogPaths, instance: str) -> Held:
    """Look. Takes a thread for as long as the volumes take to walk through. Raises VeilError."""
    containers = {}
    for planned in plan.everything:
        try:
            written = await runtime.written(planned.spec.id)
        except NotFound:
            written = 0
        containers[planned.name] = written
    return await asyncio.to_thread(_with_trees, containers, plan, logs, instance)


def _with_trees(written: Mapping[str, int], plan: InstancePlan, logs: LogPaths, instance: str) -> Held:
    empty_dirs = [volume for volume in plan.volumes if volume.kind is VolumeKind.EMPTY_DIR]
    return Held(
        containers={name: size + tree_bytes(logs.container(instance, name)) for name, size in written.items()},
        volumes={volume.name: tree_bytes(volume.source) for volume in empty_dirs if not volume.in_memory},
        memory={volume.name: tree_bytes(volume.source) for volume in empty_dirs if volume.in_memory},
    )

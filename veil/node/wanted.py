"""From Instance objects to what placement is asked for, and which objects this node's controllers are in charge of."""

from collections.abc import Callable
from typing import Any

from veil.placement.ports import Wanted
from veil.store.objects import Obj, ObjectStore
from veil.types import Generation, ObjectId
from veil.wire.objects import object_id

Coordinates = Callable[[ObjectId], bool]
"""Whether this node coordinates an object's shard right now."""


def object_of(obj: dict[str, Any]) -> ObjectId:
    """The workload that a Workload or Instance object is (of)."""
    metadata = obj["metadata"]
    name = metadata["name"] if obj["kind"] == "Workload" else obj["spec"]["workload"]
    return object_id(metadata.get("namespace", ""), name)


def visible_to_controllers(obj: Obj, coordinates: Coordinates) -> bool:
    """Workloads and Instances of the shards coordinated here; everything else."""
    return obj["kind"] not in ("Workload", "Instance") or coordinates(object_of(obj))


def wanted_replicas(store: ObjectStore, coordinates: Coordinates) -> list[Wanted]:
    """Every replica with an Instance object here, of the shards coordinated here."""
    wanted = []
    for instance in store.list("Instance"):
        of, spec = object_of(instance), instance["spec"]
        if coordinates(of):
            metadata = instance["metadata"]
            generation = Generation(spec["generation"])
            wanted.append(Wanted(of, generation, int(spec["replica"]), metadata["namespace"], metadata["name"]))
    return wanted


def drop_foreign_instances(store: ObjectStore, coordinates: Coordinates, is_home: Callable[[ObjectId], bool]) -> None:
    """Forget Instances that are neither this node's to place nor its users' to see: another node coordinates them now."""
    for instance in store.list("Instance"):
        of = object_of(instance)
        if not coordinates(of) and not is_home(of):
            store.delete("Instance", instance["metadata"]["namespace"], instance["metadata"]["name"])

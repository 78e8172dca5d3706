"""From stored objects to served ones and back: Namespaces and Nodes under two groups, Instances as Pods."""

from veil.api.core_nodes import core_node
from veil.api.kinds import Kind
from veil.api.pods import pod
from veil.client.kinds import CORE_NODES
from veil.store.objects import Obj, ObjectStore


def served(kind: Kind, obj: Obj, store: ObjectStore) -> Obj:
    """``obj`` as ``kind`` shows it. The stored object is not changed."""
    if kind.resource.kind == "Pod":
        return pod(obj, store.find("Workload", obj["metadata"]["namespace"], str(obj["spec"].get("workload", ""))))
    if kind.resource == CORE_NODES:
        return core_node(obj)
    if kind.stored != "Namespace":
        return obj
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else "Active"
    return {**obj, "apiVersion": kind.resource.api_version, "status": {**(obj.get("status") or {}), "phase": phase}}


def stored(kind: Kind, obj: Obj) -> Obj:
    """A body sent to ``kind`` in the form in which it is validated and kept."""
    if kind.stored != "Namespace":
        return obj
    spec = {key: value for key, value in (obj.get("spec") or {}).items() if key != "finalizers"}
    return {**obj, "apiVersion": "veil.dev/v1alpha1", "spec": spec}

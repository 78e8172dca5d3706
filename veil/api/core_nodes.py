"""Nodes seen as Kubernetes Nodes, so that `kubectl get nodes`, `kubectl cordon` and tools that know only those work.

A view: nothing is stored. What a node can hold is known to nobody but itself, so there is no capacity in it.
"""

from veil import __version__
from veil.store.objects import Obj

_KEPT = ("name", "uid", "creationTimestamp", "labels", "annotations", "resourceVersion", "generation")


def core_node(node: Obj) -> Obj:
    """The ``v1`` Node that shows ``node``."""
    status, spec = node.get("status") or {}, node.get("spec") or {}
    ready, reason = _ready(status)
    conditions = [item for item in status.get("conditions") or [] if item["type"] != "Ready"]
    taints = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in sorted((spec.get("taints") or {}).items())]
    words = ["Ready" if ready else "NotReady", *(["SchedulingDisabled"] if spec.get("unschedulable") else [])]
    shown: Obj = {"unschedulable": True} if spec.get("unschedulable") else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {key: node["metadata"][key] for key in _KEPT if key in node["metadata"]},
        "spec": shown | ({"taints": taints} if taints else {}),
        "status": {
            "conditions": [*conditions, {"type": "Ready", "status": "True" if ready else "False", "reason": reason}],
            "addresses": [{"type": "Hostname", "address": node["metadata"]["name"]}],
            "nodeInfo": _info(),
            "veilStatus": ",".join(words),
        },
    }


def _ready(status: Obj) -> tuple[bool, str]:
    """A member that answers, and why not."""
    if status.get("phase") not in ("Active", "Cordoned"):
        return False, str(status.get("phase") or "Unknown")
    conditions: dict[str, Obj] = {item["type"]: item for item in status.get("conditions") or []}
    if (eligible := conditions.get("Eligible", {})).get("reason") == "MarkedDown":
        return False, str(eligible["reason"])
    reachable = conditions.get("Reachable", {})
    return reachable.get("status") == "True", str(reachable.get("reason", "Unknown"))


def _info() -> Obj:
    """Kubernetes has these fields required; of other machines nothing is known."""
    names = ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeProxyVersion")
    known = {"kubeletVersion": f"veil-{__version__}", "operatingSystem": "linux", "architecture": "amd64"}
    return dict.fromkeys(names, "") | known

"""Instances seen as Kubernetes Pods, so that `kubectl get pods`, `kubectl logs` and tools that know only Pods work.

A view: nothing is stored, nothing can be written. Fields named ``veil…`` in the status feed the printed columns.
"""

from veil.store.objects import Obj

_PHASES = {"Pending": "Pending", "Creating": "Pending", "Running": "Running", "Succeeded": "Succeeded", "Failed": "Failed"}


def pod(instance: Obj, workload: Obj | None) -> Obj:
    """The Pod that shows ``instance``; its containers come from the workload, where this node knows them."""
    status: Obj = instance.get("status") or {}
    template: Obj = ((workload or {}).get("spec") or {}).get("template") or {}
    containers = [
        {key: item[key] for key in ("name", "image", "command", "args") if key in item}
        for item in template.get("containers") or []
    ]
    phase, ready = status.get("phase", "Pending"), bool(status.get("ready"))
    containers = containers or [{"name": "main", "image": ""}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: value for key, value in instance["metadata"].items() if key != "managedFields"},
        "spec": {
            "containers": containers,
            "nodeName": status.get("node", ""),
            "restartPolicy": template.get("restartPolicy", "Always"),
        },
        "status": {
            "phase": "Running" if phase == "Terminating" else _PHASES.get(phase, "Unknown"),
            "reason": status.get("reason", ""),
            "message": status.get("message", ""),
            "conditions": _conditions(status, ready),
            "containerStatuses": [_container(item, status, phase, ready) for item in containers],
            **({"startTime": status["startedAt"]} if status.get("startedAt") else {}),
            "veilReady": f"{len(containers) if ready else 0}/{len(containers)}",
            "veilStatus": phase if phase in ("Running", "Succeeded", "Terminating") else status.get("reason") or phase,
            "veilRestarts": status.get("restarts", 0),
        },
    }


def _conditions(status: Obj, ready: bool) -> list[Obj]:
    shown = [{key: item[key] for key in item} for item in status.get("conditions") or [] if item.get("type") != "Ready"]
    return [*shown, {"type": "Ready", "status": "True" if ready else "False", "reason": status.get("reason", "")}]


def _container(container: Obj, status: Obj, phase: str, ready: bool) -> Obj:
    state: Obj = {"waiting": {"reason": status.get("reason") or phase, "message": status.get("message", "")}}
    if phase in ("Running", "Terminating"):
        state = {"running": {"startedAt": status["startedAt"]} if status.get("startedAt") else {}}
    elif phase in ("Succeeded", "Failed"):
        state = {"terminated": {"exitCode": status.get("exitCode", 0), "reason": status.get("reason") or phase}}
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": status.get("restarts", 0),
        "state": state,
    }

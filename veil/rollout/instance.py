"""Between objects as the API serves them and the values that the plan works on."""

from typing import Any

from veil.rollout.names import TEMPLATE_GENERATION, instance_labels, instance_name
from veil.rollout.plan import TERMINATING, Desired, Observed
from veil.rollout.strategy import strategy_of

API_VERSION = "veil.dev/v1alpha1"

Obj = dict[str, Any]


def desired_of(workload: Obj) -> Desired:
    """What a Workload asks for; nothing at all once it is being deleted.

    Its generation is that of the template, as the API annotates it; where nothing says so, the object's own.
    """
    metadata, spec = workload["metadata"], workload.get("spec", {})
    generation = (metadata.get("annotations") or {}).get(TEMPLATE_GENERATION) or metadata["generation"]
    replicas = 0 if metadata.get("deletionTimestamp") else int(spec.get("replicas", 1))
    return Desired(generation=int(generation), replicas=replicas, strategy=strategy_of(spec))


def observed_of(instance: Obj) -> Observed:
    """One Instance as the plan sees it; one that is being deleted counts as Terminating whatever its last report said."""
    metadata, spec, status = instance["metadata"], instance["spec"], instance.get("status") or {}
    return Observed(
        name=metadata["name"],
        generation=int(spec["generation"]),
        replica=int(spec["replica"]),
        phase=TERMINATING if metadata.get("deletionTimestamp") else str(status.get("phase", "")),
        ready=bool(status.get("ready", False)),
    )


def new_instance(workload: Obj, generation: int, replica: int) -> Obj:
    """The Instance object of a replica of a template generation, without status."""
    metadata = workload["metadata"]
    name = metadata["name"]
    owner = {"apiVersion": API_VERSION, "kind": "Workload", "name": name, "uid": metadata.get("uid", ""), "controller": True}
    return {
        "apiVersion": API_VERSION,
        "kind": "Instance",
        "metadata": {
            "name": instance_name(name, generation, replica),
            "namespace": metadata["namespace"],
            "labels": {**metadata.get("labels", {}), **instance_labels(name, generation, replica)},
            "ownerReferences": [owner],
        },
        "spec": {"workload": name, "generation": generation, "replica": replica},
    }

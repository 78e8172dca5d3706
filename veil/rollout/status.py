"""A Workload's status, computed from its Instances. The conditions are what a user reads and what ``veil wait`` waits for.

Reasons are stable identifiers. A reason that came with an Instance (from the placement round or from the node that runs it)
is shown as it is; among several, the one that keeps the most replicas back is shown.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from veil.rollout.instance import Obj, desired_of, observed_of
from veil.rollout.plan import TERMINATING

ALL_PLACED = "AllPlaced"
ALL_AVAILABLE = "AllAvailable"
COMPLETE = "Complete"
ROLLING_OUT = "RollingOut"
REMOVING = "Removing"
INSTANCES_MISSING = "InstancesMissing"
PLACING = "Placing"
STARTING = "Starting"
REPLICA_FAILED = "ReplicaFailed"
SCALED_TO_ZERO = "ScaledToZero"

CONDITIONS = ("Placed", "Available", "Progressing")
"""The types written here; others (such as UnderReplicated) belong to other parts and are kept as they are."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    true: bool
    reason: str
    message: str


def workload_status(workload: Obj, instances: list[Obj], now: str) -> dict[str, Any]:
    """The whole status of ``workload``. ``now`` (RFC 3339) dates the conditions that change; nothing else depends on it.

    The generation that it observes is the Workload's own; which Instances are up to date is a matter of the template's.
    The same input with another ``now`` gives the same status as before, so that it may be recomputed at any time.
    """
    desired, generation = desired_of(workload), int(workload["metadata"]["generation"])
    current = [one for one in instances if observed_of(one).generation == desired.generation]
    current = [one for one in current if observed_of(one).replica < desired.replicas and not _ending(one)]
    old = [one for one in instances if observed_of(one).generation != desired.generation]
    verdicts = {
        "Placed": _placed(current, desired.replicas),
        "Available": _available(instances, current, desired.replicas),
        "Progressing": _progressing(workload, current, old, desired.replicas),
    }
    before = workload.get("status") or {}
    return {
        **{key: value for key, value in before.items() if key not in ("conditions", *_COUNTS)},
        "observedGeneration": generation,
        "replicas": sum(not _ending(one) for one in instances),
        "readyReplicas": sum(observed_of(one).ready and not _ending(one) for one in instances),
        "updatedReplicas": len(current),
        "conditions": _conditions(verdicts, before.get("conditions") or [], generation, now),
    }


_COUNTS = ("observedGeneration", "replicas", "readyReplicas", "updatedReplicas")


def _ending(instance: Obj) -> bool:
    return observed_of(instance).phase == TERMINATING


def _placed(current: list[Obj], replicas: int) -> _Verdict:
    if replicas == 0:
        return _Verdict(True, SCALED_TO_ZERO, "no replica is asked for")
    waiting = [one for one in current if not _is_placed(one)]
    count = replicas - len(current) + len(waiting)
    if count == 0:
        return _Verdict(True, ALL_PLACED, f"all {replicas} replicas have a node")
    reason, why = _worst(waiting, PLACING if current else INSTANCES_MISSING)
    return _Verdict(False, reason, _sentence(f"{count} of {replicas} replicas have no node", why))


def _is_placed(instance: Obj) -> bool:
    status = instance.get("status") or {}
    return bool(status.get("placement") or status.get("peer") or status.get("node"))


def _available(instances: list[Obj], current: list[Obj], replicas: int) -> _Verdict:
    """Available counts whatever serves, old generations included: a rollout that keeps its promise never shows False."""
    serving = sum(observed_of(one).available for one in instances)
    if serving >= replicas:
        return _Verdict(True, ALL_AVAILABLE if replicas else SCALED_TO_ZERO, f"{replicas} replicas asked for, all available")
    waiting = [one for one in current if not observed_of(one).available]
    reason, why = _worst(waiting, STARTING if current else INSTANCES_MISSING)
    return _Verdict(False, reason, _sentence(f"{serving} of {replicas} replicas are available", why))


def _progressing(workload: Obj, current: list[Obj], old: list[Obj], replicas: int) -> _Verdict:
    generation = workload["metadata"]["generation"]
    failed = [one for one in current if (one.get("status") or {}).get("phase") == "Failed"]
    if failed:
        return _Verdict(False, REPLICA_FAILED, _sentence("a replica has ended for good", _worst(failed, "")[1]))
    done = sum(observed_of(one).available for one in current)
    if workload["metadata"].get("deletionTimestamp"):
        return _Verdict(True, REMOVING, "the workload is being deleted")
    if done >= replicas and not old:
        return _Verdict(True, COMPLETE, f"generation {generation} is rolled out")
    return _Verdict(True, ROLLING_OUT, f"{done} of {replicas} replicas of generation {generation} are available")


def _worst(waiting: Iterable[Obj], default: str) -> tuple[str, str]:
    """The reason that most of ``waiting`` give, and the words that came with it. Ties go to the alphabet."""
    told = [one.get("status") or {} for one in waiting]
    counted = Counter(str(status["reason"]) for status in told if status.get("reason"))
    if not counted:
        return default, ""
    reason = min(counted, key=lambda name: (-counted[name], name))
    messages = sorted(str(status["message"]) for status in told if status.get("reason") == reason and status.get("message"))
    return reason, messages[0] if messages else ""


def _sentence(fact: str, why: str) -> str:
    return f"{fact}: {why}" if why else fact


def _conditions(verdicts: dict[str, _Verdict], before: list[Obj], generation: int, now: str) -> list[Obj]:
    known = {entry["type"]: entry for entry in before}
    written: list[Obj] = []
    for kind, verdict in verdicts.items():
        value = "True" if verdict.true else "False"
        same = known.get(kind, {}).get("status") == value
        written.append(
            {
                "type": kind,
                "status": value,
                "reason": verdict.reason,
                "message": verdict.message,
                "lastTransitionTime": known[kind].get("lastTransitionTime", now) if same else now,
                "observedGeneration": generation,
            }
        )
    return written + [entry for entry in before if entry["type"] not in verdicts]

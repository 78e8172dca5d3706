"""Who may write what through which door. The contract decides about chain-held objects; this is about everything else.

Replicas are made and removed by this node's controllers alone, over their own socket; projections and views by nobody.
"""

from veil.api.kinds import Kind
from veil.api.ports import Caller
from veil.api.status import Rejected
from veil.api.targets import AUDITS
from veil.errors import Forbidden
from veil.store.objects import Obj

_WORKLOAD_HINT = "change the Workload: its controller makes and removes replicas"
_REGISTRY_HINT = "a Node shows the registry and what the node says of itself: of its spec only `unschedulable` can be changed"
_VIEW_HINT = "they are there to be read: change the Workload"


def check_create(caller: Caller, kind: Kind) -> None:
    """Raises Rejected (405), Forbidden."""
    _writable(kind)
    if kind.controllers_create and not caller.controllers:
        raise Forbidden(f"{kind.resource.plural} are made by this node's controllers", hint=_WORKLOAD_HINT)
    if not kind.anchored and not kind.controllers_create:
        raise Rejected(
            405,
            "MethodNotAllowed",
            f"{kind.resource.plural} are a projection of the chain and cannot be created",
            hint=_hint(kind),
        )


def check_delete(caller: Caller, kind: Kind) -> None:
    """Raises Rejected (405), Forbidden."""
    _writable(kind)
    if kind.controllers_create and not caller.controllers:
        raise Forbidden(f"{kind.resource.plural} are removed by this node's controllers", hint=_WORKLOAD_HINT)
    if not kind.anchored and not kind.controllers_create:
        raise Rejected(
            405,
            "MethodNotAllowed",
            f"{kind.resource.plural} are a projection of the chain and cannot be deleted",
            hint=_hint(kind),
        )


def check_update(caller: Caller, kind: Kind, *, status: bool) -> None:
    """Raises Rejected (405), Forbidden."""
    if kind.cordons and not status and not caller.controllers:
        return
    _writable(kind)
    if caller.controllers or (kind.anchored and not status):
        return
    what = f"the status of {kind.resource.plural}" if status else kind.resource.plural
    raise Forbidden(f"{what} can be written by this node's controllers only", hint="" if status else _hint(kind))


def check_visible(caller: Caller, obj: Obj) -> None:
    """Raises Forbidden when a controller writes an object that another node's controllers are in charge of."""
    if not caller.visible(obj):
        raise Forbidden(
            f"{obj['kind']} {obj['metadata']['name']} is not in this node's charge", hint="leave it to its coordinator"
        )


def check_cordon(before: Obj, after: Obj) -> None:
    """Raises Forbidden when a Node is changed in more than ``spec.unschedulable``."""
    specs = [{**(obj.get("spec") or {}), "unschedulable": None} for obj in (before, after)]
    labels = [obj["metadata"].get("labels") or {} for obj in (before, after)]
    if specs[0] != specs[1] or labels[0] != labels[1]:
        raise Forbidden("labels and taints of a node are its operator's", hint=f"{_REGISTRY_HINT}; labels are in its settings")


def check_drain(caller: Caller) -> None:
    """Raises Forbidden. Only people end what runs."""
    if caller.controllers:
        raise Forbidden("draining is not for controllers", hint="use the node's own API")


def check_exec(caller: Caller) -> None:
    """Raises Forbidden. Only people are let into containers."""
    if caller.controllers:
        raise Forbidden("commands are not for controllers", hint="use the node's own API")


def check_audit(caller: Caller) -> None:
    """Raises Forbidden. Transcripts are for the node's own people; the controllers have no use for them."""
    if caller.controllers:
        raise Forbidden("transcripts are not for controllers", hint="use the node's own API")


def allowed(caller: Caller, kind: Kind, verb: str, subresource: str) -> bool:
    """The answer to a SelfSubjectAccessReview."""
    checks = {"create": check_create, "delete": check_delete, "deletecollection": check_delete}
    try:
        if verb in checks:
            checks[verb](caller, kind)
        elif verb in ("update", "patch"):
            check_update(caller, kind, status=subresource == "status")
        elif subresource in AUDITS:
            check_audit(caller)
    except (Forbidden, Rejected):
        return False
    return True


def _hint(kind: Kind) -> str:
    if kind.controllers_create:
        return _WORKLOAD_HINT
    return _REGISTRY_HINT if kind.resource.kind == "Node" else ""


def _writable(kind: Kind) -> None:
    if kind.view:
        raise Rejected(
            405, "MethodNotAllowed", f"{kind.resource.plural} are made by this node and cannot be written", hint=_VIEW_HINT
        )

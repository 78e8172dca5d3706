"""What the agent is told to run, and how its containers are called so that a later agent recognises them.

A container's id is a function of (object, generation, replica, container) and of nothing else: not of the restart, not of the
process that made it. So an agent that comes back after ``kill -9`` finds exactly its own containers, and creating twice
creates once.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from veil.types import Generation, ObjectId
from veil.wire.objects import Resources

LABEL_NODE = "veil.dev/node"
LABEL_OBJECT = "veil.dev/object"
LABEL_GENERATION = "veil.dev/generation"
LABEL_REPLICA = "veil.dev/replica"
LABEL_CONTAINER = "veil.dev/container"
LABEL_GRACE = "veil.dev/grace-seconds"
LABEL_SPEC = "veil.dev/spec"

CONTAINER_PART_MAX_CHARS = 36
"""What is left of containerd's 76 characters after the longest rest of an id."""

_PLAIN = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*", re.ASCII)
_SIGNS = re.compile(r"[^A-Za-z0-9]+", re.ASCII)


class InstanceKey(NamedTuple):
    """One replica of one template generation of one object."""

    object_id: ObjectId
    generation: Generation
    replica: int

    @property
    def text(self) -> str:
        """``v<hex16>-g<generation>-r<replica>``: in ids, log paths and the journal."""
        return f"v{hashlib.sha256(self.object_id).hexdigest()[:16]}-g{self.generation}-r{self.replica}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredInstance:
    """One Instance bound to this node. ``spec`` is the Workload's template as admission defaulted it.

    ``public``: everybody may read the template, so status messages may name its images and containers. Not so by default:
    coordinators, who read the status, must not learn a confidential template from it.
    """

    key: InstanceKey
    namespace: str
    workload: str
    spec: Mapping[str, Any]
    resources: Resources
    public: bool = False


def container_id(key: InstanceKey, container: str) -> str:
    """The runtime's id: at most 76 characters, no two signs together. A name that does not fit is cut and given a digest."""
    if len(container) > CONTAINER_PART_MAX_CHARS or not _PLAIN.fullmatch(container):
        digest = hashlib.sha256(container.encode()).hexdigest()[:8]
        container = f"{_SIGNS.sub('-', container)[: CONTAINER_PART_MAX_CHARS - 9].strip('-')}-{digest}".lstrip("-")
    return f"{key.text}-{container}"


def container_labels(key: InstanceKey, container: str, *, node: str, grace_s: int, spec_digest: str) -> dict[str, str]:
    """What the runtime keeps for a later agent: whose container it is and how to end it when its Instance is forgotten."""
    return {
        LABEL_NODE: node,
        LABEL_OBJECT: key.object_id.hex(),
        LABEL_GENERATION: str(key.generation),
        LABEL_REPLICA: str(key.replica),
        LABEL_CONTAINER: container,
        LABEL_GRACE: str(grace_s),
        LABEL_SPEC: spec_digest,
    }


def owner_of(labels: Mapping[str, str], node: str) -> InstanceKey | None:
    """Whose container has these labels; None when it is not this node's agent's, or the labels are not what we write."""
    if labels.get(LABEL_NODE) != node:
        return None
    try:
        object_id = bytes.fromhex(labels[LABEL_OBJECT])
        return InstanceKey(ObjectId(object_id), Generation(int(labels[LABEL_GENERATION])), int(labels[LABEL_REPLICA]))
    except (KeyError, ValueError):
        return None


def grace_of(labels: Mapping[str, str], default_s: int) -> int:
    """The grace period that the container was created with."""
    text = labels.get(LABEL_GRACE, "")
    return int(text) if text.isdecimal() else default_s

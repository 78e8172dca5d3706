"""What the API serves of each kind: its columns, and who may write it.

Kinds held by the chain are written through admission; Instances are written by this node's controllers only; Nodes and
Placements are projections, of which the controllers may write status, annotations and finalizers. Pods are a view.
"""

from dataclasses import dataclass

from veil.client import kinds as names
from veil.client.kinds import Resource


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column. ``path`` is dotted; ``condition:X`` means the status of condition X, ``reason:X`` its reason,
    ``ratio:a,b`` prints ``a/b``, ``count:path`` a length, ``short:path`` the first and last characters of an identifier.
    Priority 1 is shown with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One served kind. ``stored`` is the kind under which the object store has it."""

    resource: Resource
    stored: str
    columns: tuple[Column, ...] = ()
    anchored: bool = False
    """Held by the chain: users' writes go through admission."""
    controllers_create: bool = False
    """Created, deleted and written by this node's controllers alone."""
    view: bool = False
    """Derived from another kind: read-only for everybody."""
    logs: bool = False
    audits: bool = False
    """Can be audited, and has transcripts."""
    cordons: bool = False
    """Users may change ``spec.unschedulable``, and nothing else."""
    drains: bool = False
    categories: tuple[str, ...] = ("veil",)

    @property
    def schema_name(self) -> str:
        return self.resource.kind


_AGE = Column("Age", "metadata.creationTimestamp", "date", description="time since this node first saw the object")

WORKLOAD = Kind(
    resource=names.WORKLOADS,
    stored="Workload",
    anchored=True,
    categories=("veil", "all"),
    columns=(
        Column("Ready", "ratio:status.readyReplicas,spec.replicas", description="running and ready replicas of the wanted"),
        Column("Placed", "condition:Placed", description="whether every replica has a node"),
        Column("Reason", "reason:Placed", description="why, in one word"),
        Column("Updated", "status.updatedReplicas", "integer", 1, "replicas of the newest template"),
        Column("Confidential", "spec.confidential", "boolean", 1, "whether the template is sealed"),
        _AGE,
    ),
)
INSTANCE = Kind(
    resource=names.INSTANCES,
    stored="Instance",
    controllers_create=True,
    logs=True,
    categories=("veil", "all"),
    columns=(
        Column("Phase", "status.phase", description="what the replica is doing"),
        Column("Ready", "status.ready", "boolean"),
        Column("Restarts", "status.restarts", "integer"),
        Column("Node", "status.node", description="where it runs"),
        Column("Reason", "status.reason", priority=1),
        Column("Shard", "status.placement.shard", "integer", 1, "the placement log's shard"),
        Column("Leaf", "short:status.placement.leaf", priority=1, description="its leaf in the placement log"),
        _AGE,
    ),
)
NODE = Kind(
    resource=names.NODES,
    stored="Node",
    cordons=True,
    drains=True,
    columns=(
        Column("Status", "status.phase", description="what the registry says"),
        Column("Reachable", "condition:Reachable", description="what SWIM says, seen from this node"),
        Column("Eligible", "condition:Eligible", description="whether rounds may choose it, by the registry"),
        Column("Peer", "short:status.peerID", description="the libp2p peer ID"),
        Column("Operator", "status.operator", priority=1),
        _AGE,
    ),
)
CORE_NODE = Kind(
    resource=names.CORE_NODES,
    stored="Node",
    view=True,
    cordons=True,
    columns=(
        Column("Status", "status.veilStatus", description="whether it answers, and takes new replicas"),
        _AGE,
        Column("Version", "status.nodeInfo.kubeletVersion"),
    ),
    categories=(),
)
NAMESPACE = Kind(
    resource=names.NAMESPACES,
    stored="Namespace",
    anchored=True,
    columns=(Column("Homes", "count:spec.homePeers", "integer", description="home nodes"), _AGE),
)
CORE_NAMESPACE = Kind(
    resource=names.CORE_NAMESPACES,
    stored="Namespace",
    anchored=True,
    columns=(Column("Status", "status.phase"), _AGE),
    categories=(),
)
PLACEMENT = Kind(
    resource=names.PLACEMENTS,
    stored="Placement",
    audits=True,
    columns=(
        Column("Shard", "spec.shard", "integer"),
        Column("Sequence", "spec.sequence", "integer"),
        Column("Leaf", "short:spec.leaf"),
        Column("Block", "spec.block", "integer"),
        Column("Sender", "spec.sender", priority=1),
        _AGE,
    ),
)
POD = Kind(
    resource=names.PODS,
    stored="Instance",
    view=True,
    logs=True,
    columns=(
        Column("Ready", "status.veilReady"),
        Column("Status", "status.veilStatus"),
        Column("Restarts", "status.veilRestarts", "integer"),
        _AGE,
        Column("Node", "spec.nodeName", priority=1),
    ),
    categories=(),
)

EVENT = Kind(
    resource=names.EVENTS,
    stored="Event",
    view=True,
    columns=(
        Column("Last Seen", "lastTimestamp", "date"),
        Column("Type", "type"),
        Column("Reason", "reason", description="in one word"),
        Column("Object", "involvedObject.name", description="the instance"),
        Column("Count", "count", "integer", 1),
        Column("Message", "message"),
    ),
    categories=(),
)

KINDS = (CORE_NAMESPACE, POD, CORE_NODE, EVENT, WORKLOAD, INSTANCE, NODE, NAMESPACE, PLACEMENT)


def find_kind(group: str, version: str, plural: str) -> Kind | None:
    """The kind served under a path, or None."""
    for kind in KINDS:
        resource = kind.resource
        if (resource.group, resource.version, resource.plural) == (group, version, plural):
            return kind
    return None

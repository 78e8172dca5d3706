"""Which nodes a round is about, in which order, and by which circuit: computed by everybody from what the chain says.

The order is a beacon's: the hash of the block in which the workload's template last changed, and the round. A tie falls to
whoever comes first in it, so no coordinator can choose whom a tie favours once the round is named.

Everywhere in placement a replica's generation is the template's (:class:`veil.store.rows.ObjectRow`): scaling makes a new
generation of the workload and leaves its replicas, their rounds, leaves and leases alone.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace

from msgspec import structs

from veil.errors import WireInvalid
from veil.placement.ports import ClusterView
from veil.placement.ranking import ACTIVE
from veil.store.rows import NodeRow
from veil.types import Generation, ObjectId, PeerId, RoundId
from veil.wire.codec import decode
from veil.wire.nodes import CircuitInfo, KeyEpoch, Profile, labels_digest
from veil.wire.objects import KINDS, DemandEnvelope, Envelope, demand_id

WORKLOAD = KINDS["Workload"]
DEMAND = KINDS["Demand"]


@dataclass(frozen=True, slots=True)
class Anchored:
    """A workload as the chain has it now.

    ``envelope`` is the newest, with the replicas that are wanted now. ``generation`` is the one in which its template last
    changed, ``block`` and ``seed`` the number and the hash of that generation's block.
    """

    object_id: ObjectId
    envelope: Envelope
    generation: Generation
    owner: str
    block: int
    seed: bytes


def anchored(view: ClusterView, object_id: ObjectId) -> Anchored | None:
    """None when there is no such workload, or it is being deleted, or its envelope cannot be read."""
    row = view.object(WORKLOAD, object_id)
    if row is None or row.deleting:
        return None
    try:
        envelope = decode(row.envelope, Envelope)
    except WireInvalid:
        return None
    return Anchored(object_id, envelope, row.template_generation, row.owner, row.template_block, row.template_block_hash)


def anchored_demand(view: ClusterView, object_id: ObjectId, epoch: int) -> DemandEnvelope | None:
    """The demand that the chain holds of a workload in ``epoch``; None when there is none."""
    row = view.object(DEMAND, demand_id(object_id, epoch))
    if row is None or row.deleting:
        return None
    try:
        demand = decode(row.envelope, DemandEnvelope)
    except WireInvalid:
        return None
    return demand if (demand.object_id, demand.epoch) == (object_id, epoch) else None


def anchored_in(view: ClusterView, object_id: ObjectId, epoch: int) -> Anchored | None:
    """As :func:`anchored`; the sealed parts that its envelope names are those for the committee of ``epoch``."""
    found, demand = anchored(view, object_id), anchored_demand(view, object_id, epoch)
    if found is None or demand is None or demand.resources != found.envelope.resources:
        return found
    resources, template = demand.shared_resources or found.envelope.resources, found.envelope.template
    envelope = structs.replace(found.envelope, resources=resources, template=template and (demand.shared_template or template))
    return replace(found, envelope=envelope)


def eligible(view: ClusterView, envelope: Envelope) -> set[PeerId]:
    """Proven, Active (not cordoned, not marked down), with every label that is selected by and only tolerated taints.

    Where the workload asks for vouched labels, an administrator's word is needed for all labels that the node has.
    """
    wanted, tolerated = envelope.node_selector.items(), envelope.tolerations.items()
    active = (row for row in view.nodes() if row.proven and row.status == ACTIVE and row.down_incarnation is None)
    fitting = (row for row in active if wanted <= row.labels.items() and row.taints.items() <= tolerated)
    return {row.peer for row in fitting if not envelope.vouched_labels or is_vouched(row)}


def is_vouched(row: NodeRow) -> bool:
    """Whether somebody else than its operator, so an administrator, vouches for exactly the labels that the node says it has."""
    by_another = bool(row.vouched) and row.vouched_by != row.operator
    return by_another and row.info is not None and labels_digest(row.info.labels) == row.vouched


def beacon_order(seed: bytes, round: RoundId, peers: Collection[PeerId]) -> tuple[PeerId, ...]:
    prefix = b"veil/beacon.1" + hashlib.sha256(seed + round).digest()
    return tuple(sorted(peers, key=lambda peer: hashlib.sha256(prefix + peer).digest()))


def circuit_of(epoch: KeyEpoch, name: str) -> CircuitInfo | None:
    """The circuit that the epoch registers under ``name``."""
    return next((circuit for circuit in epoch.circuits if circuit.name == name), None)


def choose_circuit(epoch: KeyEpoch, profile: Profile, *, candidates: int, replicas: int) -> CircuitInfo | None:
    """The circuit for a round: of the profile, and the smallest that takes all candidates, else the largest; None for none.

    Several replicas take one that ranks the candidates, where there is one. For a single replica that would tell more than
    is needed.
    """
    able = [circuit for circuit in epoch.circuits if circuit.profile == profile]
    ranking = [circuit for circuit in able if circuit.shape == "rank"]
    able = ranking if replicas > 1 and ranking else [circuit for circuit in able if circuit.shape == "choose"]
    by_size = sorted(able, key=lambda circuit: (circuit.candidates, circuit.name))
    return next((circuit for circuit in by_size if circuit.candidates >= candidates), by_size[-1] if by_size else None)


def candidates_of(seed: bytes, round: RoundId, peers: Collection[PeerId], circuit: CircuitInfo) -> tuple[PeerId, ...]:
    """The candidates of a round: all of ``peers``, or as many as the circuit takes, in the order of the beacon."""
    return beacon_order(seed, round, peers)[: circuit.candidates]

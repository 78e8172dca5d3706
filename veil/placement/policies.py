"""Placement policies: what a node says about itself in a round, and how replicas are handed out down the decided order.

A policy needs no circuit of its own. Every node computes one score from what it alone knows, in clear and at full precision,
and sends it encrypted; the circuit compares scores of nodes that have room. So a new policy is a few lines here, and nobody
learns a node's fullness, priority, cost or latency by it. A score that says "never" looks like any other on the wire: it is
how a node keeps its quota and keeps replicas of one workload apart.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from veil.placement.offering import APART, FILL, SPREAD, Manner
from veil.wire.objects import Envelope

NEVER = 1.0
"""A score of this or more: not this node, whatever is asked."""

_LAST = math.nextafter(NEVER, 0.0)

PRIORITIES = 3
"""0 is asked before 1, 1 before 2."""

TURN_HALF_LIFE_S = 600.0
"""After this long a node that was given a replica is half as far back in its priority's queue."""

COST_MAX = 1000
"""The cost at which nodes are not told apart any more; in whatever unit the cluster's members have agreed on."""

LATENCY_MAX_MS = 500.0
"""The latency at which nodes are not told apart any more."""

_MANNERS = {
    "BinPack": FILL,
    "Spread": SPREAD,
    "PriorityRoundRobin": SPREAD,
    "LowestCost": FILL,
    "LowestLatency": FILL,
}
POLICIES = tuple(_MANNERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a node's operator says of it. It never leaves the node in clear."""

    priority: int = 1
    """0 to PRIORITIES - 1."""
    cost: int = COST_MAX
    """0 to COST_MAX."""
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    """By region; a region that is not here is the farthest."""
    quota: int = 0
    """Replicas of one owner that this node takes; 0 for any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a node knows of itself at the moment of a round."""

    left_over: float
    """0 (nearly full) to below 1 (nearly empty), as :meth:`veil.fhe.ports.Encryptor.left_over` gives it."""
    since_last_s: float
    """Seconds since it was last given a replica; infinite for never."""
    holds_same: bool
    """Whether it holds a replica of this generation of the workload already."""
    held_of_owner: int
    """Replicas of the workload's owner that it holds."""


def manner_of(envelope: Envelope) -> Manner:
    """How the coordinator hands out this workload's replicas."""
    return APART if envelope.anti_affinity else _MANNERS.get(envelope.policy, FILL)


def forbids(envelope: Envelope, traits: Traits, standing: Standing) -> bool:
    """Whether this node may not take one more replica of that workload, whatever room it has. Asked again at each offer."""
    if envelope.anti_affinity and standing.holds_same:
        return True
    return traits.quota > 0 and standing.held_of_owner >= traits.quota


def score(envelope: Envelope, traits: Traits, standing: Standing) -> float | None:
    """0 (wanted most) to below NEVER, or NEVER; None for best-fit, which depends on what is asked, and nobody here knows that.

    An unknown policy is NEVER: this node cannot say what it would mean.
    """
    if forbids(envelope, traits, standing):
        return NEVER
    match envelope.policy:
        case "BinPack":
            return None
        case "Spread":
            value = 1.0 - standing.left_over
        case "PriorityRoundRobin":
            value = (traits.priority + 2.0 ** (-standing.since_last_s / TURN_HALF_LIFE_S)) / PRIORITIES
        case "LowestCost":
            value = math.sqrt(traits.cost / COST_MAX)
        case "LowestLatency":
            value = math.sqrt(traits.latencies_ms.get(envelope.region, LATENCY_MAX_MS) / LATENCY_MAX_MS)
        case _:
            return NEVER
    return min(max(value, 0.0), _LAST)

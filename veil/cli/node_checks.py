"""What a node's API says of its health, as findings with something to do. Pure: objects in, findings out.

The node judges itself (:mod:`veil.node.health`) and its conditions are the truth; here they get words for an operator. Only the
node that is asked has its own conditions, so the Node object that has them is the one that answered.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from veil.errors import Untrusted

Obj = dict[str, Any]


class Level(StrEnum):
    """``warn``: it works, and should not be left so. ``fail``: something does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One check. ``untrusted``: not down, but something is not what it claims to be."""

    check: str
    level: Level
    said: str
    todo: str = ""
    untrusted: bool = False


ADVICE = {
    "Registered": "have the node registered and approved; see that operator.key is the account that it is registered with",
    "ChainSynced": "see that the RPC endpoints (VEIL_CHAIN_RPC) answer and their blocks advance; HeadMismatch: use others",
    "ChainEndpointsAgree": "take the named RPC endpoint out of VEIL_CHAIN_RPC, or name a third one to tell which of two lies",
    "MeshJoined": "check this node's network and firewall, VEIL_LIBP2P_LISTEN and VEIL_LIBP2P_BOOTSTRAP",
    "KeysReady": "start members that have the epoch's blobs; no epoch at all: hold a key ceremony",
    "NextKeysReady": "do not activate the next epoch yet; see that some node has its blobs, and the advice for FheReady",
    "FheReady": "see the node's log for what the evaluator printed",
    "BudgetLeft": "rotate the keys soon (docs/how-to/rotate-keys.md): nothing is placed once they are spent",
    "JournalWritable": "free the disk of the node's directory, check that it is mounted for writing",
    "ClockRight": "set the machine's clock (NTP); if it is right, use another RPC endpoint",
    "DiskFree": "free disk where containerd keeps images and containers; what nobody uses is removed from 85 % on",
    "MemoryFree": "give containers memory figures, or this machine more memory",
    "PidsFree": "see which container has so many threads (`ps -eLf`), or raise kernel.pid_max",
    "GpusReady": "install the libraries of NVIDIA's driver (libnvidia-ml.so.1), as new as its kernel module; see nvidia-smi",
    "RuntimeReady": "start containerd; check VEIL_CONTAINERD_SOCKET and that the node may open it",
    "ControllersRunning": "see controllers.log in the node's directory",
    "Reachable": "is the node running, and does its machine reach this one?",
}
"""What to do about a condition that is False."""

ADVICE_BY_REASON = {
    "ClassUnreachable": "let other members evaluate, or hold a ceremony with another committee",
    "EvaluatorAway": "wait; if it stays so, see the node's log for what the evaluator printed: it needs memory",
    "EpochMissing": "see KeysReady",
    "MarkedDown": "is the node running? It comes back by itself once it sees most members; nothing is placed on it until then",
    "JournalLost": "rotate the keys: only the journal that took the share may use it",
}
"""Where a condition has several reasons to be False."""

_KINDS: tuple[type[Untrusted], ...] = (Untrusted, *Untrusted.__subclasses__())
_UNTRUSTED = tuple(f"{kind.__name__}:" for kind in _KINDS)
_OTHERS = "Reachable"
_MARKS = "Eligible"
"""Of every node, as the registry has it; what it means for this one is in Registered."""

_OWN = "Registered"
"""A condition that a node writes on its own object only."""


def own_node(nodes: Sequence[Obj]) -> Obj | None:
    """The Node object of the node that answered; None while the registry does not have it under its name."""
    return next((node for node in nodes if _OWN in _conditions(node)), None)


def findings(nodes: Sequence[Obj]) -> Iterator[Finding]:
    """Everything that the node's own list of Nodes tells."""
    own = own_node(nodes)
    if own is None:
        yield Finding(_OWN, Level.FAIL, "the registry does not have the node that answered under its name", ADVICE[_OWN])
    else:
        yield from _of_conditions(own)
        yield from _of_epoch(own)
    yield from _of_others(nodes, own)


def _of_conditions(own: Obj) -> Iterator[Finding]:
    for kind, entry in _conditions(own).items():
        if kind in (_OTHERS, _MARKS):
            continue
        message = str(entry.get("message") or "")
        said = f"{entry.get('reason', '')}: {message}" if message else str(entry.get("reason", ""))
        if entry["status"] == "True":
            yield Finding(kind, Level.OK, said)
        else:
            untrusted = message.startswith(_UNTRUSTED)
            yield Finding(kind, Level.FAIL, said, _advice(kind, str(entry.get("reason"))), untrusted)


def _advice(kind: str, reason: str) -> str:
    return ADVICE_BY_REASON.get(reason) or ADVICE.get(kind, "see the node's log")


def _of_epoch(own: Obj) -> Iterator[Finding]:
    """What is public of the key epoch that the node works with."""
    epoch: Obj = (own.get("status") or {}).get("keyEpoch") or {}
    if not epoch:
        return
    who = (
        "one node holds the whole key"
        if epoch["mode"] == "designated"
        else f"{epoch['threshold']} of {epoch['committee']} decrypt"
    )
    said = f"epoch {epoch['epoch']}, parameter set {epoch['parameters']}, {who}"
    if epoch["mode"] == "designated":
        yield Finding("KeyEpoch", Level.WARN, said, "nobody checks a designated node: hold a ceremony with a committee")
    elif epoch["parameters"] == "plain":
        yield Finding("KeyEpoch", Level.WARN, said, "plain has too little flooding for production: hold a ceremony with flooded")
    elif epoch["committee"] < epoch["threshold"] + 1:
        yield Finding(
            "KeyEpoch", Level.WARN, said, "no member to spare: a wrong partial cannot be noticed; use a larger committee"
        )
    else:
        yield Finding("KeyEpoch", Level.OK, said)


def _of_others(nodes: Sequence[Obj], own: Obj | None) -> Iterator[Finding]:
    """Members of the mesh as SWIM sees them from the node that answered."""
    name = own["metadata"]["name"] if own else ""
    others = [node for node in nodes if node["metadata"]["name"] != name]
    others = [node for node in others if (node.get("status") or {}).get("phase") in ("Active", "Cordoned")]
    away = {node["metadata"]["name"]: _conditions(node).get(_OTHERS, {}) for node in others}
    away = {other: entry for other, entry in away.items() if entry.get("status") != "True"}
    for other, entry in sorted(away.items()):
        yield Finding("Reachable", Level.WARN, f"{other} is not reached ({entry.get('reason', 'unknown')})", ADVICE[_OTHERS])
    marks = {node["metadata"]["name"]: _conditions(node).get(_MARKS, {}).get("reason") for node in others}
    for marked in sorted(other for other, reason in marks.items() if reason == "MarkedDown"):
        yield Finding(_MARKS, Level.WARN, f"{marked} is marked down on chain", ADVICE_BY_REASON["MarkedDown"])
    if not away:
        yield Finding(
            "Reachable", Level.OK, f"all {len(others)} other members are alive" if others else "there are no other members"
        )


def _conditions(node: Obj) -> dict[str, Obj]:
    return {entry["type"]: entry for entry in (node.get("status") or {}).get("conditions") or []}

"""The operations of the registry that people cause, not placing: stakes, disputes, key epochs, images, roles, limits.

A step without a meaning is not measured: it comes first where a first time costs more (a slot that was zero), so that the
figures are those of a registry in use.
"""

import hashlib
from typing import Any, NamedTuple

from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak

ETHER = 10**18
BOND_WEI = 10**16
FIRST_EPOCHS = {"few": 10, "many": 20}


class Step(NamedTuple):
    function: str
    args: tuple[Any, ...]
    name: str = ""
    """Of the row; empty for what only comes before others."""
    meaning: str = ""
    value_wei: int = 0


def steps(tag: str, *, peer: bytes, note: bytes, space: bytes, account: str) -> list[Step]:
    """About an Active node ``peer`` and an anchored ``note``; ``account`` signs and holds every role."""
    first = FIRST_EPOCHS[tag]
    parts = (*(_hash(name) for name in ("key", "evaluation", "circuits", "committee")), 3, 2)
    dispute = keccak(abi_encode(["bytes32", "bytes32"], [note, peer]))
    return [
        Step("stake", (peer,), "stake", "`stake`: the first of a node", ETHER),
        Step("slash", (peer, 10**16, _hash("reason"))),
        Step("slash", (peer, 10**16, _hash("reason")), "slash", "`slash`: a part of a stake"),
        Step("disputeDeployment", (note, peer, _hash("evidence")), "dispute", "`disputeDeployment`, with a bond", BOND_WEI),
        Step("resolveDispute", (dispute, True, 10**16, _hash("why")), "resolve_dispute", "`resolveDispute`: upheld, a slash"),
        Step("withdraw", (account,), "withdraw", "`withdraw`: a bond that came back"),
        Step("publishEpoch", (first, _hash("epoch"), parts)),
        Step("publishEpoch", (first + 1, _hash("epoch"), parts), "publish_epoch", "`publishEpoch` while another is active"),
        Step("activateEpoch", (first + 1,), "activate_epoch", "`activateEpoch`: retires all before it"),
        Step("retireEpoch", (first + 1,), "retire_epoch", "`retireEpoch`"),
        Step("setImageRoot", (_hash("root"), _hash("list"))),
        Step("setImageRoot", (_hash(f"root {tag}"), _hash("list")), "set_image_root", "`setImageRoot`: another list"),
        Step("commitImage", (_hash(f"name {tag}"), _hash("manifest")), "commit_image", "`commitImage`: a name's first manifest"),
        Step("setHomePeers", (space, [peer])),
        Step("setHomePeers", (space, [peer, peer, peer]), "set_home_peers", "`setHomePeers`: three others"),
        Step("setDecisionLimit", (_hash(tag)[:16], 1000), "set_decision_limit", "`setDecisionLimit`: a namespace's first"),
        Step("setClusterPolicy", (bytes(range(1, 97)),)),
        Step("setClusterPolicy", (bytes(range(2, 98)),), "set_policy", "`setClusterPolicy`, 96 bytes"),
        Step("grantRole", (_hash("TEAM"), "0x" + _hash(tag).hex()[:40]), "grant_role", "`grantRole`"),
    ]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


_ANYTHING = steps("few", peer=bytes(32), note=bytes(32), space=bytes(16), account="0x" + "0" * 40)
MEANINGS = {step.name: step.meaning for step in _ANYTHING if step.name}
"""What each row is."""

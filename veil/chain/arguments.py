"""Which argument of a call a refusal of the contract is about, by its name in the ABI.

Most errors are about one argument wherever they occur; those that can be about any (too much, zero) name it themselves.
"""

import functools
from typing import cast

from eth_typing import ABIFunction
from eth_utils.abi import function_abi_to_4byte_selector

from veil.chain import artifacts

_ABOUT = {
    "AlreadyAnchored": "assignmentHash",
    "BeingDeleted": "id",
    "BondTooLow": "value",
    "FailedCall": "to",
    "KindHasOwnFunctions": "kind",
    "ECDSAInvalidSignature": "signatures",
    "ECDSAInvalidSignatureLength": "signatures",
    "ECDSAInvalidSignatureS": "signatures",
    "NamespaceMissing": "id",
    "NodeExists": "peerID",
    "NotAnchored": "assignmentHash",
    "NotInLog": "leaf",
    "NotLapsed": "id",
    "NotNamespaceId": "id",
    "NotOperator": "peerID",
    "NotProven": "peerID",
    "PlainEther": "value",
    "PoolTooSmall": "amount",
    "SignersNotAscending": "signatures",
    "StaleEpoch": "epoch",
    "StaleGeneration": "expectedGeneration",
    "StaleIncarnation": "incarnation",
    "StaleSequence": "seq",
    "StakeTooLow": "peerID",
    "StillBonded": "peerID",
    "TooFewSigners": "signatures",
    "UnknownKind": "kind",
    "UnknownNode": "peerID",
    "UnknownObject": "id",
    "UnknownRights": "rights",
    "UnknownShard": "shard",
    "WrongDisputeStatus": "id",
    "WrongEpochStatus": "epoch",
    "WrongNodeStatus": "status",
    "WrongProofLength": "proof",
    "WrongThreshold": "parts",
}


def wrong_argument(error: str, call: bytes) -> str:
    """The name of the argument of ``call`` (calldata) that ``error`` is about; empty when it is about none of them."""
    name = _ABOUT.get(error, "")
    return name if name in _functions().get(call[:4], ()) else ""


@functools.cache
def _functions() -> dict[bytes, tuple[str, ...]]:
    """Selector to the names of the inputs; the ether that goes with a call is named ``value``."""
    result = {}
    for item in artifacts.load("VeilRegistry").abi:
        if item["type"] == "function":
            names = [part["name"] for part in item["inputs"]]
            if item["stateMutability"] == "payable":
                names.append("value")
            result[function_abi_to_4byte_selector(cast(ABIFunction, item))] = tuple(names)
    return result

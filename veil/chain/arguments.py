"""Which argument of a call a refusal of the contract is about, by its name in the ABI.

Most errors are about one argument wherever they occur. A few (too long, zero) can be about any: there the call itself
tells, as only one of its arguments has that length or is zero.
"""

import functools
from collections.abc import Sequence
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from veil.chain import artifacts

_ABOUT = {
    "AlreadyAnchored": "assignmentHash",
    "BeingDeleted": "id",
    "ECDSAInvalidSignature": "signatures",
    "ECDSAInvalidSignatureLength": "signatures",
    "ECDSAInvalidSignatureS": "signatures",
    "EpochNotActive": "epoch",
    "NamespaceMissing": "id",
    "NodeExists": "peerID",
    "NotNamespaceId": "id",
    "NotOperator": "peerID",
    "NotProven": "peerID",
    "SignersNotAscending": "signatures",
    "StaleEpoch": "epoch",
    "StaleGeneration": "expectedGeneration",
    "StaleIncarnation": "incarnation",
    "StaleSequence": "seq",
    "TooFewSigners": "signatures",
    "UnknownKind": "kind",
    "UnknownNode": "peerID",
    "UnknownObject": "id",
    "UnknownShard": "shard",
    "WrongNodeStatus": "status",
    "WrongProofLength": "proof",
}


def wrong_argument(error: str, values: Sequence[Any], call: bytes) -> str:
    """The name of the argument of ``call`` (calldata) that ``error`` with ``values`` is about; empty when it is about none."""
    arguments = _arguments(call)
    if error == "TooLong":
        return _only(name for name, value in arguments.items() if isinstance(value, bytes) and len(value) == values[0])
    if error == "TooManySigners":
        return _only(name for name, value in arguments.items() if value == values[0] or isinstance(value, tuple))
    if error == "ZeroValue":
        return ", ".join(name for name, value in arguments.items() if _is_zero(value))
    name = _ABOUT.get(error, "")
    return name if name in arguments else ""


def _only(names: Any) -> str:
    found = list(names)
    return found[0] if len(found) == 1 else ""


def _is_zero(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, bytes):
        return len(value) == 32 and not any(value)
    return value in (0, "0x" + "0" * 40)


def _arguments(call: bytes) -> dict[str, Any]:
    inputs = _functions().get(call[:4])
    if inputs is None:
        return {}
    names, types = inputs
    try:
        return dict(zip(names, abi_decode(types, call[4:]), strict=True))
    except DecodingError:
        return {}


@functools.cache
def _functions() -> dict[bytes, tuple[list[str], list[str]]]:
    """Selector to names and types of the inputs; functions whose types are no plain ones are left out."""
    result = {}
    for item in artifacts.load("VeilRegistry").abi:
        if item["type"] == "function" and not any(part["type"].startswith("tuple") for part in item["inputs"]):
            types = [part["type"] for part in item["inputs"]]
            selector = bytes(keccak(f"{item['name']}({','.join(types)})".encode())[:4])
            result[selector] = ([part["name"] for part in item["inputs"]], types)
    return result

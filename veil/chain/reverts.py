"""Custom errors of the contract as VeilErrors: what was refused, why, and what to do.

An error arrives as raw data, four bytes of selector and the arguments; the ABI says which it is.
"""

import functools
from typing import Any, NamedTuple

from eth_abi.abi import decode as abi_decode
from eth_hash.auto import keccak
from web3.exceptions import ContractCustomError, ContractLogicError, Web3RPCError

from veil.chain import artifacts
from veil.chain.arguments import wrong_argument
from veil.chain.logs import STATUSES
from veil.chain.records import DisputeStatus, EpochStatus, role_id
from veil.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, LimitExceeded, NotFound, Refused, VeilError

_READ_AGAIN = "somebody changed it first: read it again, apply the change to what is there now"
_ASK = "sign with the account that may do this, or ask its owner"


ROLES = ("DEFAULT_ADMIN_ROLE", "NODE_ADMIN", "POLICY_ADMIN", "KEY_ADMIN", "ARBITER", "GUARDIAN", "REQUESTER")
_ROLES = {role_id(name): name for name in ROLES}
"""Roles as people know them; the contract only has their hashes."""


class Meaning(NamedTuple):
    """``message`` takes the error's arguments, in their order."""

    kind: type[VeilError]
    message: str
    hint: str


_MEANINGS: dict[str, Meaning] = {
    "StaleGeneration": Meaning(Conflict, "object {0} is at generation {2}, not {1} (0: it does not exist)", _READ_AGAIN),
    "StaleSequence": Meaning(Conflict, "shard {0}: sequence {1} does not follow the log's last, {2}", _READ_AGAIN),
    "StaleIncarnation": Meaning(Conflict, "node {0}: incarnation {1} cannot follow {2}", "use a higher incarnation"),
    "StaleEpoch": Meaning(Conflict, "epoch {0} is not over the last one, {1}", "use the next number"),
    "BeingDeleted": Meaning(Conflict, "object {1} of kind {0} is being deleted", "wait until it is gone"),
    "NamespaceNotEmpty": Meaning(Conflict, "namespace {0} has {1} objects", "delete its objects first"),
    "WrongNodeStatus": Meaning(Conflict, "node {0} has status {1}, from which this step does not lead", "look at the node"),
    "NotProven": Meaning(Conflict, "node {0} has given no proof of possession", "its operator runs `veil node register`"),
    "WrongEpochStatus": Meaning(Conflict, "epoch {0} has status {1}, from which this step does not lead", "see `veil key list`"),
    "WrongThreshold": Meaning(InvalidInput, "{0} of a committee of {1}", "at least 1, at most the size"),
    "StakeTooLow": Meaning(Conflict, "node {0} has a stake of {1} wei, {2} are needed", "its operator stakes more"),
    "StillBonded": Meaning(Conflict, "node {0} is bonded until {1} (Unix time), {2} disputes are open", "wait until it is over"),
    "WrongDisputeStatus": Meaning(Conflict, "dispute {0} has status {1}, from which this step does not lead", "look at it"),
    "NotLapsed": Meaning(Conflict, "dispute {0} may be decided until {1} (Unix time)", "wait until then"),
    "NotInLog": Meaning(NotFound, "leaf {2} is not in append {1} of shard {0}", "check the proof with `veil audit`"),
    "NotAppended": Meaning(NotFound, "shard {0} has no append {1}", "see `veil get placements`"),
    "NotAnchored": Meaning(NotFound, "assignment {0} was never anchored", "only what is on chain can be disputed"),
    "NothingToWithdraw": Meaning(NotFound, "{0} is credited with nothing", "stakes are credited when a node is Gone"),
    "BondTooLow": Meaning(InvalidInput, "a bond of {0} wei, {1} are needed", "send more"),
    "PoolTooSmall": Meaning(LimitExceeded, "{0} wei of a pool of {1}", "ask for less"),
    "PlainEther": Meaning(InvalidInput, "the registry takes ether only with a call", "stake for a node instead"),
    "FailedCall": Meaning(Refused, "the account does not take ether", "withdraw to another one"),
    "InsufficientBalance": Meaning(Refused, "the registry has {0} wei, {1} are asked for", "report it: this must not happen"),
    "UnknownRights": Meaning(InvalidInput, "{0} has unknown bits", "EDIT is 1, VIEW 2, REQUEST 4"),
    "NotRequester": Meaning(Forbidden, "{0} may not create namespaces here: it does not hold the role REQUESTER", _ASK),
    "KindHasOwnFunctions": Meaning(InvalidInput, "{0} has functions of its own", "see docs/reference/contract.md"),
    "NodeExists": Meaning(AlreadyExists, "node {0} is registered", "an administrator can remove a squatter"),
    "AlreadyAnchored": Meaning(AlreadyExists, "assignment {0} is anchored", "it needs no second note"),
    "UnknownNode": Meaning(NotFound, "node {0} is not registered", "register it first"),
    "UnknownObject": Meaning(NotFound, "object {1} of kind {0} does not exist", "it was never created, or is deleted"),
    "NamespaceMissing": Meaning(NotFound, "namespace {0} does not exist", "create the Namespace first"),
    "NotWriter": Meaning(Forbidden, "{1} has no such right in namespace {0}", _ASK),
    "NotOperator": Meaning(Forbidden, "{1} does not operate node {0}", _ASK),
    "NotMember": Meaning(Forbidden, "{0} operates no Active node", "register a node and have it approved"),
    "TooFewSigners": Meaning(Forbidden, "{0} operators sign, {1} must", "collect more signatures"),
    "SignersNotAscending": Meaning(Forbidden, "the signature of {0} counts twice or is out of order", "one per operator"),
    "AccessControlUnauthorizedAccount": Meaning(Forbidden, "{0} does not hold the role {1}", _ASK),
    "ECDSAInvalidSignature": Meaning(Forbidden, "a signature is by nobody", "each operator signs anew"),
    "ECDSAInvalidSignatureLength": Meaning(Forbidden, "a signature of {0} bytes", "each operator signs anew"),
    "ECDSAInvalidSignatureS": Meaning(Forbidden, "a malleable signature", "each operator signs anew"),
    "TooMuch": Meaning(LimitExceeded, "{1}, the registry takes {2}", "see the limits in docs/reference/contract.md"),
    "UnknownKind": Meaning(InvalidInput, "kind {0} is not taken by the generic path", "see veil.wire.objects.KINDS"),
    "UnknownShard": Meaning(InvalidInput, "there is no shard {0}", "shards are numbered from 0 to 15"),
    "NotNamespaceId": Meaning(InvalidInput, "{0} is not the id of a Namespace", "its lower 16 bytes are zero"),
    "WrongProofLength": Meaning(InvalidInput, "a proof of {0} bytes", "an Ed25519 signature has 64"),
    "ZeroValue": Meaning(InvalidInput, "zero, which it must not be", "see docs/reference/contract.md"),
    "EnforcedPause": Meaning(Refused, "the registry is paused", "a guardian paused it; an administrator unpauses it"),
}


def meaning_of(error: str) -> Meaning | None:
    """Of one error by its name; None for those that only a broken deployment can raise."""
    return _MEANINGS.get(error)


@functools.cache
def _selectors() -> dict[bytes, tuple[str, list[dict[str, str]]]]:
    result = {}
    for item in artifacts.load("VeilRegistry").abi:
        if item["type"] == "error":
            types = [part["type"] for part in item["inputs"]]
            result[bytes(keccak(f"{item['name']}({','.join(types)})".encode())[:4])] = (item["name"], item["inputs"])
    return result


def from_data(data: bytes, call: bytes = b"") -> VeilError:
    """The error that ``data`` is. Its ``field`` is the argument that was wrong, as the error says or ``call`` (calldata) has it.

    One that is not known by name becomes Refused with its selector.
    """
    name, inputs = _selectors().get(data[:4], ("", []))
    meaning = _MEANINGS.get(name)
    if meaning is None:
        return Refused(f"the registry refused: {name or '0x' + data[:4].hex()}", hint="see docs/reference/contract.md")
    values = abi_decode([part["type"] for part in inputs], data[4:])
    message = meaning.message.format(*map(_text, values, inputs))
    named = inputs and inputs[0]["name"] == "field"
    field = bytes(values[0]).rstrip(b"\0").decode("ascii", "replace") if named else wrong_argument(name, call)
    if field and issubclass(meaning.kind, InvalidInput):
        message = f"{field}: {message}"
    error = meaning.kind(message, hint=meaning.hint)
    error.field = field
    return error


def from_web3(error: Exception, call: bytes = b"") -> VeilError | None:
    """The registry's error inside one of web3's, or None when there is no revert in it. ``call``: as for :func:`from_data`."""
    data = _data_of(error)
    if data is not None and len(data) >= 4:
        return from_data(data, call)
    if isinstance(error, ContractLogicError):
        return Refused(f"the contract refused: {error}", hint="see docs/reference/contract.md")
    return None


def _data_of(error: Exception) -> bytes | None:
    value: Any = None
    if isinstance(error, ContractCustomError | ContractLogicError):
        value = error.data
    elif isinstance(error, Web3RPCError) and error.rpc_response is not None:
        failure: Any = error.rpc_response.get("error")
        value = failure.get("data") if isinstance(failure, dict) else None
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            return None
    return None


_ENUMS = {"enum NodeStatus": STATUSES, "enum EpochStatus": tuple(EpochStatus), "enum DisputeStatus": tuple(DisputeStatus)}


def _text(value: Any, part: dict[str, str]) -> str:
    """A value as people know it: a role by its name, a status by its word."""
    names = _ENUMS.get(part["internalType"])
    if names is not None and value < len(names):
        return str(names[value])
    if isinstance(value, bytes):
        return _ROLES.get(value, "0x" + value.hex()) if part["name"] == "neededRole" else "0x" + value.hex()
    return str(value)

"""Layouts that others rely on: the head's preimage, the events, the selectors, the typed data that operators sign."""

import hashlib
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from veil.chain import artifacts, endpoints, logs, ports, reverts
from veil.chain.binding import by_signer, mark_down_message
from veil.chain.logs import STATUSES, RawLog
from veil.chain.ports import EMPTY_HEAD, Head
from veil.chain.rpc import LogEntry
from veil.chain.signer import LocalSigner
from veil.errors import Conflict, Forbidden, HeadMismatch, Refused
from veil.types import Address, PeerId, Secret
from veil.wire import objects

pytestmark = pytest.mark.unit

WORD = st.binary(min_size=32, max_size=32)
OWNER = Address("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")


def word(value: int | bytes | str) -> bytes:
    if isinstance(value, str):
        return bytes(12) + bytes.fromhex(value[2:])
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def event(name: str, topic2: bytes, topic3: bytes, types: list[str], values: list[object], rv: int = 1) -> RawLog:
    return RawLog(7, bytes(32), None, (logs.topic_of(name), word(rv), topic2, topic3), abi_encode(types, values))


def test_the_head_chain_has_its_golden_value() -> None:
    """acc' = bytes24(keccak256(abi.encode(acc, rv, topic0, topic2, topic3, keccak256(data)))), see HeadChain.sol."""
    first = event("ObjectApplied", b"\1" * 32, word(2), ["uint48", "address", "bytes"], [1, OWNER, b"envelope"])
    second = event("DownSignersChanged", word(3), word(OWNER), [], [], rv=2)
    one = logs.fold(EMPTY_HEAD, first)
    assert one == Head(1, bytes.fromhex("e69eed4b4f9c74bc646015030b11c5cc60d11722b136a43d"))
    two = logs.fold(one, second)
    assert two == Head(2, bytes.fromhex("a49703fd0692d23b8b9e4edd4a163f7f652e9733118dc6ae"))
    types = ["bytes24", "uint64", "bytes32", "bytes32", "bytes32", "bytes32"]
    preimage = abi_encode(types, [one.accumulator, 2, *second.topics[:1], *second.topics[2:], keccak(b"")])
    assert two.accumulator == keccak(preimage)[:24]


@given(st.lists(WORD, min_size=4, max_size=4), st.binary(max_size=100), st.integers(0, 5), st.binary(min_size=1, max_size=1))
def test_any_change_changes_the_head(topics: list[bytes], data: bytes, where: int, flip: bytes) -> None:
    log = RawLog(1, bytes(32), None, tuple(topics), data)
    changed = list(topics)
    other = data
    if where < 4:
        changed[where] = bytes([changed[where][0] ^ (flip[0] or 1)]) + changed[where][1:]
    else:
        other = data + flip
    assert logs.fold(EMPTY_HEAD, log) != logs.fold(EMPTY_HEAD, RawLog(1, bytes(32), None, tuple(changed), other))


def test_the_layouts_are_those_of_the_abi() -> None:
    """What the hand-written decoder reads, against the ABI's own encoder."""
    found = logs.decode(event("ObjectApplied", b"\1" * 32, word(2), ["uint48", "address", "bytes"], [9, OWNER, b"e" * 512]))
    assert found == ports.ObjectApplied(
        rv=1, kind=2, object_id=objects.ObjectId(b"\1" * 32), generation=ports.Generation(9), owner=OWNER, envelope=b"e" * 512
    )
    found = logs.decode(event("ObjectDeleting", b"\1" * 32, word(2), ["uint48", "address", "uint16"], [9, OWNER, 3]))
    assert isinstance(found, ports.ObjectApplied)
    assert found.deleting
    found = logs.decode(event("NodeRegistered", b"\2" * 32, word(OWNER), ["bytes"], [b"p" * 64]))
    assert found == ports.NodeRegistered(rv=1, peer=PeerId(b"\2" * 32), operator=OWNER, proof=b"p" * 64)
    for number, status in list(enumerate(STATUSES))[1:]:
        found = logs.decode(event("NodeStatusChanged", b"\2" * 32, word(OWNER), ["uint8"], [number]))
        assert found == ports.NodeStatusChanged(rv=1, peer=PeerId(b"\2" * 32), status=status)
    values = [5, b"\3" * 32, 7, b"\4" * 32]
    found = logs.decode(event("PlacementsAppended", word(15), word(OWNER), ["uint64", "bytes32", "uint32", "bytes32"], values))
    assert isinstance(found, ports.PlacementsAppended)
    assert (found.shard, found.sequence, found.count, found.sender) == (15, 5, 7, OWNER)
    assert (found.root, found.data) == (b"\3" * 32, b"\4" * 32)


def test_every_event_of_the_registry_has_the_one_shape() -> None:
    found = {item["name"]: item for item in artifacts.load("VeilRegistry").abi if item["type"] == "event"}
    ours = {name for name, item in found.items() if item["inputs"] and item["inputs"][0]["name"] == "rv"}
    for name in ours:
        inputs = found[name]["inputs"]
        assert [part["indexed"] for part in inputs] == [True] * 3 + [False] * (len(inputs) - 3), name
        assert inputs[0]["type"] == "uint64"
    outside = set(found) - ours
    assert outside == {
        "EIP712DomainChanged",
        "Initialized",
        "Paused",
        "RoleAdminChanged",
        "RoleGranted",
        "RoleRevoked",
        "Unpaused",
        "Upgraded",
    }


def test_the_interface_of_the_earlier_stack() -> None:
    signatures = {
        (
            item["name"],
            tuple(p["type"] for p in item["inputs"]),
            tuple(p["type"] for p in item["outputs"]),
            item["stateMutability"],
        )
        for item in artifacts.load("VeilRegistry").abi
        if item["type"] == "function"
    }
    assert ("registerNode", ("bytes32", "address"), (), "nonpayable") in signatures
    assert ("anchorDeployment", ("bytes32",), ("bool",), "nonpayable") in signatures
    assert ("getClusterPolicy", (), ("bytes",), "view") in signatures
    assert "0x" + keccak(b"head()")[:4].hex() == endpoints.HEAD_CALL
    assert ports.ENVELOPE_MAX_BYTES == objects.ENVELOPE_MAX_BYTES


def test_an_event_of_a_later_release_counts_and_means_nothing() -> None:
    unknown = RawLog(1, bytes(32), None, (b"\7" * 32, word(1), bytes(32), bytes(32)), b"")
    assert logs.in_chain(unknown)
    assert logs.decode(unknown) == ports.OtherEvent(rv=1, name="Unknown")


def test_a_truncated_event_is_untrusted() -> None:
    whole = event("ObjectApplied", b"\1" * 32, word(2), ["uint48", "address", "bytes"], [9, OWNER, b"e" * 100])
    for size in (0, 31, 64, 128, 200):
        with pytest.raises(HeadMismatch):
            logs.decode(RawLog(1, bytes(32), None, whole.topics, whole.data[:size]))
    with pytest.raises(HeadMismatch):
        logs.parse(LogEntry(["0xzz"], "0x", "0x1", "0x00"))


def test_every_error_of_the_registry_has_a_meaning() -> None:
    """But those that only a broken deployment can raise."""
    internal = {
        "AccessControlBadConfirmation",
        "AddressEmptyCode",
        "ERC1967InvalidImplementation",
        "ERC1967NonPayable",
        "ExpectedPause",
        "InvalidInitialization",
        "NotInitializing",
        "UUPSUnauthorizedCallContext",
        "UUPSUnsupportedProxiableUUID",
    }
    assert {name for name, _ in reverts._selectors().values()} - set(reverts._MEANINGS) == internal
    assert set(reverts._MEANINGS) <= {name for name, _ in reverts._selectors().values()}


def test_errors_say_which_field_was_wrong() -> None:
    data = keccak(b"StaleGeneration(bytes32,uint48,uint48)")[:4] + abi_encode(["bytes32", "uint48", "uint48"], [b"\1" * 32, 3, 5])
    error = reverts.from_data(data)
    assert isinstance(error, Conflict)
    assert "at generation 5, not 3" in error.message
    assert error.hint
    unknown = reverts.from_data(b"\1\2\3\4")
    assert isinstance(unknown, Refused)
    assert "0x01020304" in unknown.message
    selector = keccak(b"AccessControlUnauthorizedAccount(address,bytes32)")[:4]
    missing = reverts.from_data(selector + abi_encode(["address", "bytes32"], ["0x" + "11" * 20, keccak(b"KEY_ADMIN")]))
    assert "the role KEY_ADMIN" in missing.message


async def test_what_operators_sign_is_typed_data() -> None:
    """The digest equals that of any EIP-712 wallet, and signatures go to the contract in the order of their signers."""
    peer = PeerId(hashlib.sha256(b"peer").digest())
    domain = {"name": "Veil", "version": "1", "chainId": 31337, "verifyingContract": OWNER}
    types = {"MarkDown": [{"name": "peerID", "type": "bytes32"}, {"name": "incarnation", "type": "uint64"}]}
    message = encode_typed_data(domain, types, {"peerID": peer, "incarnation": 4})
    wanted = mark_down_message(31337, OWNER, peer, 4)
    assert encode_typed_data(full_message=wanted) == message
    signers = [LocalSigner(Secret(bytes([n]) * 32)) for n in range(1, 6)]
    signatures = {signer.address.lower(): await signer.sign_typed(wanted) for signer in signers}
    assert by_signer(wanted, list(signatures.values()) * 2) == [signatures[address] for address in sorted(signatures)]
    with pytest.raises(Forbidden):
        by_signer(wanted, [b"\0" * 65])


def _reverted(signature: str, types: list[str], values: list[Any], call: str, arguments: tuple[list[str], list[Any]]) -> Any:
    data = bytes(keccak(signature.encode())[:4]) + abi_encode(types, values)
    return reverts.from_data(data, bytes(keccak(call.encode())[:4]) + abi_encode(*arguments))


def test_errors_name_the_argument_that_was_wrong() -> None:
    id_, apply = b"\1" * 32, "applyObject(uint8,bytes32,uint48,bytes,uint16)"
    applied = (["uint8", "bytes32", "uint48", "bytes", "uint16"], [2, id_, 3, bytes(600), 0])
    stale = _reverted("StaleGeneration(bytes32,uint48,uint48)", ["bytes32", "uint48", "uint48"], [id_, 3, 5], apply, applied)
    assert stale.field == "expectedGeneration"
    long_types = ["bytes32", "uint256", "uint256"]
    long = _reverted("TooMuch(bytes32,uint256,uint256)", long_types, [b"envelope", 600, 512], apply, applied)
    assert (long.field, long.message) == ("envelope", "envelope: 600, the registry takes 512")
    anchored = _reverted("ZeroValue(bytes32)", ["bytes32"], [b"root"], "anchorDeployment(bytes32)", (["bytes32"], [bytes(32)]))
    assert (anchored.field, anchored.message) == ("root", "root: zero, which it must not be")
    little = _reverted("BondTooLow(uint256,uint128)", ["uint256", "uint128"], [1, 5], "stake(bytes32)", (["bytes32"], [id_]))
    assert little.field == "value", "ether that goes with a call"
    status = _reverted("WrongEpochStatus(uint64,uint8)", ["uint64", "uint8"], [7, 3], "retireEpoch(uint64)", (["uint64"], [7]))
    assert (status.field, "status Retired" in status.message) == ("epoch", True)
    missing = reverts.from_data(bytes(keccak(b"StaleEpoch(uint64,uint64)")[:4]) + abi_encode(["uint64"] * 2, [1, 2]))
    assert missing.field == "", "without the call nothing is known"

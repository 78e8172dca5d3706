"""Logs of the registry: the hash chain over them, and what they mean.

All events of the registry have one shape (four topics, the second is rv), so a reader folds them without knowing any.
OpenZeppelin's own events stand outside and are skipped: what they say is said again in the chain. Decoding is by hand: the
layouts are few, fixed by the ABI (checked by a test), and the generic decoder is several times slower.
"""

import functools
from collections.abc import Callable
from typing import cast

import msgspec
from eth_hash.backends.pysha3 import keccak256 as keccak
from eth_typing import ABIEvent
from eth_utils.abi import event_abi_to_log_topic
from eth_utils.address import to_checksum_address

from veil.chain import artifacts, ports
from veil.chain.ports import ChainEvent, Head, NodeStatus
from veil.chain.records import DisputeStatus
from veil.chain.rpc import LogEntry
from veil.errors import HeadMismatch
from veil.types import Address, Digest, Generation, ObjectId, PeerId, Shard

STATUSES = (None, NodeStatus.PENDING, NodeStatus.ACTIVE, NodeStatus.CORDONED, NodeStatus.LEAVING, NodeStatus.GONE)
DISPUTE_STATUSES = tuple(DisputeStatus)
"""The contract's enums, in their order."""


class RawLog(msgspec.Struct, frozen=True, gc=False):
    """One log in bytes."""

    block: int
    block_hash: bytes
    timestamp_s: int | None
    topics: tuple[bytes, ...]
    data: bytes

    @property
    def rv(self) -> int:
        return int.from_bytes(self.topics[1], "big")


def parse(entry: LogEntry) -> RawLog:
    """The bytes of a JSON log. Raises HeadMismatch for anything that is none."""
    try:
        block, block_hash, timestamp_s = _block(entry.block_number, entry.block_hash, entry.block_timestamp)
        topics = tuple([bytes.fromhex(topic[2:]) for topic in entry.topics])
        return RawLog(block, block_hash, timestamp_s, topics, bytes.fromhex(entry.data[2:]))
    except ValueError as error:
        raise HeadMismatch(f"the RPC endpoint gave a log that is none: {error}", hint="ask another endpoint") from error


@functools.lru_cache(maxsize=16)
def _block(number: str, block_hash: str, timestamp: str | None) -> tuple[int, bytes, int | None]:
    """Logs of one block come one after the other."""
    return int(number, 16), bytes.fromhex(block_hash[2:]), int(timestamp, 16) if timestamp else None


def in_chain(log: RawLog) -> bool:
    """Whether this is an event of the registry itself, and so in the chain of ``head()``."""
    return len(log.topics) == 4 and log.topics[0] not in _foreign()


def fold(head: Head, log: RawLog) -> Head:
    """The head after ``log``. The preimage is that of HeadChain.sol; rv is taken as told, the caller compares it."""
    topic0, rv, topic2, topic3 = log.topics
    words = head.accumulator + bytes(8) + rv + topic0 + topic2 + topic3 + keccak(log.data)
    return Head(int.from_bytes(rv, "big"), bytes(keccak(words)[:24]))


def decode(log: RawLog) -> ChainEvent:
    """What a log of the chain means. An event that this release does not know is an OtherEvent."""
    name = _names().get(log.topics[0], "Unknown")
    reader = _READERS.get(name)
    if reader is None:
        return ports.OtherEvent(rv=log.rv, name=name)
    try:
        return reader(log)
    except (IndexError, ValueError) as error:
        raise HeadMismatch(f"event {log.rv} ({name}) has another layout: {error}", hint="upgrade this program") from error


def topic_of(name: str) -> bytes:
    """The first topic of the registry's event ``name``."""
    return next(topic for topic, known in _names().items() if known == name)


@functools.cache
def _topics() -> dict[bytes, tuple[str, bool]]:
    """Topic to name, and whether the event is in the chain."""
    result = {}
    for item in artifacts.load("VeilRegistry").abi:
        if item["type"] == "event":
            inputs = item["inputs"]
            ours = bool(inputs) and inputs[0]["name"] == "rv"
            result[event_abi_to_log_topic(cast(ABIEvent, item))] = (item["name"], ours)
    return result


@functools.cache
def _names() -> dict[bytes, str]:
    return {topic: name for topic, (name, ours) in _topics().items() if ours}


@functools.cache
def _foreign() -> frozenset[bytes]:
    return frozenset(topic for topic, (_, ours) in _topics().items() if not ours)


@functools.lru_cache(maxsize=4096)
def _address(word: bytes) -> Address:
    return Address(to_checksum_address(word[12:]))


def _word(log: RawLog, index: int) -> bytes:
    word = log.data[index * 32 : index * 32 + 32]
    if len(word) != 32:
        raise IndexError(f"no word {index}")
    return word


def _number(log: RawLog, index: int) -> int:
    return int.from_bytes(_word(log, index), "big")


def _tail(log: RawLog, index: int) -> bytes:
    start = _number(log, index)
    size = int.from_bytes(log.data[start : start + 32], "big")
    value = log.data[start + 32 : start + 32 + size]
    if len(value) != size:
        raise IndexError(f"{size} bytes announced, {len(value)} there")
    return value


def _object_applied(log: RawLog) -> ChainEvent:
    return ports.ObjectApplied(
        rv=log.rv,
        kind=log.topics[3][31],
        object_id=ObjectId(log.topics[2]),
        generation=Generation(_number(log, 0)),
        owner=_address(_word(log, 1)),
        envelope=_tail(log, 2),
    )


def _object_deleting(log: RawLog) -> ChainEvent:
    return ports.ObjectApplied(
        rv=log.rv,
        kind=log.topics[3][31],
        object_id=ObjectId(log.topics[2]),
        generation=Generation(_number(log, 0)),
        owner=_address(_word(log, 1)),
        envelope=b"",
        deleting=True,
    )


def _object_deleted(log: RawLog) -> ChainEvent:
    return ports.ObjectDeleted(
        rv=log.rv, kind=log.topics[3][31], object_id=ObjectId(log.topics[2]), generation=Generation(_number(log, 0))
    )


def _node_status(log: RawLog) -> ChainEvent:
    status = STATUSES[_number(log, 0)]
    if status is None:
        raise ValueError("status None in an event")
    return ports.NodeStatusChanged(rv=log.rv, peer=PeerId(log.topics[2]), status=status)


def _placements(log: RawLog) -> ChainEvent:
    return ports.PlacementsAppended(
        rv=log.rv,
        shard=Shard(log.topics[2][31]),
        sequence=_number(log, 0),
        root=Digest(_word(log, 1)),
        count=_number(log, 2),
        data=Digest(_word(log, 3)),
        sender=_address(log.topics[3]),
    )


def _home_peers(log: RawLog) -> ChainEvent:
    start = _number(log, 0) // 32
    peers = tuple(PeerId(_word(log, start + 1 + index)) for index in range(_number(log, start)))
    return ports.HomePeersChanged(rv=log.rv, namespace=log.topics[2][:16], peers=peers)


def _epoch(log: RawLog) -> int:
    return int.from_bytes(log.topics[2], "big")


_READERS: dict[str, Callable[[RawLog], ChainEvent]] = {
    "ObjectApplied": _object_applied,
    "ObjectDeleting": _object_deleting,
    "ObjectDeleted": _object_deleted,
    "NodeRegistered": lambda log: ports.NodeRegistered(
        rv=log.rv, peer=PeerId(log.topics[2]), operator=_address(log.topics[3]), proof=_tail(log, 0)
    ),
    "NodeInfoPublished": lambda log: ports.NodeInfoPublished(rv=log.rv, peer=PeerId(log.topics[2]), info=_tail(log, 0)),
    "NodeStatusChanged": _node_status,
    "NodeMarkedDown": lambda log: ports.NodeMarkedDown(rv=log.rv, peer=PeerId(log.topics[2]), incarnation=_number(log, 0)),
    "NodeMarkedUp": lambda log: ports.NodeMarkedUp(rv=log.rv, peer=PeerId(log.topics[2]), incarnation=_number(log, 0)),
    "PlacementsAppended": _placements,
    "PolicyChanged": lambda log: ports.PolicyChanged(rv=log.rv, policy=_tail(log, 0)),
    "NamespaceOwnerChanged": lambda log: ports.NamespaceOwnerChanged(
        rv=log.rv, object_id=ObjectId(log.topics[2]), owner=_address(log.topics[3])
    ),
    "AccessChanged": lambda log: ports.AccessChanged(
        rv=log.rv, namespace=log.topics[2][:16], account=_address(log.topics[3]), rights=_number(log, 0)
    ),
    "RoleChanged": lambda log: ports.RoleChanged(
        rv=log.rv, role=log.topics[2], account=_address(log.topics[3]), held=bool(_number(log, 0))
    ),
    "HomePeersChanged": _home_peers,
    "DecisionLimitChanged": lambda log: ports.DecisionLimitChanged(
        rv=log.rv, namespace=log.topics[2][:16], per_epoch=_number(log, 0)
    ),
    "NodeLabelsChanged": lambda log: ports.NodeLabelsChanged(
        rv=log.rv, peer=PeerId(log.topics[2]), labels=Digest(_word(log, 0)), by=_address(log.topics[3])
    ),
    "ImageRootChanged": lambda log: ports.ImageRootChanged(rv=log.rv, root=Digest(log.topics[2]), images=Digest(_word(log, 0))),
    "ImageCommitted": lambda log: ports.ImageCommitted(rv=log.rv, name=Digest(log.topics[2]), manifest=Digest(log.topics[3])),
    "EpochPublished": lambda log: ports.EpochPublished(rv=log.rv, epoch=_epoch(log), digest=Digest(log.topics[3])),
    "EpochActivated": lambda log: ports.EpochActivated(rv=log.rv, epoch=_epoch(log)),
    "EpochRetired": lambda log: ports.EpochRetired(rv=log.rv, epoch=_epoch(log)),
    "DisputeOpened": lambda log: ports.DisputeOpened(
        rv=log.rv, dispute=Digest(log.topics[2]), accused=PeerId(log.topics[3]), by=_address(_word(log, 0))
    ),
    "DisputeClosed": lambda log: ports.DisputeClosed(
        rv=log.rv, dispute=Digest(log.topics[2]), accused=PeerId(log.topics[3]), status=DISPUTE_STATUSES[_number(log, 0)]
    ),
}

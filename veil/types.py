"""The words of the house as types.

A bare ``bytes`` or ``int`` says nothing; these say what it is, how long it is and in which unit. Time and randomness are
Protocols, so that whatever depends on them can be tested with virtual time and a printed seed.
"""

import os
import time
from collections.abc import Callable
from typing import NewType, Protocol

PeerId = NewType("PeerId", bytes)
"""A node: its raw Ed25519 public key (32 bytes), the same value as the registry's ``bytes32 peerID``."""

Digest = NewType("Digest", bytes)
"""SHA-256 (32 bytes) of a content: bodies, sealed parts, ciphertexts, keys, transcripts."""

ObjectId = NewType("ObjectId", bytes)
"""A chain-held object (32 bytes): 16 bytes of its namespace's hash, then 16 bytes of its name's hash."""

Address = NewType("Address", str)
"""An Ethereum account, EIP-55 checksummed hexadecimal with 0x."""

ClusterId = NewType("ClusterId", bytes)
"""SHA-256 over chain id and registry address (32 bytes): the domain of every signature."""

RoundId = NewType("RoundId", bytes)
"""One placement round (16 random bytes)."""

Generation = NewType("Generation", int)
Epoch = NewType("Epoch", int)
"""A key epoch; 0 means none."""

Shard = NewType("Shard", int)
"""A placement shard, 0 <= shard < SHARDS."""

Term = NewType("Term", int)
"""``block number // TERM_BLOCKS``: for one term a shard's ranking is fixed."""

SHARDS = 16
TERM_BLOCKS = 256
DIGEST_BYTES = 32
PEER_ID_BYTES = 32
TAINTS_MAX = 8
"""Of a node, and tolerations of a workload: both are on the chain."""


class Clock(Protocol):
    """Where time comes from."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch: for what others will read."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back: for timeouts and leases."""
        ...


class Random(Protocol):
    """Where unpredictability comes from."""

    def bytes(self, count: int) -> bytes:
        """``count`` random bytes."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()


class SystemRandom:
    """The operating system's entropy."""

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self._source = source

    def bytes(self, count: int) -> bytes:
        return self._source(count)


class Secret:
    """Bytes that cannot be printed, logged or pickled by accident.

    ``reveal()`` is the only way to the value, so that every use can be found by that word.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")

    def __eq__(self, other: object) -> bool:
        import hmac

        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

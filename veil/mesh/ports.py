"""What Veil asks of the mesh: bytes to peers, who is alive, contents by digest. Knows nothing of FHE or workloads."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from veil.types import Digest, PeerId

REQUEST_MAX_BYTES = 4 * 1024 * 1024
BLOB_MAX_BYTES = 512 * 1024 * 1024
METADATA_MAX_BYTES = 256

Handler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Serves one request: the authenticated sender and its bytes; gives back the reply's bytes."""


class PeerState(StrEnum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One registered peer as SWIM sees it from here."""

    peer: PeerId
    state: PeerState
    incarnation: int
    metadata: bytes = b""
    """What the peer says of itself in its signed alive message (at most 256 bytes)."""


class Mesh(Protocol):
    """The mesh as one node sees it. Raises MeshUnavailable, DeadlineExceeded, NotFound, DigestMismatch, LimitExceeded."""

    peer_id: PeerId

    async def start(self) -> None: ...

    async def close(self) -> None:
        """Leave gracefully."""
        ...

    def allow(self, peers: dict[PeerId, Sequence[str]]) -> None:
        """The registry's Active and Cordoned peers and their multiaddrs: exactly these may connect. Others are cut off."""
        ...

    def serve(self, protocol: str, handler: Handler) -> None:
        """Answer requests of ``protocol`` (for example ``round/1``). An exception becomes MeshUnavailable at the caller."""
        ...

    async def request(self, peer: PeerId, protocol: str, payload: bytes, *, deadline_s: float = 5.0) -> bytes:
        """Ask one peer. The payload is sealed to ``peer`` and opened there, besides the transport's own encryption."""
        ...

    async def put(self, content: bytes) -> Digest:
        """Keep a content here."""
        ...

    async def push(self, digest: Digest, peer: PeerId, *, deadline_s: float = 10.0) -> None:
        """Have ``peer`` keep a content that is here. Returns once it has verified and stored it."""
        ...

    async def get(self, digest: Digest, *, sources: Sequence[PeerId] = (), deadline_s: float = 10.0) -> bytes:
        """The content, from here or else from ``sources`` (none given: all alive members), verified."""
        ...

    async def has(self, digest: Digest) -> bool: ...

    async def drop(self, digest: Digest) -> None: ...

    def members(self) -> list[Member]:
        """Everybody allowed, this node included."""
        ...

    def set_metadata(self, metadata: bytes) -> None:
        """What this node's next alive message says (at most 256 bytes)."""
        ...

    def changes(self) -> AsyncIterator[Member]:
        """Every change of state of a member from now on."""
        ...

"""How much disk others may use here. What this node keeps for itself, or asks for, is not counted.

Who pushed a content is kept as an empty file ``by/<peer>/<digest>`` beside the contents: it survives restarts, and a
content that was dropped stops counting without anybody being told.
"""

import shutil

from veil.errors import LimitExceeded
from veil.mesh.blobs import BlobStore
from veil.types import Digest, PeerId

PEER_QUOTA_BYTES = 2 * 1024**3
"""Contents that one peer had this node keep. A workload's are about 40 KB: 50,000 workloads."""

QUOTA_BYTES = 16 * 1024**3
"""Of all peers together."""

FREE_MIN_BYTES = 512 * 1024**2
"""Nothing is taken for others when the disk has less left."""


class Quota:
    """What each peer uses of the disk. Sizes are in bytes."""

    def __init__(self, store: BlobStore, peer_max_bytes: int = PEER_QUOTA_BYTES, max_bytes: int = QUOTA_BYTES) -> None:
        self._store = store
        self._peer_max_bytes = peer_max_bytes
        self._max_bytes = max_bytes
        self._directory = store.directory / "by"
        self._directory.mkdir(exist_ok=True, mode=0o700)
        self._used: dict[PeerId, int] = {PeerId(bytes.fromhex(path.name)): 0 for path in self._directory.iterdir()}
        self._reserved: dict[tuple[PeerId, Digest], int] = {}
        for peer in self._used:
            self._count(peer)

    def used(self, peer: PeerId) -> int:
        """At most what ``peer`` uses: contents dropped since the last refusal still count."""
        return self._used.get(peer, 0) + sum(size for (owner, _), size in self._reserved.items() if owner == peer)

    def reserve(self, peer: PeerId, digest: Digest, size_bytes: int) -> None:
        """Room for a content that ``peer`` is about to send. Raises LimitExceeded."""
        self._refuse_without_room(peer, size_bytes)
        self._reserved[(peer, digest)] = size_bytes

    def settle(self, peer: PeerId, digest: Digest, kept: bool) -> None:
        """The content that room was reserved for is kept, or is not."""
        size_bytes = self._reserved.pop((peer, digest), 0)
        if kept:
            owned = self._directory / peer.hex()
            owned.mkdir(exist_ok=True, mode=0o700)
            (owned / digest.hex()).touch()
            self._used[peer] = self._used.get(peer, 0) + size_bytes

    def _refuse_without_room(self, peer: PeerId, size_bytes: int) -> None:
        if shutil.disk_usage(self._directory).free < size_bytes + FREE_MIN_BYTES:
            raise LimitExceeded(f"the disk has less than FREE_MIN_BYTES={FREE_MIN_BYTES} left")
        if self.used(peer) + size_bytes > self._peer_max_bytes:
            self._count(peer)
            if self.used(peer) + size_bytes > self._peer_max_bytes:
                raise LimitExceeded(f"this peer's contents take {self.used(peer)} of {self._peer_max_bytes} bytes")
        if self._total() + size_bytes > self._max_bytes:
            for other in list(self._used):
                self._count(other)
            if self._total() + size_bytes > self._max_bytes:
                raise LimitExceeded(f"all peers' contents take {self._total()} of {self._max_bytes} bytes")

    def _total(self) -> int:
        return sum(self._used.values()) + sum(self._reserved.values())

    def _count(self, peer: PeerId) -> None:
        """Looks at the disk; forgets contents that are gone."""
        used_bytes = 0
        for marker in (self._directory / peer.hex()).glob("*"):
            try:
                used_bytes += self._store.path(Digest(bytes.fromhex(marker.name))).stat().st_size
            except FileNotFoundError:
                marker.unlink(missing_ok=True)
        self._used[peer] = used_bytes

"""How much disk others may use here. What this node keeps for itself, or asks for, is not counted.

Who pushed a content is kept as an empty file ``by/<peer>/<digest>`` beside the contents: it survives restarts, and a
content that was dropped stops counting without anybody being told.
"""

import shutil

from veil.config import MeshLimits
from veil.errors import LimitExceeded
from veil.mesh.blobs import BlobStore
from veil.types import Digest, PeerId


class Quota:
    """What each peer uses of the disk. Sizes are in bytes."""

    def __init__(self, store: BlobStore, *, peer_max_bytes: int, max_bytes: int, free_min_bytes: int = 0) -> None:
        self._store = store
        self._peer_max_bytes = peer_max_bytes
        self._max_bytes = max_bytes
        self._free_min_bytes = free_min_bytes
        self._directory = store.directory / "by"
        self._directory.mkdir(exist_ok=True, mode=0o700)
        self._used: dict[PeerId, int] = {PeerId(bytes.fromhex(path.name)): 0 for path in self._directory.iterdir()}
        self._reserved: dict[tuple[PeerId, Digest], int] = {}
        for peer in self._used:
            self._count(peer)

    @classmethod
    def within(cls, store: BlobStore, limits: MeshLimits) -> "Quota":
        """As the settings say."""
        return cls(
            store,
            peer_max_bytes=limits.peer_disk_mib * 1024**2,
            max_bytes=limits.disk_mib * 1024**2,
            free_min_bytes=limits.disk_free_mib * 1024**2,
        )

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
        if shutil.disk_usage(self._directory).free < size_bytes + self._free_min_bytes:
            raise LimitExceeded(f"the disk has less than {self._free_min_bytes} bytes left (VEIL_MESH_DISK_FREE_MIB)")
        if self.used(peer) + size_bytes > self._peer_max_bytes:
            self._count(peer)
            if self.used(peer) + size_bytes > self._peer_max_bytes:
                raise LimitExceeded(
                    f"this peer's contents take {self.used(peer)} of {self._peer_max_bytes} bytes (VEIL_MESH_PEER_DISK_MIB)"
                )
        if self._total() + size_bytes > self._max_bytes:
            for other in list(self._used):
                self._count(other)
            if self._total() + size_bytes > self._max_bytes:
                raise LimitExceeded(f"all peers' contents take {self._total()} of {self._max_bytes} bytes (VEIL_MESH_DISK_MIB)")

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

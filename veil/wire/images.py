"""The images that a cluster allows: the registry holds a Merkle root over their manifests, this list is what is under it."""

from collections.abc import Collection
from typing import Annotated

from eth_hash.auto import keccak
from msgspec import Meta

from veil.types import Digest
from veil.wire.codec import Message
from veil.wire.merkle import proof_of, root_of
from veil.wire.objects import Bytes32

IMAGES_MAX = 4096
"""Manifests in one list."""

EVERY_IMAGE = Digest(bytes(32))
"""The root that allows all images."""


class ImageList(Message, frozen=True, tag="veil/image-list.1"):
    """SHA-256 digests of image manifests, ascending, none twice. Its own digest is in the registry beside the root."""

    manifests: Annotated[tuple[Bytes32, ...], Meta(max_length=IMAGES_MAX)] = ()

    @property
    def root(self) -> Digest:
        return root_of([image_leaf(manifest) for manifest in self.manifests]) if self.manifests else EVERY_IMAGE

    def proof(self, manifest: bytes) -> tuple[Digest, ...]:
        """That ``manifest`` is in the list. Raises ValueError when it is not."""
        return proof_of([image_leaf(one) for one in self.manifests], self.manifests.index(manifest))

    def changed(self, *, added: Collection[bytes] = (), removed: Collection[bytes] = ()) -> "ImageList":
        """The list with some more and some less."""
        return ImageList(manifests=tuple(sorted(set(self.manifests).union(added).difference(removed))))


def image_leaf(manifest: bytes) -> Digest:
    """Hashed twice, as the registry does."""
    return Digest(keccak(keccak(manifest)))

"""Which images this node may run: what the registry says, with the list of them that the mesh keeps.

The registry has a Merkle root over the manifests that are allowed, and the digest of their list. The list is fetched by that
digest from whoever has it, kept here for others, and counts only if the root over it is the registry's. Until it is here,
nothing that is restricted starts. Beside it the registry may say for single names which manifest they stand for.
"""

import logging

from eth_hash.auto import keccak

from veil.agent.images import Refusal
from veil.agent.status import IMAGE_LIST_MISSING, IMAGE_NOT_ALLOWED
from veil.errors import ImageUnavailable, MeshUnavailable, NotFound, WireInvalid
from veil.mesh.ports import Mesh
from veil.runtime.reference import parse_reference
from veil.store.projection import Projection
from veil.types import Digest
from veil.wire.codec import decode
from veil.wire.images import IMAGES_MAX, ImageList

log = logging.getLogger(__name__)

FETCH_TIMEOUT_S = 5.0
LIST_MAX_BYTES = 64 * IMAGES_MAX
_SHA256 = "sha256:"


def image_name(image: str) -> Digest:
    """Under what the registry keeps the manifest of an image's name. Raises ImageUnavailable for what is no name."""
    full, _, _ = str(parse_reference(image)).partition("@")
    return Digest(keccak(full.encode()))


class AllowedImages:
    """Implements :class:`veil.agent.images.ImagePolicy`."""

    def __init__(self, projection: Projection, mesh: Mesh) -> None:
        self._projection = projection
        self._mesh = mesh
        self._root: Digest | None = None
        self._manifests: frozenset[bytes] = frozenset()

    async def sync(self) -> None:
        """Fetch the list that the registry names now. Raises MeshUnavailable while nobody reachable has it."""
        wanted = self._projection.images()
        if wanted is None or wanted.root == self._root:
            return
        try:
            content = await self._mesh.get(wanted.images, deadline_s=FETCH_TIMEOUT_S)
        except NotFound as error:
            raise MeshUnavailable(f"no reachable member has the list of allowed images {wanted.images.hex()[:16]}") from error
        try:
            found = decode(content, ImageList, max_bytes=LIST_MAX_BYTES)
        except WireInvalid as error:
            log.warning("the list of allowed images %s cannot be read: %s", wanted.images.hex()[:16], error)
            return
        if found.root != wanted.root:
            log.warning("the list of allowed images %s is not what the registry's root is over", wanted.images.hex()[:16])
            return
        await self._mesh.put(content)
        self._root, self._manifests = wanted.root, frozenset(found.manifests)
        log.info("%d images are allowed", len(self._manifests))

    @property
    def restricts(self) -> bool:
        return self._projection.images() is not None or self._projection.commits_images()

    def refusal(self, image: str, manifest: str) -> Refusal | None:
        here = bytes.fromhex(manifest.removeprefix(_SHA256))
        try:
            committed = self._projection.manifest(image_name(image))
        except ImageUnavailable:
            committed = None
        if committed is not None and committed != here:
            text = f"the registry says that {image} is {_SHA256}{committed.hex()}; here it is {manifest or 'no image at all'}"
            return Refusal(IMAGE_NOT_ALLOWED, text)
        wanted = self._projection.images()
        if wanted is None or (wanted.root == self._root and here in self._manifests):
            return None
        if wanted.root != self._root:
            return Refusal(IMAGE_LIST_MISSING, "the list of the images that the registry allows is not here yet")
        return Refusal(IMAGE_NOT_ALLOWED, f"the registry does not allow {image} ({manifest or 'no image at all'})")

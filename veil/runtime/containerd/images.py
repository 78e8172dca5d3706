"""Images in containerd: from a source (registry or archive) to unpacked layers and a record under the image's name.

containerd 1.6 has no service that pulls, so this does: blobs into the content store, layers into snapshots, labels from
document to document so that containerd's garbage collector keeps exactly what the record needs, and a lease over it all until
the record is there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from veil.errors import AlreadyExists, ImageUnavailable, NotFound
from veil.runtime.containerd import content
from veil.runtime.containerd.connection import Connection
from veil.runtime.containerd.schema import message
from veil.runtime.containerd.snapshots import Snapshots, chain_id
from veil.runtime.credentials import Login, login_for
from veil.runtime.layout import LayoutSource
from veil.runtime.oci import Descriptor, Manifest, Source, resolve
from veil.runtime.ports import Image as NamedImage
from veil.runtime.reference import parse_reference
from veil.runtime.registry import RegistrySource

PARALLEL_BLOBS = 3
REMOVE_DEADLINE_S = 120.0
LABEL_PULLED = "veil.dev/pulled"
"""On the record of an image that came from a registry, and could come from there again."""
LABEL_GUARDED = "veil.dev/guarded"
"""On the record of an image that was fetched with a caller's own login: the registry says who else may have it."""


@dataclass(frozen=True, slots=True)
class Image:
    """An unpacked image: its manifest's digest, the snapshot to stand on, and the config's defaults for a process."""

    digest: str
    chain: str
    config: dict[str, Any] = field(default_factory=dict)


class Images:
    """The images of one namespace."""

    def __init__(self, connection: Connection, snapshots: Snapshots, credentials: Path | None = None) -> None:
        """``credentials``: the file of registry logins."""
        self._credentials = credentials
        self._connection = connection
        self._snapshots = snapshots
        self._known: dict[str, Image] = {}
        self._pulls: dict[str, asyncio.Lock] = {}
        self._granted: set[tuple[str, str, Login]] = set()
        """Names with the manifest that the registry gave to this login, of those that are guarded."""

    async def get(self, name: str) -> Image:
        """Raises ImageUnavailable when the image is not here, whole and unpacked."""
        return (await self._find(str(parse_reference(name))))[0]

    async def _find(self, full: str) -> tuple[Image, bool]:
        """It, and whether it is guarded."""
        try:
            record = (await self._connection.call("images", "Get", name=full)).image
            image = self._known.get(record.target.digest) or await self._read(record.target.digest)
        except NotFound as error:
            raise ImageUnavailable(f"image {full} is not on this node", hint="pull it first") from error
        self._known[image.digest] = image
        return image, LABEL_GUARDED in record.labels

    async def pull(self, name: str, own: Login | None = None) -> str:
        """``own``: the caller's login. Raises ImageUnavailable, DigestMismatch."""
        reference = parse_reference(name)
        full, here = str(reference), ""
        async with self._pulls.setdefault(full, asyncio.Lock()):
            with contextlib.suppress(ImageUnavailable):
                image, guarded = await self._find(full)
                here = image.digest if await self._snapshots.exists(image.chain) else ""
                if here and (not guarded or (own is not None and (full, here, own) in self._granted)):
                    return here
            login = own or await asyncio.to_thread(login_for, self._credentials, reference.registry)
            async with RegistrySource(reference, login) as source:
                manifest = await resolve(source, full)
                digest = manifest.descriptor.digest
                if digest != here:
                    labels = {LABEL_PULLED: "true"} | ({LABEL_GUARDED: "true"} if own is not None else {})
                    await self._ingest(full, source, manifest, labels=labels)
            if own is not None:
                self._granted.add((full, digest, own))
            return digest

    async def list(self) -> "list[NamedImage]":
        found = (await self._connection.call("images", "List")).images
        return [NamedImage(name=image.name, pulled=LABEL_PULLED in image.labels) for image in found]

    async def remove(self, name: str) -> None:
        """containerd collects what nothing else needs before it answers."""
        with contextlib.suppress(NotFound):
            await self._connection.call("images", "Delete", deadline_s=REMOVE_DEADLINE_S, name=name, sync=True)

    async def load(self, name: str, archive: Path) -> str:
        """Raises ImageUnavailable, DigestMismatch."""
        async with LayoutSource(archive) as source:
            full = str(parse_reference(name))
            manifest = await resolve(source, full)
            await self._ingest(full, source, manifest)
            return manifest.descriptor.digest

    async def _ingest(
        self, name: str, source: Source, manifest: Manifest, *, labels: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        slots = asyncio.Semaphore(PARALLEL_BLOBS)
        async with self._connection.lease() as lease:

            async def fetch(descriptor: Descriptor) -> None:
                async with slots:
                    await content.write(
                        self._connection,
                        descriptor.digest,
                        descriptor.size_bytes,
                        source.blob(descriptor),
                        labels={},
                        lease=lease,
                    )

            try:
                async with asyncio.TaskGroup() as group:
                    for descriptor in {manifest.config, *manifest.layers}:
                        group.create_task(fetch(descriptor))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
            chain = await self._unpack(manifest, name, lease)
            await self._store_manifest(manifest, chain, lease)
            await self._record(name, manifest, lease, labels)

    async def _unpack(self, manifest: Manifest, name: str, lease: str) -> str:
        config = await content.read_json(self._connection, manifest.config.digest)
        diff_ids = _diff_ids(config)
        if len(diff_ids) != len(manifest.layers):
            raise ImageUnavailable(f"image {name}: its config does not match its layers", hint="build the image anew")
        chain = ""
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            chain = await self._snapshots.unpack(layer, diff_id, chain, lease=lease)
        return chain

    async def _store_manifest(self, manifest: Manifest, chain: str, lease: str) -> None:
        """The manifest keeps its parts, the config keeps the snapshot: containerd's own convention."""
        labels = {"containerd.io/gc.ref.content.config": manifest.config.digest}
        labels |= {f"containerd.io/gc.ref.content.l.{i}": layer.digest for i, layer in enumerate(manifest.layers)}
        await content.label(
            self._connection,
            manifest.config.digest,
            {f"containerd.io/gc.ref.snapshot.{self._snapshots.snapshotter}": chain},
        )
        descriptor = manifest.descriptor
        await content.write(
            self._connection, descriptor.digest, descriptor.size_bytes, _once(manifest.raw), labels=labels, lease=lease
        )

    async def _record(self, name: str, manifest: Manifest, lease: str, labels: Mapping[str, str]) -> None:
        descriptor = manifest.descriptor
        target = message("containerd.types.Descriptor")(
            media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size_bytes
        )
        image = message("containerd.services.images.v1.Image")(name=name, target=target, labels=labels)
        try:
            await self._connection.call("images", "Create", lease=lease, image=image)
        except AlreadyExists:
            await self._connection.call("images", "Update", lease=lease, image=image)

    async def _read(self, digest: str) -> Image:
        manifest = await content.read_json(self._connection, digest)
        config = await content.read_json(self._connection, manifest["config"]["digest"])
        chain = ""
        for diff_id in _diff_ids(config):
            chain = chain_id(chain, diff_id)
        return Image(digest, chain, config.get("config") or {})


def _diff_ids(config: dict[str, Any]) -> list[str]:
    found = (config.get("rootfs") or {}).get("diff_ids")
    if not isinstance(found, list):
        raise ImageUnavailable("an image config without rootfs", hint="this is no container image")
    return found


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data

"""Root file systems: image layers unpacked one on the other, and a writable snapshot on top for each container.

A committed snapshot is named by its chain id (OCI image specification), so that images share their layers on disk. A
container's snapshot has the container's id as key and exists only below the container's record, see ``driver``.
"""

import contextlib
import secrets
from pathlib import Path
from typing import Any

from veil.errors import AlreadyExists, DigestMismatch, NotFound, RuntimeUnavailable
from veil.runtime.containerd import content
from veil.runtime.containerd.connection import Connection
from veil.runtime.containerd.schema import message
from veil.runtime.oci import Descriptor, sha256

UNPACK_DEADLINE_S = 600.0


class Snapshots:
    """The snapshots of one snapshotter (``overlayfs`` or ``native``)."""

    def __init__(self, connection: Connection, snapshotter: str) -> None:
        self._connection = connection
        self.snapshotter = snapshotter

    async def root(self) -> Path:
        """Where the snapshotter keeps them on the machine's disk. Raises RuntimeUnavailable."""
        filters = [f"type==io.containerd.snapshotter.v1,id=={self.snapshotter}"]
        for plugin in (await self._connection.call("introspection", "Plugins", filters=filters)).plugins:
            if root := plugin.exports.get("root"):
                return Path(root)
        raise RuntimeUnavailable(f"containerd has no snapshotter {self.snapshotter}", hint="set VEIL_CONTAINERD_SNAPSHOTTER")

    async def exists(self, key: str) -> bool:
        try:
            await self._call("Stat", key=key)
        except NotFound:
            return False
        return True

    async def prepare(self, key: str, parent: str) -> Any:
        """A writable snapshot on ``parent``; gives its mounts. There already = its mounts."""
        try:
            return (await self._call("Prepare", key=key, parent=parent)).mounts
        except AlreadyExists:
            return (await self._call("Mounts", key=key)).mounts

    async def mounts(self, key: str) -> Any | None:
        """None when there is no such snapshot."""
        try:
            return (await self._call("Mounts", key=key)).mounts
        except NotFound:
            return None

    async def usage(self, key: str) -> int:
        """Bytes that the snapshot itself takes, without those below it; 0 when there is none."""
        try:
            return int((await self._call("Usage", key=key)).size)
        except NotFound:
            return 0

    async def remove(self, key: str) -> None:
        with contextlib.suppress(NotFound):
            await self._call("Remove", key=key)

    async def unpack(self, layer: Descriptor, diff_id: str, parent: str, *, lease: str) -> str:
        """Unpack ``layer`` on ``parent`` if nobody has yet; gives the chain id. Raises DigestMismatch."""
        chain = chain_id(parent, diff_id)
        await content.keep(self._connection, lease, chain, f"snapshots/{self.snapshotter}")
        if await self.exists(chain):
            return chain
        key = f"extract-{secrets.token_hex(8)} {chain}"
        labels = {"containerd.io/snapshot.ref": chain}
        prepared = await self._call("Prepare", lease=lease, key=key, parent=parent, labels=labels)
        try:
            await self._apply(layer, diff_id, prepared.mounts, lease)
            await self._call("Commit", lease=lease, name=chain, key=key)
        except AlreadyExists:
            await self.remove(key)
        except BaseException:
            await self.remove(key)
            raise
        return chain

    async def _apply(self, layer: Descriptor, diff_id: str, mounts: Any, lease: str) -> None:
        descriptor = message("containerd.types.Descriptor")(
            media_type=layer.media_type, digest=layer.digest, size=layer.size_bytes
        )
        applied = await self._connection.call(
            "diff", "Apply", deadline_s=UNPACK_DEADLINE_S, lease=lease, diff=descriptor, mounts=mounts
        )
        if applied.applied.digest != diff_id:
            raise DigestMismatch(
                f"layer {layer.digest} unpacks to {applied.applied.digest}, its image says {diff_id}",
                hint="the image is broken: build it anew",
            )
        await content.label(self._connection, layer.digest, {"containerd.io/uncompressed": diff_id})

    async def _call(self, method: str, /, *, lease: str = "", **fields: Any) -> Any:
        return await self._connection.call("snapshots", method, lease=lease, snapshotter=self.snapshotter, **fields)


def chain_id(parent: str, diff_id: str) -> str:
    """The name of a layer together with all below it (``parent`` is empty for the lowest)."""
    return sha256(f"{parent} {diff_id}".encode()) if parent else diff_id

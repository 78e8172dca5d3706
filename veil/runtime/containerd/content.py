"""Blobs in containerd's content store: streamed in, verified on the way, read back."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio

from veil.errors import AlreadyExists, ContainerFailed, DigestMismatch, NotFound
from veil.runtime.containerd.connection import Connection, translate
from veil.runtime.containerd.schema import message

WRITE_DEADLINE_S = 1800.0
READ_DEADLINE_S = 60.0
MAX_READ_BYTES = 8 << 20
"""Only manifests and configs are read back; layers never are."""

_STAT, _WRITE, _COMMIT = 0, 1, 2


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def has(connection: Connection, digest: str) -> bool:
    try:
        await connection.call("content", "Info", digest=digest)
    except NotFound:
        return False
    return True


async def read(connection: Connection, digest: str) -> bytes:
    """A whole blob. Raises NotFound, DigestMismatch (the store is damaged)."""
    data = bytearray()
    async for part in connection.download("content", "Read", deadline_s=READ_DEADLINE_S, digest=digest, size=MAX_READ_BYTES):
        data += part.data
    if sha256(bytes(data)) != digest:
        raise DigestMismatch(f"content {digest} in containerd's store is damaged", hint="remove the image and pull it again")
    return bytes(data)


async def read_json(connection: Connection, digest: str) -> dict[str, Any]:
    value = json.loads(await read(connection, digest))
    if not isinstance(value, dict):
        raise ContainerFailed(f"content {digest} is no JSON object", hint="the image is not an OCI image")
    return value


async def label(connection: Connection, digest: str, labels: Mapping[str, str]) -> None:
    """Set labels: they are what containerd's garbage collector follows from blob to blob and to snapshots."""
    info = message("containerd.services.content.v1.Info")(digest=digest, labels=labels)
    mask = message("google.protobuf.FieldMask")(paths=[f"labels.{key}" for key in labels])
    await connection.call("content", "Update", info=info, update_mask=mask)


async def keep(connection: Connection, lease: str, id: str, kind: str) -> None:
    """Put something that was there already under the lease too. ``kind``: ``content`` or ``snapshots/<snapshotter>``."""
    resource = message("containerd.services.leases.v1.Resource")(id=id, type=kind)
    await connection.call("leases", "AddResource", id=lease, resource=resource)


async def write(
    connection: Connection, digest: str, size_bytes: int, chunks: AsyncIterator[bytes], *, labels: Mapping[str, str], lease: str
) -> None:
    """Store a blob; it is committed only if its size and digest are right. There already = nothing is read from ``chunks``.

    What is there may be about to be collected: nobody may have kept it since an earlier pull failed. So it is put under the
    lease first and looked for afterwards; the collector holds a lock from its mark to its sweep. Raises DigestMismatch.
    """
    await keep(connection, lease, digest, "content")
    if not await has(connection, digest):
        with contextlib.suppress(AlreadyExists):
            await _stream(connection, digest, size_bytes, chunks, lease)
    if labels:
        await label(connection, digest, labels)


async def _stream(connection: Connection, digest: str, size_bytes: int, chunks: AsyncIterator[bytes], lease: str) -> None:
    """The write protocol: STAT and its answer first (a half-sent WRITE hides ALREADY_EXISTS), then drain to the end.

    containerd answers COMMIT twice; a call whose answers are not all read never ends. The reference has the lease in its
    name: two pulls of one blob do not lock each other out.
    """
    call = connection.open("content", "Write", deadline_s=WRITE_DEADLINE_S, lease=lease)
    fields: dict[str, Any] = {"ref": f"{lease}-{digest}", "total": size_bytes, "expected": digest}
    request = message("containerd.services.content.v1.WriteContentRequest")
    hasher, offset = hashlib.sha256(), 0
    try:
        await call.write(request(action=_STAT, **fields))
        if await call.read() is not grpc.aio.EOF:
            async for chunk in chunks:
                hasher.update(chunk)
                if offset + len(chunk) > size_bytes:
                    raise _mismatch(digest, f"more than {size_bytes} bytes")
                await call.write(request(action=_WRITE, offset=offset, data=chunk, **fields))
                await call.read()
                offset += len(chunk)
            if offset != size_bytes or "sha256:" + hasher.hexdigest() != digest:
                raise _mismatch(digest, f"{offset} bytes with sha256:{hasher.hexdigest()}")
            await call.write(request(action=_COMMIT, offset=offset, **fields))
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        raise translate(error, "content.Write", connection.socket) from error
    finally:
        if not call.done():
            call.cancel()
    if await call.code() is not grpc.StatusCode.OK:
        ended = grpc.aio.AioRpcError(await call.code(), grpc.aio.Metadata(), grpc.aio.Metadata(), await call.details())
        raise translate(ended, "content.Write", connection.socket)


def _mismatch(digest: str, got: str) -> DigestMismatch:
    return DigestMismatch(f"content {digest}: received {got}", hint="the registry or archive is broken or lies; nothing was kept")

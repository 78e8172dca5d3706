"""Reading an image out of an OCI image layout in a tar: members by name, in pieces, nothing unpacked to disk.

Source: the OCI image layout specification 1.0.
"""

import asyncio
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from veil.errors import ImageUnavailable
from veil.runtime.oci import INDEX_TYPES, MAX_MANIFEST_BYTES, Descriptor

_CHUNK_BYTES = 1 << 20


class LayoutSource:
    """An archive as a source of one image. Use as ``async with``. Raises ImageUnavailable when it is no such archive."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._tar: tarfile.TarFile | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> "LayoutSource":
        try:
            self._tar = await asyncio.to_thread(_open_indexed, self._archive)
        except (OSError, tarfile.TarError) as error:
            raise ImageUnavailable(f"{self._archive}: {error}", hint="give an uncompressed tar of an OCI image layout") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._tar is not None
        self._tar.close()

    async def root(self) -> tuple[bytes, str]:
        return await self._whole("index.json"), INDEX_TYPES[0]

    async def document(self, descriptor: Descriptor) -> bytes:
        return await self._whole(_member(descriptor))

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        file = self._open(_member(descriptor))
        while chunk := await self._read(file, _CHUNK_BYTES):
            yield chunk

    async def _whole(self, name: str) -> bytes:
        return await self._read(self._open(name), MAX_MANIFEST_BYTES + 1)

    async def _read(self, file: IO[bytes], count: int) -> bytes:
        """The members share one file position."""
        async with self._lock:
            return await asyncio.to_thread(file.read, count)

    def _open(self, name: str) -> IO[bytes]:
        assert self._tar is not None
        try:
            file = self._tar.extractfile(name)
        except KeyError:
            file = None
        if file is None:
            raise ImageUnavailable(f"{self._archive} holds no {name}", hint="give a tar of an OCI image layout")
        return file


def _open_indexed(archive: Path) -> tarfile.TarFile:
    """Open and read all headers now: looking up a member later does not move the file's position."""
    tar = tarfile.open(archive, "r:")  # noqa: SIM115
    try:
        tar.getmembers()
    except BaseException:
        tar.close()
        raise
    return tar


def _member(descriptor: Descriptor) -> str:
    return "blobs/" + descriptor.digest.replace(":", "/")

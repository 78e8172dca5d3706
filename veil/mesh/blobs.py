"""Contents by their SHA-256, one file each, in a directory that a node and its meshd share.

A content is written under a temporary name, verified, made durable and then renamed: a file under its digest's name is
whole. It is verified again on every read, because disks lie too. The calls block; callers use a thread.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from veil.errors import DigestMismatch, LimitExceeded, NotFound
from veil.mesh.ports import BLOB_MAX_BYTES
from veil.types import Digest
from veil.wire.codec import sha256

_UNFINISHED = ".part-"
_BEGUN = ".fetch-"

BEGUN_KEPT_S = 86_400
"""How long the beginning of a fetched content is kept, to go on from there."""

READ_BYTES = 1024 * 1024


class Receiving:
    """A content on its way in, from its first byte to its last."""

    def __init__(self, file: IO[bytes]) -> None:
        self.size_bytes = 0
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Raises LimitExceeded past BLOB_MAX_BYTES."""
        self.size_bytes += len(chunk)
        if self.size_bytes > BLOB_MAX_BYTES:
            raise LimitExceeded(f"a blob of over BLOB_MAX_BYTES={BLOB_MAX_BYTES}")
        self._hash.update(chunk)
        self._file.write(chunk)

    def catch_up(self) -> None:
        """Takes what the file has already as written."""
        while chunk := self._file.read(READ_BYTES):
            self._hash.update(chunk)
            self.size_bytes += len(chunk)

    def digest(self) -> Digest:
        return Digest(self._hash.digest())

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


class BlobStore:
    """The files of one node."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory

    def put(self, content: bytes) -> Digest:
        """Keeps ``content``. Raises LimitExceeded."""
        digest = sha256(content)
        if not self.has(digest):
            with self.receive(digest) as receiving:
                receiving.write(content)
        return digest

    @contextmanager
    def receive(self, digest: Digest) -> Iterator[Receiving]:
        """Keeps what is written inside. Raises DigestMismatch at the end, and keeps nothing, if it is another content."""
        descriptor, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=self.directory)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                receiving = Receiving(file)
                yield receiving
                self._check(receiving, digest)
            temporary.replace(self.path(digest))
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def resume(self, digest: Digest) -> Iterator[Receiving]:
        """As :meth:`receive`, but what was written before an error stays: :meth:`Receiving.catch_up` first.

        For one caller at a time. After a DigestMismatch nothing stays, since nobody knows which byte is wrong.
        """
        begun = self.directory / f"{_BEGUN}{digest.hex()}"
        with begun.open("a+b") as file:
            file.seek(0)
            receiving = Receiving(file)
            try:
                yield receiving
                self._check(receiving, digest)
            except BaseException as error:
                if isinstance(error, DigestMismatch) or receiving.size_bytes == 0:
                    begun.unlink(missing_ok=True)
                raise
        begun.replace(self.path(digest))

    def read(self, digest: Digest) -> bytes:
        """The content. Raises NotFound, or DigestMismatch when the file has changed; it is removed then."""
        try:
            content = self.path(digest).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"blob {digest.hex()} is not kept here") from error
        if sha256(content) != digest:
            self.drop(digest)
            raise DigestMismatch(f"blob {digest.hex()}: the file kept here was changed")
        return content

    def open(self, digest: Digest) -> tuple[IO[bytes], int]:
        """For streaming it out (the receiver verifies), with its size. Raises NotFound."""
        try:
            file = self.path(digest).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"blob {digest.hex()} is not kept here") from error
        return file, os.fstat(file.fileno()).st_size

    def has(self, digest: Digest) -> bool:
        return self.path(digest).exists()

    def drop(self, digest: Digest) -> None:
        self.path(digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes what a killed process left unfinished. Only while nothing is being received."""
        for path in self.directory.glob(f"{_UNFINISHED}*"):
            path.unlink(missing_ok=True)
        for path in self.directory.glob(f"{_BEGUN}*"):
            if time.time() - path.stat().st_mtime > BEGUN_KEPT_S:
                path.unlink(missing_ok=True)

    def path(self, digest: Digest) -> Path:
        """Where the content is, if it is here."""
        return self.directory / digest.hex()

    @staticmethod
    def _check(receiving: Receiving, digest: Digest) -> None:
        if receiving.digest() != digest:
            raise DigestMismatch(f"blob {digest.hex()}: the bytes received have another digest")
        receiving.sync()

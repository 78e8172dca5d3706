"""What an auditor needs of placement rounds, kept as files of this node: transcripts by round, leaves by their hash.

Kept for the cluster's retention and within a byte limit, the oldest go first. Files are the owner's alone (0600) and not sealed:
a transcript holds ciphertexts, digests and signatures, the partials in it open to the decision that its coordinator and the
committee know anyway, and the key that would seal it lies in the same directory. Each file begins with the digest of its
content; one that does not have it is named and not used. Losing a file costs an audit, nothing else, so nothing is synced.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from veil.errors import DigestMismatch, LimitExceeded, StorageUnavailable, WireInvalid
from veil.types import DIGEST_BYTES, Clock, Digest, RoundId
from veil.wire.codec import Message, decode, encode, sha256
from veil.wire.policy import ClusterPolicy
from veil.wire.rounds import Bound, Transcript

log = logging.getLogger(__name__)

TRANSCRIPT_RETENTION_S = ClusterPolicy().transcript_retention_s
"""How long, where the cluster's policy does not say."""

TRANSCRIPTS_MAX_BYTES = 512 << 20
"""A member's transcript of a round with 64 candidates has about 1 MiB: some hundred of the largest rounds."""

BLOCK_BYTES = 4096
"""What a small file takes on most disks: sizes are counted in whole blocks."""

Role = Literal["coordinator", "member"]
M = TypeVar("M", bound=Message)


class _Kept(NamedTuple):
    size_bytes: int
    at_s: float


class Transcripts:
    """Used from one thread. ``retention_s`` is asked at each look, because the policy may change."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        retention_s: Callable[[], float] = lambda: TRANSCRIPT_RETENTION_S,
        max_bytes: int = TRANSCRIPTS_MAX_BYTES,
    ) -> None:
        """Raises StorageUnavailable when ``directory`` cannot be made or read."""
        self._directory = directory
        self._clock = clock
        self._retention_s = retention_s
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, _Kept] = OrderedDict()
        """By name, oldest first."""
        self._total_bytes = 0
        self._load()

    def _load(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = []
            for path in self._directory.iterdir():
                if path.suffix == ".new":
                    path.unlink(missing_ok=True)
                elif path.suffix in (".coordinator", ".member", ".leaf"):
                    stat = path.stat()
                    found.append((stat.st_mtime, path.name, _on_disk(stat.st_size)))
        except OSError as error:
            raise _unavailable(self._directory, error) from error
        for at_s, name, size_bytes in sorted(found):
            self._files[name] = _Kept(size_bytes, at_s)
            self._total_bytes += size_bytes

    @property
    def total_bytes(self) -> int:
        return self._total_bytes

    # transcripts

    def keep(self, round: RoundId, role: Role, transcript: Transcript) -> None:
        """Replaces an earlier one of the same round and role. Raises StorageUnavailable, LimitExceeded."""
        self._write(_name(round, role), encode(transcript))

    def find(self, round: RoundId, role: Role) -> Transcript | None:
        """None when it was never kept, or not for so long. Raises DigestMismatch for a damaged file, naming it."""
        return self._read(_name(round, role), Transcript)

    # leaves

    def keep_leaf(self, leaf: Digest, bound: Bound) -> None:
        """``leaf``: the leaf's hash in the log. Raises StorageUnavailable."""
        self._write(f"{leaf.hex()}.leaf", encode(bound))

    def find_leaf(self, leaf: Digest) -> Bound | None:
        """Raises DigestMismatch for a damaged file, naming it."""
        return self._read(f"{leaf.hex()}.leaf", Bound)

    # files

    def prune(self) -> None:
        """Remove what is older than the retention. Raises StorageUnavailable."""
        oldest_s = self._clock.now_s() - self._retention_s()
        while self._files and next(iter(self._files.values())).at_s < oldest_s:
            self._remove(next(iter(self._files)))

    def _write(self, name: str, data: bytes) -> None:
        content = sha256(data) + data
        size_bytes = _on_disk(len(content))
        if size_bytes > self._max_bytes:
            raise LimitExceeded(f"{name} of {len(content)} bytes is over TRANSCRIPTS_MAX_BYTES={self._max_bytes}")
        self.prune()
        if name in self._files:
            self._remove(name)
        while self._total_bytes + size_bytes > self._max_bytes:
            self._remove(next(iter(self._files)))
        path, draft, now_s = self._directory / name, self._directory / f"{name}.new", self._clock.now_s()
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            os.utime(draft, (now_s, now_s))
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise _unavailable(path, error) from error
        self._files[name] = _Kept(size_bytes, now_s)
        self._total_bytes += size_bytes

    def _read(self, name: str, kind: type[M]) -> M | None:
        if name not in self._files:
            return None
        path = self._directory / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(path, error) from error
        data = content[DIGEST_BYTES:]
        try:
            if sha256(data) != content[:DIGEST_BYTES]:
                raise WireInvalid("its content does not have its digest")
            return decode(data, kind)
        except WireInvalid as error:
            raise DigestMismatch(
                f"{path} is damaged: {error.message}", hint="remove it; see whether the disk is sound"
            ) from error

    def _remove(self, name: str) -> None:
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise _unavailable(self._directory / name, error) from error
        self._total_bytes -= self._files.pop(name).size_bytes


def _on_disk(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _name(round: RoundId, role: Role) -> str:
    return f"{round.hex()}.{role}"


def _unavailable(path: Path, error: OSError) -> StorageUnavailable:
    return StorageUnavailable(f"{path}: {error.strerror}", hint="free or mount the disk")

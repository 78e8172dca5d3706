"""One reader in one log: where it begins, what comes next, and the time before each line."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from veil.agent.log_files import LOG_FILES_MAX, predecessors, rotated
from veil.agent.log_index import arrived_s, load, offset_since

CHUNK_BYTES = 64 * 1024
BACKWARD_BYTES = 64 * 1024


class LogReader:
    """Reads ``path`` from its oldest predecessor on, through rotation, which copies and cuts the file, and through restarts,
    which put another in its place.

    ``rotations`` counts how often the file was cut so far; nothing is rotated or put aside while ``lock`` is held.
    """

    def __init__(
        self,
        path: Path,
        *,
        timestamps: bool = False,
        rotations: Callable[[], int] = lambda: 0,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self._path = path
        self._timestamps = timestamps
        self._rotations = rotations
        self._lock = lock or nullcontext()
        self._parts: list[_Part] = []
        """What is to be read, in order; the last is the file that is written to."""
        self._seen_rotations = 0
        self._in_line = False

    def seek(self, tail_lines: int | None, oldest_s: float | None) -> None:
        """Go to where reading begins. A file that is not there yet is read from its beginning."""
        with self._lock:
            self._seen_rotations = self._rotations()
            if not self._path.exists():
                return
            self._parts = [_Part(path) for path in (*predecessors(self._path), self._path)]
        first, offset = 0, 0
        if oldest_s is not None:
            first, offset = _since(self._parts, oldest_s)
        if tail_lines is not None:
            first, offset = max((first, offset), _tail(self._parts, tail_lines))
        for part in self._parts[:first]:
            part.file.close()
        del self._parts[:first]
        self._parts[0].offset = offset

    def take(self, *, whole_lines: bool, now_s: float) -> bytes:
        """The next bytes, empty when there are none (``whole_lines``: up to the last newline, so that streams do not mix)."""
        self._keep_up()
        while self._parts:
            part, growing = self._parts[0], len(self._parts) == 1
            chunk = part.next(whole_lines=whole_lines and growing)
            if not chunk and growing:
                if not self._replaced():
                    return b""
                chunk = part.next(whole_lines=False)
            if chunk:
                return b"".join(self._stamped(chunk, part, now_s)) if self._timestamps else chunk
            part.file.close()
            self._parts.pop(0)
            if growing:
                self._in_line = False
                self._keep_up()
        return b""

    def close(self) -> None:
        for part in self._parts:
            part.file.close()
        self._parts = []

    def _keep_up(self) -> None:
        """What was rotated away since the last time is read from where it is now."""
        with self._lock:
            behind = self._rotations() - self._seen_rotations
            self._seen_rotations += behind
            if not self._parts:
                if self._path.exists():
                    self._parts = [_Part(self._path)]
                return
            if behind:
                cut = self._parts.pop()
                cut.file.close()
                for number in range(min(behind, LOG_FILES_MAX - 1), 0, -1):
                    if (path := rotated(self._path, number)).exists():
                        self._parts.append(_Part(path, cut.offset if number == behind else 0))
                self._parts.append(_Part(self._path))

    def _replaced(self) -> bool:
        """By the file of a run that began since."""
        try:
            return os.stat(self._path).st_ino != os.fstat(self._parts[-1].file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def _stamped(self, chunk: bytes, part: "_Part", now_s: float) -> Iterator[bytes]:
        offset = part.offset - len(chunk)
        if part is self._parts[-1] and (not part.arrivals or part.arrivals[-1].end < part.offset):
            part.arrivals = load(self._path)
        for line in _lines(chunk):
            if not self._in_line:
                yield _stamp(arrived_s(part.arrivals, offset, now_s))
            yield line
            offset += len(line)
            self._in_line = not line.endswith(b"\n")


class _Part:
    """One file of a log, how far it was read, and when what is in it arrived."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.file = path.open("rb")
        self.offset = offset
        self.arrivals = load(path)

    @property
    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def next(self, *, whole_lines: bool) -> bytes:
        if self.size < self.offset:
            self.offset, self.arrivals = 0, []  # cut by somebody else
        self.file.seek(self.offset)
        chunk = self.file.read(CHUNK_BYTES)
        chunk = chunk[: chunk.rfind(b"\n") + 1] if whole_lines and len(chunk) < CHUNK_BYTES else chunk
        self.offset += len(chunk)
        return chunk

    def after_line(self, offset: int) -> int | None:
        """Where the first line that begins after ``offset`` begins; None when none does."""
        while True:
            self.file.seek(offset)
            block = self.file.read(CHUNK_BYTES)
            newline = block.find(b"\n")
            if newline >= 0:
                return offset + newline + 1
            if len(block) < CHUNK_BYTES:
                return None
            offset += len(block)

    @property
    def ends_line(self) -> bool:
        self.file.seek(max(0, self.size - 1))
        return self.file.read(1) in (b"", b"\n")


def _since(parts: Sequence[_Part], oldest_s: float) -> tuple[int, int]:
    """Part and offset of the first line that arrived then or later: what arrived may begin inside a line that began before."""
    for number, part in enumerate(parts):
        size = part.size
        offset = offset_since(part.arrivals, oldest_s, size)
        if offset >= size and number < len(parts) - 1:
            continue
        if offset > 0:
            start = part.after_line(offset - 1)
        else:
            start = 0 if number == 0 or parts[number - 1].ends_line else part.after_line(0)
        if start is not None:
            return number, start
    return len(parts) - 1, parts[-1].size


def _tail(parts: Sequence[_Part], lines: int) -> tuple[int, int]:
    """Part and offset where the last ``lines`` lines begin; a last line without newline counts."""
    if lines <= 0:
        return len(parts) - 1, parts[-1].size
    newlines, at_the_end = 0, True
    for number in range(len(parts) - 1, -1, -1):
        part = parts[number]
        position = part.size
        while position > 0:
            length = min(BACKWARD_BYTES, position)
            position -= length
            part.file.seek(position)
            block = part.file.read(length)
            for index in range(len(block) - 1, -1, -1):
                if block[index] == 0x0A and not at_the_end:
                    newlines += 1
                    if newlines == lines:
                        return number, position + index + 1
                at_the_end = False
    return 0, 0


def _lines(chunk: bytes) -> Iterator[bytes]:
    *whole, rest = chunk.split(b"\n")
    yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def _stamp(time_s: float) -> bytes:
    """RFC 3339 in UTC, as kubectl prints it."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()

"""One reader in one log file: where it begins, what comes next, and the time before each line."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from veil.agent.log_index import Arrival, arrived_s, load, offset_since

CHUNK_BYTES = 64 * 1024
BACKWARD_BYTES = 64 * 1024


class LogReader:
    """Reads ``path`` on through rotation, which cuts the file, and through restarts, which put another in its place."""

    def __init__(self, path: Path, *, timestamps: bool = False) -> None:
        self._path = path
        self._timestamps = timestamps
        self._file: IO[bytes] | None = None
        self._offset = 0
        self._in_line = False
        self._arrivals: list[Arrival] = []

    def seek(self, tail_lines: int | None, oldest_s: float | None) -> None:
        """Go to where reading begins. A file that is not there yet is read from its beginning."""
        if not self._open():
            return
        assert self._file is not None
        size = os.fstat(self._file.fileno()).st_size
        if oldest_s is not None:
            self._offset = _line_start(self._file, offset_since(load(self._path), oldest_s, size))
        if tail_lines is not None:
            self._offset = max(self._offset, _tail_offset(self._file, size, tail_lines))

    def take(self, *, whole_lines: bool, now_s: float) -> bytes:
        """The next bytes, empty when there are none (``whole_lines``: up to the last newline, so that streams do not mix)."""
        if not self._open():
            return b""
        chunk = self._next(whole_lines=whole_lines)
        if not chunk and self._replaced():
            chunk = self._next(whole_lines=False)
            if not chunk:
                self.close()
                return self.take(whole_lines=whole_lines, now_s=now_s) if self._open() else b""
        start, self._offset = self._offset, self._offset + len(chunk)
        return b"".join(self._stamped(chunk, start, now_s)) if self._timestamps and chunk else chunk

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._offset, self._in_line, self._arrivals = None, 0, False, []

    def _open(self) -> bool:
        if self._file is None and self._path.exists():
            self._file = self._path.open("rb")
        return self._file is not None

    def _replaced(self) -> bool:
        assert self._file is not None
        try:
            return os.stat(self._path).st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def _next(self, *, whole_lines: bool) -> bytes:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._offset:
            self._offset, self._in_line, self._arrivals = 0, False, []  # cut by the rotation
        self._file.seek(self._offset)
        chunk = self._file.read(CHUNK_BYTES)
        return chunk[: chunk.rfind(b"\n") + 1] if whole_lines and len(chunk) < CHUNK_BYTES else chunk

    def _stamped(self, chunk: bytes, offset: int, now_s: float) -> Iterator[bytes]:
        if not self._arrivals or self._arrivals[-1].end < offset + len(chunk):
            self._arrivals = load(self._path)
        for line in _lines(chunk):
            if not self._in_line:
                yield _stamp(arrived_s(self._arrivals, offset, now_s))
            yield line
            offset += len(line)
            self._in_line = not line.endswith(b"\n")


def _lines(chunk: bytes) -> Iterator[bytes]:
    *whole, rest = chunk.split(b"\n")
    yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def _stamp(time_s: float) -> bytes:
    """RFC 3339 in UTC, as kubectl prints it."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()


def _line_start(file: IO[bytes], offset: int) -> int:
    """The beginning of the first line at or after ``offset``: what arrived may begin inside a line that had begun before."""
    while offset > 0:
        file.seek(offset - 1)
        block = file.read(CHUNK_BYTES)
        newline = block.find(b"\n")
        if newline >= 0:
            return offset + newline
        if len(block) < CHUNK_BYTES:
            return offset - 1 + len(block)
        offset += len(block)
    return 0


def _tail_offset(file: IO[bytes], size: int, lines: int) -> int:
    """Where the last ``lines`` lines begin; a last line without newline counts."""
    if lines <= 0:
        return size
    position, newlines = size, 0
    while position > 0:
        length = min(BACKWARD_BYTES, position)
        position -= length
        file.seek(position)
        block = file.read(length)
        for index in range(len(block) - 1, -1, -1):
            if block[index] == 0x0A and position + index != size - 1:
                newlines += 1
                if newlines == lines:
                    return position + index + 1
    return 0

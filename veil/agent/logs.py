"""Containers' log files: read from the end, follow, rotate.

The runtime appends each stream to its own plain file, without timestamps and without anything of ours in between, so logs go on
while the node is away. A file that has grown is copied and cut (its writer holds it open with O_APPEND and goes on at the
start); what is written in the moment between copy and cut is lost, as with logrotate's ``copytruncate``.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from veil.agent.spec import LogPaths
from veil.errors import InvalidInput, NotFound
from veil.types import Clock

STREAMS = ("stdout", "stderr")
LOG_MAX_BYTES = 10 * 1024 * 1024
LOG_FILES_MAX = 5
"""The file written to and its four predecessors: the kubelet's figures."""

POLL_S = 0.1
CHUNK_BYTES = 64 * 1024
_BACKWARD_BYTES = 64 * 1024


class Logs:
    """The log files below one directory."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.paths = LogPaths(root)
        self._clock = clock

    def prepare(self, instance: str, container: str) -> None:
        """Make the directory that the runtime will write to."""
        self.paths.stream(instance, container, STREAMS[0]).parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def remove(self, instance: str) -> None:
        """Forget everything an Instance's containers said."""
        shutil.rmtree(self.paths.instance(instance), ignore_errors=True)

    def containers(self, instance: str) -> list[str]:
        """The containers of an Instance that have logs here."""
        home = self.paths.instance(instance)
        return sorted(path.name for path in home.iterdir()) if home.is_dir() else []

    def choose(self, instance: str, container: str) -> str:
        """The container meant: a name that has logs here, or the only one. Raises NotFound, InvalidInput."""
        names = self.containers(instance)
        if container in names:
            return container
        if container or not names:
            raise NotFound(
                f"no logs of {f'container {container}' if container else 'this Instance'} on its node",
                hint="it has not been started yet, or the container has another name",
            )
        if len(names) > 1:
            raise InvalidInput(f"the Instance has several containers: {', '.join(names)}", hint="name one with --container")
        return names[0]

    def rotate(self) -> int:
        """Copy and cut every file that is over LOG_MAX_BYTES; gives back how many. Blocks: not for the event loop."""
        large = [path for path in self.paths.root.glob("*/*/*.log") if path.stat().st_size > LOG_MAX_BYTES]
        for path in large:
            rotate(path)
        return len(large)

    async def read(
        self,
        instance: str,
        container: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: float | None = None,
        alive: Callable[[], bool] = lambda: True,
    ) -> AsyncIterator[bytes]:
        """What the container said, stdout then stderr (each in its own order), then, with ``follow``, what it goes on saying.

        ``tail_lines``: only so many last lines of each stream. ``since_s``: leave out a stream that said nothing in these last
        seconds. Following ends once ``alive`` says no and everything is read.
        """
        files = [_Reader(self.paths.stream(instance, container, stream)) for stream in STREAMS]
        for file in files:
            await asyncio.to_thread(file.seek, tail_lines, self._oldest_s(since_s))
        while True:
            over = not follow or not alive()
            moved = False
            for file in files:
                while chunk := await asyncio.to_thread(file.take, whole_lines=not over):
                    moved = True
                    yield chunk
            if over:
                return
            if not moved:
                await asyncio.sleep(POLL_S)

    def _oldest_s(self, since_s: float | None) -> float:
        return 0.0 if since_s is None else self._clock.now_s() - since_s


class _Reader:
    """Where one reader is in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def seek(self, tail_lines: int | None, oldest_s: float) -> None:
        """Go to where reading begins. A file that is not there yet is read from its beginning."""
        if not self.path.exists():
            return
        facts = self.path.stat()
        if facts.st_mtime < oldest_s:
            self._offset = facts.st_size
        elif tail_lines is not None:
            self._offset = _tail_offset(self.path, facts.st_size, tail_lines)

    def take(self, *, whole_lines: bool) -> bytes:
        """The next bytes, empty when there are none (``whole_lines``: up to the last newline, so that streams do not mix)."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset = 0  # cut by the rotation
                file.seek(self._offset)
                chunk = file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return b""
        if whole_lines and len(chunk) < CHUNK_BYTES:
            chunk = chunk[: chunk.rfind(b"\n") + 1]
        self._offset += len(chunk)
        return chunk


def _tail_offset(path: Path, size: int, lines: int) -> int:
    """Where the last ``lines`` lines begin; a last line without newline counts."""
    if lines <= 0:
        return size
    with path.open("rb") as file:
        position, newlines = size, 0
        while position > 0:
            length = min(_BACKWARD_BYTES, position)
            position -= length
            file.seek(position)
            block = file.read(length)
            for index in range(len(block) - 1, -1, -1):
                if block[index] == 0x0A and position + index != size - 1:
                    newlines += 1
                    if newlines == lines:
                        return position + index + 1
    return 0


def rotate(path: Path) -> None:
    """``log`` → ``log.1`` → … , the oldest dropped, and the file that the container writes to is cut to nothing."""
    for number in range(LOG_FILES_MAX - 1, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    with path.open("r+b") as file:
        file.truncate(0)

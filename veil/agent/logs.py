"""Containers' log files: written by the runtime, kept, rotated and read here.

The runtime appends each stream to its own plain file, without timestamps and without anything of ours in between, so logs go on
while the node is away; the times are noted beside it (:mod:`veil.agent.log_index`). A file that has grown is copied and cut (its
writer holds it open with O_APPEND and goes on at the start); what is written in the moment between copy and cut is lost, as with
logrotate's ``copytruncate``. When a container is started again, what its last run said is put aside and
kept until the next time.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from threading import Lock

from veil.agent.log_files import LOG_FILES_MAX, previous_of, rotated
from veil.agent.log_index import LogIndex, index_path
from veil.agent.log_reader import LogReader
from veil.agent.spec import LogPaths
from veil.errors import InvalidInput, NotFound
from veil.types import Clock

STREAMS = ("stdout", "stderr")
LOG_MAX_BYTES = 10 * 1024 * 1024
POLL_S = 0.05
"""How often a follower looks."""


class Logs:
    """The log files below one directory."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.paths = LogPaths(root)
        self._clock = clock
        self._indexes: dict[Path, LogIndex] = {}
        self._rotations: Counter[Path] = Counter()
        self._lock = Lock()
        """Observing, rotating and putting aside happen in threads, and exclude each other."""

    def prepare(self, instance: str, container: str) -> None:
        """Make the directory that the runtime will write to."""
        self.paths.stream(instance, container, STREAMS[0]).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            for stream in STREAMS:
                self._know(self.paths.stream(instance, container, stream))

    def put_aside(self, instance: str, container: str) -> None:
        """Before a container is started again: what it said becomes what ``previous`` reads. Who follows reads it to its end."""
        with self._lock:
            for path in (self.paths.stream(instance, container, stream) for stream in STREAMS):
                self._know(path).observe(self._clock.now_s())
                _move(path, previous_of(path))
                for number in range(1, LOG_FILES_MAX):
                    _move(rotated(path, number), rotated(previous_of(path), number))
                self._indexes[path] = LogIndex(path)

    def remove(self, instance: str) -> None:
        """Forget everything an Instance's containers said."""
        home = self.paths.instance(instance)
        with self._lock:
            self._indexes = {path: index for path, index in self._indexes.items() if not path.is_relative_to(home)}
            for path in [path for path in self._rotations if path.is_relative_to(home)]:
                del self._rotations[path]
            shutil.rmtree(home, ignore_errors=True)

    def instances(self) -> set[str]:
        """Those that have logs here."""
        return {path.name for path in self.paths.root.iterdir()} if self.paths.root.is_dir() else set()

    def adopt(self) -> None:
        """Know the files that an agent before this one left. Blocks."""
        with self._lock:
            for stream in STREAMS:
                for path in self.paths.root.glob(f"*/*/{stream}.log"):
                    self._know(path)

    def observe(self, now_s: float) -> None:
        """Note what has come in all files. Blocks for some microseconds each."""
        with self._lock:
            for index in self._indexes.values():
                index.observe(now_s)

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
        with self._lock:
            large = [path for path in self._indexes if path.exists() and path.stat().st_size > LOG_MAX_BYTES]
            for path in large:
                self._indexes[path].observe(self._clock.now_s())
                rotate(path, self._clock.now_s())
                self._indexes[path].cut()
                self._rotations[path] += 1
        return len(large)

    def _know(self, path: Path) -> LogIndex:
        if path not in self._indexes:
            self._indexes[path] = LogIndex(path)
        return self._indexes[path]

    async def read(
        self,
        instance: str,
        container: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: float | None = None,
        timestamps: bool = False,
        previous: bool = False,
        alive: Callable[[], bool] = lambda: True,
    ) -> AsyncGenerator[bytes, None]:
        """What the container's last run said, as far as files are kept, stdout then stderr (each in its own order), then, with
        ``follow``, what it goes on saying, also after it was started again.

        ``tail_lines``: only so many last lines of each stream. ``since_s``: only what arrived in these last seconds.
        ``timestamps``: when it arrived, before each line. ``previous``: of the run before, which is not followed. Following ends
        once ``alive`` says no and everything is read. Raises NotFound when there was no run before.
        """
        paths = [self.paths.stream(instance, container, stream) for stream in STREAMS]
        if previous:
            paths = [aside for aside in map(previous_of, paths) if aside.exists()]
            if not paths:
                raise NotFound(f"container {container} was not started again", hint="leave out --previous")
        files = [self._reader(path, timestamps=timestamps) for path in paths]
        try:
            await asyncio.to_thread(self._begin, files, tail_lines, since_s, self._clock.now_s())
            while True:
                over = previous or not follow or not alive()
                moved = False
                for file in files:
                    while chunk := await asyncio.to_thread(file.take, whole_lines=not over, now_s=self._clock.now_s()):
                        moved = True
                        yield chunk
                if over:
                    return
                if not moved:
                    await asyncio.sleep(POLL_S)
        finally:
            for file in files:
                file.close()

    def _reader(self, path: Path, *, timestamps: bool) -> LogReader:
        return LogReader(path, timestamps=timestamps, rotations=lambda: self._rotations[path], lock=self._lock)

    def _begin(self, files: list[LogReader], tail_lines: int | None, since_s: float | None, now_s: float) -> None:
        self.observe(now_s)
        for file in files:
            file.seek(tail_lines, None if since_s is None else now_s - since_s)


def _move(log: Path, to: Path) -> None:
    """With its index; what was there is gone, also when there is nothing to move."""
    for file, target in ((log, to), (index_path(log), index_path(to))):
        target.unlink(missing_ok=True)
        if file.exists():
            file.replace(target)


def rotate(path: Path, now_s: float) -> None:
    """``log`` → ``log.1`` → … , the oldest dropped, and the file that the container writes to is cut to nothing.

    Its index is left to its writer; what comes between its last look and the copy arrived at ``now_s``.
    """
    for number in range(LOG_FILES_MAX - 1, 1, -1):
        _move(rotated(path, number - 1), rotated(path, number))
    newest = rotated(path, 1)
    if (index := index_path(path)).exists():
        shutil.copyfile(index, index_path(newest))
    shutil.copyfile(path, newest)
    LogIndex(newest).observe(now_s)
    with path.open("r+b") as file:
        file.truncate(0)

"""Containers' output from the daemon, which keeps it, into the files that the port promises.

The daemon stamps every line and keeps it while nobody listens. So a copy goes on where the last one ended: the stamp of the
last line copied is in a file of its own. A node that is killed between the two writes copies the lines of that moment again;
it never loses one.
"""

import asyncio
import contextlib
import logging
import os
import random
from pathlib import Path

import aiohttp

from veil.errors import NotFound, RuntimeUnavailable
from veil.runtime.docker.connection import STDERR, Connection, frames
from veil.runtime.docker.timestamps import nanoseconds, query_time

log = logging.getLogger(__name__)

RETRY_S = 0.5
SETTLE_S = 5.0
"""How long the end of a container waits for its last words to be copied."""

_STAMP_BYTES = 20


class OutputCopies:
    """Copies, each for one container, with their cursors in ``directory``."""

    def __init__(self, connection: Connection, directory: Path) -> None:
        self._connection = connection
        self._directory = directory
        self._copies: dict[str, asyncio.Task[None]] = {}

    def follow(self, id: str, name: str, stdout: Path, stderr: Path) -> None:
        """Copy what the container ``name`` says until it ends. One copy runs for each id."""
        if (running := self._copies.get(id)) is None or running.done():
            task = asyncio.get_running_loop().create_task(self._copy(id, name, stdout, stderr), name=f"output of {id}")
            self._copies[id] = task

    async def settled(self, id: str) -> None:
        """Wait until what a container that has ended said is in its files."""
        if (task := self._copies.get(id)) is not None:
            await asyncio.wait([task], timeout=SETTLE_S)

    async def forget(self, id: str) -> None:
        """The container is gone."""
        if (task := self._copies.pop(id, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._cursor(id).unlink(missing_ok=True)

    async def close(self) -> None:
        for task in self._copies.values():
            task.cancel()
        await asyncio.gather(*self._copies.values(), return_exceptions=True)
        self._copies.clear()

    def _cursor(self, id: str) -> Path:
        return self._directory / id

    async def _copy(self, id: str, name: str, stdout: Path, stderr: Path) -> None:
        while True:
            try:
                await self._copy_once(id, name, stdout, stderr)
                return
            except NotFound:
                return
            except (RuntimeUnavailable, asyncio.IncompleteReadError, aiohttp.ClientError, OSError) as error:
                log.info("the output of %s is not copied for a moment: %s", id, error)
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _copy_once(self, id: str, name: str, stdout: Path, stderr: Path) -> None:
        with contextlib.ExitStack() as files:
            out, err = (files.enter_context(path.open("ab", buffering=0)) for path in (stdout, stderr))
            cursor = os.open(self._cursor(id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            files.callback(os.close, cursor)
            last_ns = resumed_ns = int(os.pread(cursor, _STAMP_BYTES, 0) or b"0")
            query = {"follow": "1", "stdout": "1", "stderr": "1", "timestamps": "1", "since": query_time(last_ns)}
            async with self._connection.open("GET", f"/containers/{name}/logs", query=query) as response:
                async for stream, line in frames(response.content):
                    stamp, _, text = line.partition(b" ")
                    if (ns := nanoseconds(stamp.decode())) <= resumed_ns:
                        continue  # lines that came at once have one stamp, so what came since is not told by it
                    (err if stream == STDERR else out).write(text)
                    last_ns = max(last_ns, ns)
                    os.pwrite(cursor, f"{last_ns:0{_STAMP_BYTES}d}".encode(), 0)

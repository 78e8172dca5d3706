"""Changes of membership handed to whoever asked to see them.

A subscription begins when it is asked for, not when it is first read, so that nothing between the two is missed. A reader
that falls behind loses its oldest changes, never the newest: the state that counts is the last one, and ``members()`` has it.
"""

import asyncio
from collections.abc import AsyncIterator

from veil.mesh.ports import Member

BACKLOG_MAX = 4096
"""Changes kept for one reader that does not read."""


class Feed:
    """One publisher, any number of readers."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Member | None]] = set()
        self._closed = False

    def publish(self, member: Member) -> None:
        for queue in self._queues:
            self._put(queue, member)

    def subscribe(self) -> AsyncIterator[Member]:
        """Everything published from now on, until :meth:`close`."""
        queue: asyncio.Queue[Member | None] = asyncio.Queue(BACKLOG_MAX)
        if self._closed:
            queue.put_nowait(None)
        self._queues.add(queue)
        return self._read(queue)

    def close(self) -> None:
        """Ends every subscription after what it has not read yet."""
        self._closed = True
        for queue in self._queues:
            self._put(queue, None)

    @staticmethod
    def _put(queue: "asyncio.Queue[Member | None]", item: Member | None) -> None:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(item)

    async def _read(self, queue: "asyncio.Queue[Member | None]") -> AsyncIterator[Member]:
        try:
            while (member := await queue.get()) is not None:
                yield member
        finally:
            self._queues.discard(queue)

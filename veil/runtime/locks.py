"""One lock for each container: operations on one id take turns, those on different ids do not wait for each other."""

import asyncio
import weakref


class Locks:
    """``async with locks[id]:``. A lock that nobody holds or waits for is forgotten."""

    def __init__(self) -> None:
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def __getitem__(self, id: str) -> asyncio.Lock:
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = asyncio.Lock()
        return lock

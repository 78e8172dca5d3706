"""The objects that the API serves, of every kind, in Kubernetes' shape.

Memory is the truth of a running node and ``store.db`` a copy of it for the next start: everything in it can be had again from
the chain and from the next renewals. So a disk that takes no writes does not stop anybody; what could not be written is tried
again with the next change. Watches read from a window of recent events by resourceVersion instead of having queues of their
own: a slow reader costs nothing and learns that it fell behind.
"""

import asyncio
import builtins
import logging
import sqlite3
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from veil.errors import NotFound, Refused
from veil.store.database import open_cache
from veil.store.schema import STORE_SCHEMA, STORE_VERSION
from veil.types import Clock, Random, SystemClock, SystemRandom

Obj = dict[str, Any]
"""An object as the API serves it. What the store hands out is shared: copy before you change anything in it."""

WATCH_WINDOW_EVENTS = 4096
"""How many events of one kind a watcher can be behind."""

RV_BLOCK = 1000
"""How many resourceVersions are reserved in the journal at once."""

Key = tuple[str, str, str]

logger = logging.getLogger(__name__)


class Gone(Refused):
    """A watch from a resourceVersion whose successors are not known any more, or that this store never gave out."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Obj
    rv: int


class _Window:
    """The newest events of one kind, and what wakes those who wait for the next one."""

    def __init__(self) -> None:
        self.events: deque[WatchEvent] = deque()
        self.forgotten_rv = 0
        self.changed = asyncio.Event()

    def add(self, event: WatchEvent) -> None:
        if len(self.events) == WATCH_WINDOW_EVENTS:
            self.forgotten_rv = self.events.popleft().rv
        self.events.append(event)
        self.changed.set()
        self.changed = asyncio.Event()

    def after(self, rv: int) -> list[WatchEvent]:
        if rv < self.forgotten_rv:
            raise Gone(f"events after resourceVersion {rv} are forgotten", hint="list again, then watch from there")
        newer: list[WatchEvent] = []
        for event in reversed(self.events):
            if event.rv <= rv:
                break
            newer.append(event)
        newer.reverse()
        return newer


class ObjectStore:
    """All objects of one node. Used from one thread (the event loop's); no call blocks for long.

    ``reserve_rv(count)`` gives the first of ``count`` resourceVersions that nobody was or will be given (the journal's
    counter): versions rise over restarts and when ``store.db`` is lost. ``path`` None keeps everything in memory.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        reserve_rv: Callable[[int], int],
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._reserve_rv = reserve_rv
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._database = open_cache(path, STORE_SCHEMA, STORE_VERSION)
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {}
        self._windows: dict[str, _Window] = {}
        self._dirty: set[Key] = set()
        self._batches = 0
        self._behind = False
        self._load()
        self._rv = self._opened_rv = reserve_rv(RV_BLOCK)
        self._reserved_end = self._rv + RV_BLOCK

    def _load(self) -> None:
        for kind, namespace, name, data in self._database.execute("SELECT kind, namespace, name, object FROM api_objects"):
            self._objects.setdefault(kind, {})[namespace, name] = msgspec.json.decode(data)

    def close(self) -> None:
        self._flush()
        self._database.close()

    @property
    def resource_version(self) -> int:
        """That of the newest change: what a list is current as of."""
        return self._rv

    def _next_rv(self) -> int:
        if self._rv + 1 >= self._reserved_end:
            first = self._reserve_rv(RV_BLOCK)
            assert first > self._rv, "resourceVersions go back"
            self._rv, self._reserved_end = first, first + RV_BLOCK
        else:
            self._rv += 1
        return self._rv

    # reading

    def get(self, kind: str, namespace: str, name: str) -> Obj:
        """Raises NotFound."""
        found = self._objects.get(kind, {}).get((namespace, name))
        if found is None:
            where = f" in namespace {namespace}" if namespace else ""
            raise NotFound(f"there is no {kind} {name}{where}", hint=f"`veil get {kind.lower()}` lists what there is")
        return found

    def find(self, kind: str, namespace: str, name: str) -> Obj | None:
        """Like :meth:`get`, with None for nothing."""
        return self._objects.get(kind, {}).get((namespace, name))

    def list(self, kind: str, namespace: str | None = None) -> builtins.list[Obj]:
        """By namespace and name; None lists all namespaces."""
        items = sorted(self._objects.get(kind, {}).items())
        return [obj for (where, _), obj in items if namespace is None or where == namespace]

    def watch(self, kind: str, since_rv: int) -> AsyncIterator[WatchEvent]:
        """Every change of ``kind`` after ``since_rv``, in order, without end.

        Raises Gone, at once or (for a reader that falls behind by WATCH_WINDOW_EVENTS) later.
        """
        if not self._opened_rv <= since_rv <= self._rv:
            raise Gone(
                f"resourceVersion {since_rv} is outside of what this node knows ({self._opened_rv} to {self._rv})",
                hint="list again, then watch from there",
            )
        window = self._windows.setdefault(kind, _Window())
        window.after(since_rv)
        return self._watch(window, since_rv)

    async def _watch(self, window: _Window, rv: int) -> AsyncIterator[WatchEvent]:
        while True:
            changed = window.changed
            events = window.after(rv)
            if not events:
                await changed.wait()
            for event in events:
                rv = event.rv
                yield event

    # writing

    def put(self, obj: Obj) -> Obj:
        """Insert or replace; gives back what is stored.

        Sets metadata.resourceVersion, and uid and creationTimestamp when they are missing (a replacement keeps them).
        Nothing happens, and no watcher is told, when nothing but the resourceVersion differs.
        """
        new: Obj = msgspec.json.decode(msgspec.json.encode(obj))
        metadata = new["metadata"]
        key = (new["kind"], metadata.get("namespace", ""), metadata["name"])
        old = self._objects.get(key[0], {}).get(key[1:])
        kept = old["metadata"] if old else {}
        metadata["uid"] = metadata.get("uid") or kept.get("uid") or self._new_uid()
        metadata["creationTimestamp"] = metadata.get("creationTimestamp") or kept.get("creationTimestamp") or self._now()
        metadata["resourceVersion"] = kept.get("resourceVersion", "")
        if new == old:
            return old
        rv = self._next_rv()
        metadata["resourceVersion"] = str(rv)
        self._objects.setdefault(key[0], {})[key[1:]] = new
        self._changed(key, WatchEvent("MODIFIED" if old else "ADDED", new, rv))
        return new

    def delete(self, kind: str, namespace: str, name: str) -> Obj | None:
        """Gives back the object as it was, with the resourceVersion of its end; None when there is none."""
        old = self._objects.get(kind, {}).pop((namespace, name), None)
        if old is None:
            return None
        rv = self._next_rv()
        last = old | {"metadata": old["metadata"] | {"resourceVersion": str(rv)}}
        self._changed((kind, namespace, name), WatchEvent("DELETED", last, rv))
        return last

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Writes inside go to disk together at the end. Readers and watchers see each of them at once."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            self._flush()

    def _changed(self, key: Key, event: WatchEvent) -> None:
        self._dirty.add(key)
        self._flush()
        self._windows.setdefault(key[0], _Window()).add(event)

    def _flush(self) -> None:
        if self._batches or not self._dirty:
            return
        gone = [key for key in self._dirty if key[1:] not in self._objects[key[0]]]
        kept = [(*key, msgspec.json.encode(self._objects[key[0]][key[1:]])) for key in self._dirty.difference(gone)]
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM api_objects WHERE kind=? AND namespace=? AND name=?", gone)
            database.executemany("INSERT OR REPLACE INTO api_objects VALUES (?, ?, ?, ?)", kept)
            database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if not self._behind:
                logger.warning("store.db takes no writes, memory goes on without it: %s", error)
            self._behind = True
            return
        self._dirty.clear()
        self._behind = False

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _new_uid(self) -> str:
        return str(uuid.UUID(bytes=self._random.bytes(16), version=4))

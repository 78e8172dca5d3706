"""Watches: every change of a kind as a line of JSON, for as long as the client listens.

A watch ends when its time is over, when the server closes, and, for the controllers, when this node is put in charge of
other objects: then objects that are no longer theirs are reported as deleted and the watch ends with 410, so that they list
again. Bookmarks carry the version of a moment at least BOOKMARK_PERIOD_S ago: nothing up to it can be still under way.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

import msgspec
from aiohttp import web

from veil.api.kinds import Kind
from veil.api.selectors import Match
from veil.api.status import status_of
from veil.api.targets import is_true
from veil.errors import InvalidInput, VeilError
from veil.store.objects import Gone, Obj, ObjectStore, WatchEvent

BOOKMARK_PERIOD_S = 30.0
WATCH_DEFAULT_S = 1800.0
WATCH_MAX_S = 86400.0

Type = Literal["ADDED", "MODIFIED", "DELETED"]
Show = Callable[[Obj], Obj]


class Signal:
    """Something that happens now and then; those who wait for the next time get an event of their own."""

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def fire(self) -> None:
        self.next.set()
        self.next = asyncio.Event()


class Watch:
    """One client's watch: which lines it is sent. ``show`` makes of a stored object what is sent."""

    def __init__(self, store: ObjectStore, kind: Kind, match: Match, show: Show, query: Mapping[str, str]) -> None:
        self._store = store
        self._kind = kind
        self._match = match
        self._show = show
        self._since = _version(query)
        self._bookmarks = is_true(query.get("allowWatchBookmarks", ""))
        self._initial_end = is_true(query.get("sendInitialEvents", ""))
        self.timeout_s = _timeout(query)
        self._seen: dict[tuple[str, str], Obj | None] = {}
        """What the client has (None: what it does not have); what is not in here it may have."""

    async def lines(self, closing: asyncio.Event, reset: asyncio.Event) -> AsyncIterator[bytes]:
        """The lines, in batches. Ends with ``closing``, after ``timeout_s``, or with an ERROR line."""
        try:
            since = self._store.resource_version if not self._since else self._since
            first = self._first(since)
            events = self._store.watch(self._kind.stored, since)
            if first:
                yield first
            async for line in self._follow(events, closing, reset, since):
                yield line
        except VeilError as error:
            yield _line("ERROR", status_of(error))

    def _first(self, since: int) -> bytes:
        """What is there already: sent when the client gave no version, else only remembered."""
        chunks = []
        for obj in self._store.list(self._kind.stored):
            if self._since and int(obj["metadata"]["resourceVersion"]) > since:
                continue
            matches = self._match(obj)
            self._seen[_key(obj)] = obj if matches else None
            if matches and not self._since:
                chunks.append(_line("ADDED", self._show(obj)))
        if self._initial_end:
            chunks.append(self._bookmark(since, {"annotations": {"k8s.io/initial-events-end": "true"}}))
        return b"".join(chunks)

    async def _follow(
        self, events: AsyncIterator[WatchEvent], closing: asyncio.Event, reset: asyncio.Event, since: int
    ) -> AsyncIterator[bytes]:
        deadline = asyncio.get_running_loop().time() + self.timeout_s
        ends = [asyncio.ensure_future(event.wait()) for event in (closing, reset)]
        following = asyncio.ensure_future(_next(events))
        quiet_since = since
        try:
            while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
                await asyncio.wait({following, *ends}, timeout=min(left_s, BOOKMARK_PERIOD_S), return_when="FIRST_COMPLETED")
                if closing.is_set():
                    return
                if following.done():
                    event = following.result()
                    following = asyncio.ensure_future(_next(events))
                    if line := self._event(event):
                        yield line
                elif not reset.is_set() and self._bookmarks:
                    yield self._bookmark(quiet_since, {})
                if reset.is_set() and not following.done():
                    yield self._farewell()
                    return
                quiet_since = self._store.resource_version
        finally:
            for task in (*ends, following):
                task.cancel()
            await asyncio.gather(*ends, following, return_exceptions=True)

    def _event(self, event: WatchEvent) -> bytes:
        """The line of an event; an object that stopped to match is reported as deleted, one that began to, as added."""
        key, obj = _key(event.object), event.object
        before = self._seen.get(key, None if event.type == "ADDED" else obj)
        matches = self._match(obj)
        if event.type == "DELETED":
            self._seen.pop(key, None)
            return _line("DELETED", self._show(obj)) if before is not None or matches else b""
        self._seen[key] = obj if matches else None
        if not matches:
            return _line("DELETED", self._show(obj)) if before is not None else b""
        return _line("MODIFIED" if before is not None else "ADDED", self._show(obj))

    def _farewell(self) -> bytes:
        lost = [obj for obj in self._seen.values() if obj is not None and not self._match(obj)]
        gone = Gone("this node is in charge of other objects now", hint="list again, then watch from there")
        return b"".join([*(_line("DELETED", self._show(obj)) for obj in lost), _line("ERROR", status_of(gone))])

    def _bookmark(self, rv: int, extra: Obj) -> bytes:
        resource = self._kind.resource
        metadata = {"resourceVersion": str(rv), "creationTimestamp": None, **extra}
        return _line("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})


async def respond(request: web.Request, watch: Watch, closing: asyncio.Event, reset: asyncio.Event) -> web.StreamResponse:
    """Send a watch's lines until it ends or the client goes away."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    lines = watch.lines(closing, reset)
    try:
        async for line in lines:
            await response.write(line)
    except ConnectionError:
        return response
    finally:
        await lines.aclose()  # type: ignore[attr-defined]
    return response


async def _next(events: AsyncIterator[WatchEvent]) -> WatchEvent:
    return await anext(events)


def _key(obj: Obj) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _line(kind: str, obj: Any) -> bytes:
    return msgspec.json.encode({"type": kind, "object": obj}) + b"\n"


def _version(query: Mapping[str, str]) -> int:
    text = query.get("resourceVersion") or "0"
    if is_true(query.get("sendInitialEvents", "")):
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidInput(f"resourceVersion: Invalid value: {text!r}")
    return int(text)


def _timeout(query: Mapping[str, str]) -> float:
    text = query.get("timeoutSeconds") or ""
    if not text:
        return WATCH_DEFAULT_S
    if not text.isascii() or not text.isdigit():
        raise InvalidInput(f"timeoutSeconds: Invalid value: {text!r}")
    return min(float(text) or WATCH_DEFAULT_S, WATCH_MAX_S)

"""Logs of Instances and Pods over HTTP.

The answer begins with the first piece of log, so that an error before it is a proper Status, or after FIRST_PIECE_WAIT_S,
so that a client that follows a silent container knows it is connected.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

from aiohttp import web

from veil.api.ports import LogSource
from veil.api.targets import is_true
from veil.errors import InvalidInput, VeilError
from veil.store.objects import Obj
from veil.types import Clock

FIRST_PIECE_WAIT_S = 0.5
TAIL_MAX_LINES = 1_000_000

log = logging.getLogger(__name__)


def open_logs(source: LogSource, instance: Obj, query: Mapping[str, str], clock: Clock) -> AsyncIterator[bytes]:
    """The pieces that a request's query asks for. Raises InvalidInput."""
    return source.logs(
        instance,
        container=query.get("container", ""),
        follow=is_true(query.get("follow", "")),
        tail_lines=_count(query, "tailLines"),
        since_s=_since(query, clock),
        timestamps=is_true(query.get("timestamps", "")),
        previous=is_true(query.get("previous", "")),
    )


async def respond(request: web.Request, pieces: AsyncIterator[bytes], closing: asyncio.Event) -> web.StreamResponse:
    """Send the pieces until they or the client end, or the server closes. Raises what the source raises before the first."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    response.enable_chunked_encoding()
    left_bytes = _count(request.query, "limitBytes")
    end = asyncio.ensure_future(closing.wait())
    piece = asyncio.ensure_future(_next(pieces))
    try:
        await asyncio.wait({piece, end}, timeout=FIRST_PIECE_WAIT_S, return_when="FIRST_COMPLETED")
        if piece.done() and piece.exception() is not None:
            piece.result()
        await response.prepare(request)
        while True:
            await asyncio.wait({piece, end}, return_when="FIRST_COMPLETED")
            data = piece.result() if piece.done() else None
            if data is None:
                return response
            data = data if left_bytes is None else data[:left_bytes]
            await response.write(data)
            left_bytes = None if left_bytes is None else left_bytes - len(data)
            if left_bytes == 0:
                return response
            piece = asyncio.ensure_future(_next(pieces))
    except ConnectionError:
        return response
    except VeilError as error:
        if not response.prepared:
            raise
        log.info("a log ended early: %s: %s", error.reason, error.message)
        await response.write(f"\nerror: {error.message}\n".encode())
        return response
    finally:
        for task in (end, piece):
            task.cancel()
        await asyncio.gather(end, piece, return_exceptions=True)
        await pieces.aclose()  # type: ignore[attr-defined]


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


def _count(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None or text in ("", "-1"):
        return None
    if not text.isascii() or not text.isdigit():
        raise InvalidInput(f"{name}: Invalid value: {text!r}: must be a whole number")
    return min(int(text), TAIL_MAX_LINES) if name == "tailLines" else int(text)


def _since(query: Mapping[str, str], clock: Clock) -> float | None:
    if text := query.get("sinceTime"):
        try:
            return max(0.0, clock.now_s() - datetime.fromisoformat(text).timestamp())
        except ValueError as error:
            raise InvalidInput(f"sinceTime: Invalid value: {text!r}: {error}") from error
    seconds = _count(query, "sinceSeconds")
    return None if seconds is None else float(seconds)

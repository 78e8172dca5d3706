"""The logs of an Instance wherever it runs: from this node's agent, or from the winner over the mesh.

A reading over the mesh is a sequence of requests; the winner keeps its place between them and forgets it when nobody asked for
READER_IDLE_S. Only home nodes of the Instance's namespace may read.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from veil.agent.agent import Agent
from veil.agent.keys import InstanceKey
from veil.errors import AlreadyExists, Forbidden, LimitExceeded, NotFound, VeilError
from veil.identity import Identity
from veil.mesh.ports import Mesh
from veil.node.placed import placed
from veil.node.view import NodeView
from veil.store.objects import Obj
from veil.types import Generation, ObjectId, PeerId, Random
from veil.wire.codec import decode, encode
from veil.wire.logs import LOG_CHUNK_MAX_BYTES, LogChunk, LogNext, LogOpen

log = logging.getLogger(__name__)

OPEN = "logs-open/1"
NEXT = "logs-next/1"
READER_IDLE_S = 30.0
READERS_MAX = 32
WAIT_S = 1.0
"""How long the winner waits for something new before it answers with nothing."""

DEADLINE_S = 10.0


@dataclass(slots=True)
class _Reader:
    peer: PeerId
    queue: asyncio.Queue[bytes | None]
    task: asyncio.Task[None]
    idle: asyncio.TimerHandle


class MeshLogs:
    """Implements the API's LogSource, and serves other nodes' readings."""

    def __init__(self, *, identity: Identity, mesh: Mesh, agent: Agent, view: NodeView, random: Random) -> None:
        self._identity = identity
        self._mesh = mesh
        self._agent = agent
        self._view = view
        self._random = random
        self._readers: dict[bytes, _Reader] = {}
        mesh.serve(OPEN, self._serve_open)
        mesh.serve(NEXT, self._serve_next)

    async def logs(
        self,
        instance: Obj,
        *,
        container: str,
        follow: bool,
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> AsyncIterator[bytes]:
        """Raises NotFound while the Instance is placed nowhere, Forbidden, Unavailable."""
        peer, key = placed(instance)
        if peer == self._identity.peer_id:
            pieces = self._agent.logs(
                key,
                container=container,
                follow=follow,
                tail_lines=tail_lines,
                since_s=since_s,
                timestamps=timestamps,
                previous=previous,
            )
        elif self._view.homes(key.object_id) and not self._view.may_read(key.object_id, self._identity.peer_id):
            raise Forbidden(
                "logs are for home nodes of the namespace, and for nodes whose operator may view it",
                hint="ask a node that its homePeers name, or its owner to name this node's operator among the viewers",
            )
        else:
            question = LogOpen(
                reader=self._random.bytes(16),
                object_id=key.object_id,
                generation=key.generation,
                replica=key.replica,
                container=container,
                follow=follow,
                tail_lines=-1 if tail_lines is None else tail_lines,
                since_s=-1 if since_s is None else int(since_s),
                timestamps=timestamps,
                previous=previous,
            )
            pieces = self._remote(peer, question)
        async for piece in pieces:
            yield piece

    async def _remote(self, peer: PeerId, question: LogOpen) -> AsyncIterator[bytes]:
        answer = await self._mesh.request(peer, OPEN, encode(question), deadline_s=DEADLINE_S)
        while True:
            chunk = decode(answer, LogChunk)
            if chunk.data:
                yield chunk.data
            if chunk.end:
                return
            answer = await self._mesh.request(peer, NEXT, encode(LogNext(reader=question.reader)), deadline_s=DEADLINE_S)

    async def _serve_open(self, peer: PeerId, payload: bytes) -> bytes:
        question = decode(payload, LogOpen)
        wanted = ObjectId(question.object_id)
        if not self._view.may_read(wanted, peer):
            raise Forbidden("logs are for home nodes of the namespace, and for nodes whose operator may view it")
        if question.reader in self._readers:
            raise AlreadyExists("a reading of that name is open", hint="name each reading anew")
        if len(self._readers) >= READERS_MAX:
            raise LimitExceeded(f"READERS_MAX={READERS_MAX} readings are open")
        pieces = self._agent.logs(
            InstanceKey(wanted, Generation(question.generation), question.replica),
            container=question.container,
            follow=question.follow,
            tail_lines=None if question.tail_lines < 0 else question.tail_lines,
            since_s=None if question.since_s < 0 else question.since_s,
            timestamps=question.timestamps,
            previous=question.previous,
        )
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=4)
        task = asyncio.create_task(_pump(pieces, queue))
        self._readers[question.reader] = _Reader(peer, queue, task, self._idle_timer(question.reader))
        return await self._next(question.reader, peer)

    async def _serve_next(self, peer: PeerId, payload: bytes) -> bytes:
        return await self._next(decode(payload, LogNext).reader, peer)

    async def _next(self, name: bytes, peer: PeerId) -> bytes:
        reader = self._readers.get(name)
        if reader is None or reader.peer != peer:
            raise NotFound("no such reading; it may have been idle for too long")
        reader.idle.cancel()
        reader.idle = self._idle_timer(name)
        try:
            async with asyncio.timeout(WAIT_S):
                piece = await reader.queue.get()
        except TimeoutError:
            if reader.task.done():
                self._forget(name)
                reader.task.result()
            return encode(LogChunk(data=b"", end=False))
        if piece is None:
            self._forget(name)
            return encode(LogChunk(data=b"", end=True))
        return encode(LogChunk(data=piece, end=False))

    def _idle_timer(self, name: bytes) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(READER_IDLE_S, self._forget, name)

    def _forget(self, name: bytes) -> None:
        reader = self._readers.pop(name, None)
        if reader is not None:
            reader.idle.cancel()
            reader.task.cancel()

    async def close(self) -> None:
        """End all readings."""
        tasks = [reader.task for reader in self._readers.values()]
        for name in list(self._readers):
            self._forget(name)
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(pieces: AsyncIterator[bytes], queue: asyncio.Queue[bytes | None]) -> None:
    """Fill ``queue`` with pieces of at most LOG_CHUNK_MAX_BYTES; None at the end. Cancelled, it waits for nobody to read."""
    try:
        async for piece in pieces:
            for start in range(0, len(piece), LOG_CHUNK_MAX_BYTES):
                await queue.put(piece[start : start + LOG_CHUNK_MAX_BYTES])
    except VeilError as error:
        await queue.put(f"{error.message}\n".encode())
    except OSError as error:
        log.warning("a log cannot be read: %s", error.strerror)
        await queue.put(b"the log cannot be read on its node\n")
    await queue.put(None)

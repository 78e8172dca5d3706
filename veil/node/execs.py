"""Commands in an Instance's container, wherever it runs: in this node's runtime, or in the winner's over the mesh.

Over the mesh a session is a sequence of requests. Output is waited for in one while input goes in others; a session that nobody
asks after for SESSION_IDLE_S is ended. Only home nodes of the Instance's namespace may do this: whoever may is as good as in the
container, and the winner notes who was.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from veil.agent.agent import Agent
from veil.agent.keys import InstanceKey
from veil.client.answers import error_of_class
from veil.errors import AlreadyExists, Forbidden, LimitExceeded, NotFound, VeilError
from veil.identity import Identity, peer_id_text
from veil.mesh.ports import Mesh
from veil.node.placed import placed
from veil.node.view import NodeView
from veil.runtime.ports import ExecSession
from veil.store.objects import Obj
from veil.types import Generation, ObjectId, PeerId, Random
from veil.wire.codec import decode, encode
from veil.wire.execs import ERROR_MAX_CHARS, EXEC_CHUNK_MAX_BYTES, ExecInput, ExecNext, ExecOpen, ExecOutput

log = logging.getLogger(__name__)

OPEN = "exec-open/1"
INPUT = "exec-input/1"
NEXT = "exec-next/1"
SESSION_IDLE_S = 30.0
SESSIONS_MAX = 16
"""That others may have open here."""

WAIT_S = 1.0
"""How long the winner waits for output before it answers with none."""

DEADLINE_S = 10.0


@dataclass(slots=True)
class _Served:
    peer: PeerId
    session: ExecSession
    idle: asyncio.TimerHandle
    reading: asyncio.Task[tuple[int, bytes] | None] | None = None


class MeshExecs:
    """Implements the API's ExecSource, and serves other nodes' sessions."""

    def __init__(self, *, identity: Identity, mesh: Mesh, agent: Agent, view: NodeView, random: Random) -> None:
        self._identity = identity
        self._mesh = mesh
        self._agent = agent
        self._view = view
        self._random = random
        self._served: dict[bytes, _Served] = {}
        self._ending: set[asyncio.Task[None]] = set()
        for protocol, serve in ((OPEN, self._serve_open), (INPUT, self._serve_input), (NEXT, self._serve_next)):
            mesh.serve(protocol, _with_errors(serve))

    async def open_exec(self, instance: Obj, *, container: str, command: Sequence[str], tty: bool) -> ExecSession:
        """Raises NotFound while the Instance is placed nowhere, Forbidden, InvalidInput, ContainerFailed, Unavailable."""
        peer, key = placed(instance)
        wanted = key.object_id
        if peer == self._identity.peer_id:
            return await self._agent.open_exec(key, container, command, tty=tty)
        if (homes := self._view.homes(wanted)) and self._identity.peer_id not in homes:
            raise Forbidden("commands are for home nodes of the namespace", hint="ask a node that its homePeers name")
        question = ExecOpen(
            session=self._random.bytes(16),
            object_id=wanted,
            generation=key.generation,
            replica=key.replica,
            container=container,
            command=tuple(command),
            tty=tty,
        )
        await _ask(self._mesh, peer, OPEN, question)
        return _Remote(self._mesh, peer, question.session)

    async def close(self) -> None:
        """End all sessions that are served."""
        for name in list(self._served):
            self._forget(name)
        await asyncio.gather(*self._ending, return_exceptions=True)

    # what others ask

    async def _serve_open(self, peer: PeerId, payload: bytes) -> ExecOutput:
        question = decode(payload, ExecOpen)
        wanted = ObjectId(question.object_id)
        if peer not in self._view.homes(wanted):
            raise Forbidden("commands are for home nodes of the namespace")
        if question.session in self._served:
            raise AlreadyExists("a session of that name is open", hint="name each session anew")
        if len(self._served) >= SESSIONS_MAX:
            raise LimitExceeded(f"SESSIONS_MAX={SESSIONS_MAX} sessions are open", hint="close one")
        key = InstanceKey(wanted, Generation(question.generation), question.replica)
        log.info("%s runs a command in %s", peer_id_text(peer), key.text)
        session = await self._agent.open_exec(key, question.container, question.command, tty=question.tty)
        self._served[question.session] = _Served(peer, session, self._idle_timer(question.session))
        return ExecOutput()

    async def _serve_input(self, peer: PeerId, payload: bytes) -> ExecOutput:
        given = decode(payload, ExecInput)
        session = self._find(given.session, peer).session
        if given.columns and given.rows:
            await session.resize(given.columns, given.rows)
        if given.data:
            await session.write(given.data)
        if given.end:
            await session.end_input()
        if given.close:
            self._forget(given.session)
        return ExecOutput()

    async def _serve_next(self, peer: PeerId, payload: bytes) -> ExecOutput:
        name = decode(payload, ExecNext).session
        served = self._find(name, peer)
        served.idle.cancel()
        served.idle = self._idle_timer(name)
        served.reading = served.reading or asyncio.create_task(served.session.read())
        done, _ = await asyncio.wait([served.reading], timeout=WAIT_S)
        if not done:
            return ExecOutput()
        piece, served.reading = served.reading.result(), None
        if piece is None:
            code = await served.session.wait()
            self._forget(name)
            return ExecOutput(end=True, exit_code=code)
        return ExecOutput(stream=piece[0], data=piece[1])

    def _find(self, name: bytes, peer: PeerId) -> _Served:
        served = self._served.get(name)
        if served is None or served.peer != peer:
            raise NotFound("no such session; it may have been idle for too long")
        return served

    def _idle_timer(self, name: bytes) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(SESSION_IDLE_S, self._forget, name)

    def _forget(self, name: bytes) -> None:
        served = self._served.pop(name, None)
        if served is None:
            return
        served.idle.cancel()
        if served.reading is not None:
            served.reading.cancel()
        task = asyncio.get_running_loop().create_task(served.session.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _with_errors(serve: Callable[[PeerId, bytes], Awaitable[ExecOutput]]) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
    """Errors of the house as answers: the mesh would only say that there was none."""

    async def answer(peer: PeerId, payload: bytes) -> bytes:
        try:
            return encode(await serve(peer, payload))
        except VeilError as error:
            message, hint = error.message[:ERROR_MAX_CHARS], error.hint[:ERROR_MAX_CHARS]
            return encode(ExecOutput(end=True, error=error.reason, message=message, hint=hint))

    return answer


async def _ask(mesh: Mesh, peer: PeerId, protocol: str, question: ExecOpen | ExecInput | ExecNext) -> ExecOutput:
    """Raises what the winner's answer says."""
    output = decode(await mesh.request(peer, protocol, encode(question), deadline_s=DEADLINE_S), ExecOutput)
    if output.error:
        raise error_of_class(output.error, output.message, output.hint)
    return output


class _Remote:
    """Implements ExecSession over requests to the winner."""

    def __init__(self, mesh: Mesh, peer: PeerId, name: bytes) -> None:
        self._mesh = mesh
        self._peer = peer
        self._name = name
        self._sending = asyncio.Lock()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), EXEC_CHUNK_MAX_BYTES):
            await self._send(ExecInput(session=self._name, data=data[start : start + EXEC_CHUNK_MAX_BYTES]))

    async def end_input(self) -> None:
        await self._send(ExecInput(session=self._name, end=True))

    async def read(self) -> tuple[int, bytes] | None:
        while not self._code.done():
            output = await _ask(self._mesh, self._peer, NEXT, ExecNext(session=self._name))
            if output.end and not self._code.done():
                self._code.set_result(output.exit_code)
            elif output.data:
                return output.stream, output.data
        return None

    async def resize(self, columns: int, rows: int) -> None:
        await self._send(ExecInput(session=self._name, columns=columns, rows=rows))

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    async def close(self) -> None:
        await self._send(ExecInput(session=self._name, close=True))

    async def _send(self, given: ExecInput) -> None:
        """In order. What comes after the end is for nobody."""
        async with self._sending:
            if self._code.done():
                return
            try:
                await _ask(self._mesh, self._peer, INPUT, given)
            except NotFound:
                log.debug("a session has ended before its input")

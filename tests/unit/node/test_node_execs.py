"""Commands in Instances that run elsewhere: a home node speaks with the winner over the fake mesh, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from node_world import HELLO, SeededRandom, World

from veil.agent.keys import InstanceKey
from veil.errors import ContainerFailed, Forbidden, NotFound, VeilError
from veil.identity import Identity, peer_id_text
from veil.node.execs import INPUT, NEXT, OPEN, SESSION_IDLE_S, SESSIONS_MAX, MeshExecs
from veil.runtime.fake import FakeSession
from veil.runtime.ports import ExecSession
from veil.store.objects import Obj
from veil.types import PeerId
from veil.wire.codec import decode, encode
from veil.wire.execs import EXEC_CHUNK_MAX_BYTES, ExecInput, ExecNext, ExecOpen, ExecOutput

pytestmark = pytest.mark.looptime


class FakeAgent:
    def __init__(self) -> None:
        self.opened: list[tuple[InstanceKey, str, tuple[str, ...], bool, FakeSession]] = []
        self.error: VeilError | None = None

    async def open_exec(self, key: InstanceKey, container: str, command: Sequence[str], *, tty: bool) -> ExecSession:
        if self.error is not None:
            raise self.error
        session = FakeSession()
        self.opened.append((key, container, tuple(command), tty, session))
        return session


class Speaking:
    """The home node is the world's own, the winner is the other one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.there, self.here = FakeAgent(), FakeAgent()
        self.home = self.execs_of(world.identity, self.here)
        self.winner = self.execs_of(world.other, self.there)

    def execs_of(self, identity: Identity, agent: FakeAgent) -> MeshExecs:
        mesh = self.world.network.mesh(identity.peer_id)
        return MeshExecs(
            identity=identity,
            mesh=mesh,
            agent=agent,  # type: ignore[arg-type]
            view=self.world.view,
            random=SeededRandom(),
        )

    async def open(self, execs: MeshExecs, peer: PeerId | None, *, tty: bool = False) -> ExecSession:
        instance: Obj = {
            "metadata": {"namespace": "default", "name": "hello-1-0"},
            "spec": {"workload": "hello", "generation": 1, "replica": 0},
            "status": {"peer": peer_id_text(peer)} if peer else {},
        }
        return await execs.open_exec(instance, container="main", command=["sh", "-l"], tty=tty)


@pytest.fixture
async def speaking() -> AsyncIterator[Speaking]:
    world = await World().start()
    await world.workload()
    await world.namespace(world.identity.peer_id)
    await world.assembler.sync()
    speaking = Speaking(world)
    yield speaking
    await speaking.winner.close()
    await speaking.home.close()


def question(name: bytes = b"n" * 16) -> bytes:
    return encode(ExecOpen(session=name, object_id=HELLO, generation=1, replica=0, command=("sh",)))


async def test_a_home_node_speaks_with_a_command_on_the_winner(speaking: Speaking) -> None:
    session = await speaking.open(speaking.home, speaking.world.other.peer_id, tty=True)
    key, container, command, tty, served = speaking.there.opened[0]
    assert (key.object_id, container, command, tty) == (HELLO, "main", ("sh", "-l"), True)
    reading = asyncio.create_task(session.read())
    await asyncio.sleep(3)
    assert not reading.done(), "it waits for output as long as it takes"
    await session.resize(101, 37)
    await session.write(b"words")
    assert await reading == (1, b"WORDS")
    assert served.sizes == [(101, 37)]
    long = b"x" * (EXEC_CHUNK_MAX_BYTES + 5)
    await session.write(long)
    first, second = await session.read(), await session.read()
    assert (first, second) == ((1, long[5:].upper()), (1, b"XXXXX"))
    await session.end_input()
    assert await session.read() is None
    assert await session.wait() == 7
    await session.close()
    await asyncio.sleep(0)
    assert served.closed


async def test_on_this_node_there_is_no_detour(speaking: Speaking) -> None:
    session = await speaking.open(speaking.home, speaking.world.identity.peer_id)
    assert session is speaking.here.opened[0][4]


async def test_only_home_nodes_may(speaking: Speaking) -> None:
    stranger = speaking.world.other.peer_id
    with pytest.raises(Forbidden):
        await speaking.open(speaking.winner, speaking.world.identity.peer_id)
    mesh = speaking.world.network.mesh(stranger)
    refused = decode(await mesh.request(speaking.world.identity.peer_id, OPEN, question()), ExecOutput)
    assert refused.error == "Forbidden"
    assert not speaking.here.opened
    with pytest.raises(NotFound, match="not placed"):
        await speaking.open(speaking.home, None)


async def test_what_the_winner_says_comes_back(speaking: Speaking) -> None:
    speaking.there.error = ContainerFailed("sh does not start", hint="check the command")
    with pytest.raises(ContainerFailed, match="does not start"):
        await speaking.open(speaking.home, speaking.world.other.peer_id)


async def test_a_session_that_nobody_asks_after_ends(speaking: Speaking) -> None:
    session = await speaking.open(speaking.home, speaking.world.other.peer_id)
    await asyncio.sleep(SESSION_IDLE_S + 1)
    assert speaking.there.opened[0][4].closed
    with pytest.raises(NotFound):
        await session.read()


async def test_sessions_are_bounded_and_nobody_elses(speaking: Speaking) -> None:
    mesh, winner = speaking.world.network.mesh(speaking.world.identity.peer_id), speaking.world.other.peer_id

    async def ask(protocol: str, payload: bytes) -> str:
        return decode(await mesh.request(winner, protocol, payload), ExecOutput).error

    assert [await ask(OPEN, question(bytes([number]) * 16)) for number in range(SESSIONS_MAX)] == [""] * SESSIONS_MAX
    assert await ask(OPEN, question()) == "LimitExceeded"
    assert await ask(NEXT, encode(ExecNext(session=b"?" * 16))) == "NotFound"
    for number in range(2):
        assert await ask(INPUT, encode(ExecInput(session=bytes([number]) * 16, close=True))) == ""
    assert await ask(OPEN, question()) == ""
    assert await ask(OPEN, question()) == "AlreadyExists"

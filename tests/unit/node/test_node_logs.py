"""Logs from wherever an Instance runs: a home node reads from the winner over the fake mesh, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from node_world import HELLO, OPERATOR, SeededRandom, World

from veil.agent.keys import InstanceKey
from veil.chain.records import Right, role_address, role_id
from veil.errors import AlreadyExists, Forbidden, InvalidInput, LimitExceeded, MeshUnavailable, NotFound, VeilError
from veil.identity import Identity, peer_id_text
from veil.node.logs import NEXT, READER_IDLE_S, READERS_MAX, MeshLogs
from veil.node.view import NodeView
from veil.store.objects import Obj
from veil.store.rows import NodeRow
from veil.types import Address, PeerId
from veil.wire.codec import decode, encode
from veil.wire.logs import LOG_CHUNK_MAX_BYTES, LogChunk, LogNext, LogOpen
from veil.wire.objects import KINDS, object_id

pytestmark = pytest.mark.looptime


class Said:
    """What the winner's agent has: lines, then (with ``follow``) more of them until it is over."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = [b"one\n", b"two\n"]
        self.more: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.error: VeilError | OSError | None = None
        self.asked: list[tuple[InstanceKey, dict[str, Any]]] = []
        self.open = 0

    async def logs(self, key: InstanceKey, **how: Any) -> AsyncIterator[bytes]:
        self.asked.append((key, how))
        self.open += 1
        try:
            for piece in self.pieces:
                yield piece
            if self.error is not None:
                raise self.error
            while how["follow"] and (piece := await self.more.get()) is not None:
                yield piece
        finally:
            self.open -= 1


class Reading:
    """The home node is the world's own, the winner is the other one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said, self.own = Said(), Said()
        self.home = self.logs_of(world.identity, self.own)
        self.winner = self.logs_of(world.other, self.said)

    def logs_of(self, identity: Identity, said: Said) -> MeshLogs:
        mesh = self.world.network.mesh(identity.peer_id)
        view: NodeView = self.world.view
        return MeshLogs(identity=identity, mesh=mesh, agent=said, view=view, random=SeededRandom())  # type: ignore[arg-type]

    def instance(self, peer: PeerId | None) -> Obj:
        return {
            "metadata": {"namespace": "default", "name": "hello-1-0"},
            "spec": {"workload": "hello", "generation": 1, "replica": 0},
            "status": {"peer": peer_id_text(peer)} if peer else {},
        }

    async def read(self, logs: MeshLogs, *, peer: PeerId | None, follow: bool = False) -> bytes:
        pieces = logs.logs(self.instance(peer), container="", follow=follow, tail_lines=5, since_s=None)
        return b"".join([piece async for piece in pieces])


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    world = await World().start()
    await world.workload()
    await world.namespace(world.identity.peer_id)
    await world.assembler.sync()
    reading = Reading(world)
    yield reading
    await reading.winner.close()
    await reading.home.close()


def question(name: bytes = b"n" * 16, *, follow: bool = True) -> bytes:
    return encode(LogOpen(reader=name, object_id=HELLO, generation=1, replica=0, follow=follow))


async def test_a_home_node_reads_from_the_winner(reading: Reading) -> None:
    assert await reading.read(reading.home, peer=reading.world.other.peer_id) == b"one\ntwo\n"
    ((key, how),) = reading.said.asked
    assert (key, how["tail_lines"], how["since_s"]) == (InstanceKey(HELLO, 1, 0), 5, None)  # type: ignore[arg-type]
    assert reading.said.open == 0


async def test_what_runs_here_is_read_here(reading: Reading) -> None:
    reading.own.pieces = [b"mine\n"]
    assert await reading.read(reading.home, peer=reading.world.identity.peer_id) == b"mine\n"
    assert reading.world.network.passed == []


async def test_what_is_not_placed_has_no_logs(reading: Reading) -> None:
    with pytest.raises(NotFound):
        await reading.read(reading.home, peer=None)


async def test_who_is_no_home_node_is_refused_by_itself_and_by_the_winner(reading: Reading) -> None:
    stranger = Identity.generate()
    logs = reading.logs_of(stranger, Said())
    with pytest.raises(Forbidden):
        await reading.read(logs, peer=reading.world.other.peer_id)
    with pytest.raises(Forbidden):
        await reading.winner._serve_open(stranger.peer_id, question())
    assert reading.said.asked == []


async def test_a_node_whose_operator_may_view_the_namespace_reads_too(reading: Reading) -> None:
    world, viewer = reading.world, Identity.generate()
    account, other = Address("0x" + "22" * 20), Address("0x" + "33" * 20)
    row = NodeRow(peer=viewer.peer_id, operator=account, status="Active", proven=True)
    logs = reading.logs_of(viewer, Said())
    world.write(lambda writer: writer.put_node(row))
    world.write(lambda writer: writer.put_rights(HELLO[:16], OPERATOR, account, Right.WRITE))
    world.write(lambda writer: writer.put_rights(HELLO[:16], other, account, Right.VIEW))
    with pytest.raises(Forbidden):
        await reading.read(logs, peer=world.other.peer_id)
    world.write(lambda writer: writer.put_rights(HELLO[:16], OPERATOR, account, Right.VIEW))
    with pytest.raises(MeshUnavailable):  # it may ask; its mesh is not started here
        await reading.read(logs, peer=world.other.peer_id)
    assert decode(await reading.winner._serve_open(viewer.peer_id, question(follow=False)), LogChunk).data == b"one\n"
    world.write(lambda writer: writer.put_rights(HELLO[:16], OPERATOR, account, Right.NONE))
    team = role_id("TEAM")
    world.write(lambda writer: writer.put_role(team, account, held=True))
    with pytest.raises(Forbidden):
        await reading.winner._serve_open(viewer.peer_id, question(b"m" * 16))
    space = world.projection.object(KINDS["Namespace"], object_id("default", ""))
    assert space is not None
    world.write(lambda writer: writer.put_object(replace(space, owner=role_address(team))))
    await reading.winner._serve_open(viewer.peer_id, question(b"m" * 16))
    world.write(lambda writer: writer.put_node(replace(row, proven=False)))
    with pytest.raises(Forbidden):
        await reading.winner._serve_open(viewer.peer_id, question())


async def test_nobody_goes_on_with_the_reading_of_another(reading: Reading) -> None:
    await reading.winner._serve_open(reading.world.identity.peer_id, question())
    with pytest.raises(NotFound):
        await reading.winner._serve_next(Identity.generate().peer_id, encode(LogNext(reader=b"n" * 16)))
    with pytest.raises(AlreadyExists):
        await reading.winner._serve_open(reading.world.identity.peer_id, question())


async def test_following_goes_on_until_the_log_ends(reading: Reading) -> None:
    task = asyncio.create_task(reading.read(reading.home, peer=reading.world.other.peer_id, follow=True))
    await asyncio.sleep(2 * READER_IDLE_S)
    assert not task.done(), "a reader that asks is not idle"
    reading.said.more.put_nowait(b"three\n")
    reading.said.more.put_nowait(None)
    assert await task == b"one\ntwo\nthree\n"
    assert reading.said.open == 0


async def test_large_pieces_are_cut(reading: Reading) -> None:
    reading.said.pieces = [b"x" * (2 * LOG_CHUNK_MAX_BYTES + 1)]
    assert len(await reading.read(reading.home, peer=reading.world.other.peer_id)) == 2 * LOG_CHUNK_MAX_BYTES + 1


async def test_a_reading_that_nobody_goes_on_with_is_forgotten_by_itself(reading: Reading) -> None:
    reading.said.pieces = [b"x"] * 50
    peer = reading.world.identity.peer_id
    await reading.winner._serve_open(peer, question())
    await asyncio.sleep(READER_IDLE_S - 1)
    assert reading.said.open == 1
    await asyncio.sleep(2)
    assert reading.said.open == 0
    with pytest.raises(MeshUnavailable):
        await reading.world.mesh.request(reading.world.other.peer_id, NEXT, encode(LogNext(reader=b"n" * 16)))


async def test_a_node_ends_while_readers_have_left_much_unread(reading: Reading) -> None:
    reading.said.pieces = [b"x"] * 50
    await reading.winner._serve_open(reading.world.identity.peer_id, question())
    await asyncio.sleep(1)
    async with asyncio.timeout(1):
        await reading.winner.close()


async def test_readings_are_bounded(reading: Reading) -> None:
    peer = reading.world.identity.peer_id
    for number in range(READERS_MAX):
        await reading.winner._serve_open(peer, question(number.to_bytes(16, "big")))
    with pytest.raises(LimitExceeded):
        await reading.winner._serve_open(peer, question())


@pytest.mark.parametrize("error", [NotFound("no logs"), InvalidInput("several containers: a, b"), OSError(5, "bad disk")])
async def test_what_keeps_the_winner_from_reading_is_said_in_words(reading: Reading, error: VeilError | OSError) -> None:
    reading.said.pieces, reading.said.error = [], error
    text = await reading.read(reading.home, peer=reading.world.other.peer_id)
    assert text.decode().strip() == (error.message if isinstance(error, VeilError) else "the log cannot be read on its node")


async def test_a_reading_that_breaks_is_an_error_not_a_silence(reading: Reading) -> None:
    async def broken(key: InstanceKey, **how: Any) -> AsyncIterator[bytes]:
        yield b"one\n"
        raise RuntimeError("a bug")

    reading.said.logs = broken  # type: ignore[method-assign]
    answer = await reading.winner._serve_open(reading.world.identity.peer_id, question())
    assert decode(answer, LogChunk).data == b"one\n"
    with pytest.raises(RuntimeError):
        await reading.winner._serve_next(reading.world.identity.peer_id, encode(LogNext(reader=b"n" * 16)))

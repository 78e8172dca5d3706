"""The mesh's gate, what a node publishes of itself, and whether it follows the chain; in virtual time."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from node_world import OPERATOR, LoopClock, World

from veil.errors import ChainUnavailable, ConfigInvalid
from veil.identity import Identity, peer_id_text
from veil.node.claims import ShareClaims
from veil.node.following import CATCH_UP_RETRY_S, SILENCE_MAX_S, ChainFollower
from veil.node.membership import REPUBLISH_S, Membership, bootstrap_addresses
from veil.store.journal import Journal
from veil.store.rows import EpochRow
from veil.types import Digest, Epoch, PeerId
from veil.wire.codec import decode
from veil.wire.nodes import NodeInfo
from veil.wire.signed import Signed, open_signed

pytestmark = pytest.mark.looptime


class Published:
    """Counts what reaches the chain; with ``away`` nothing does."""

    def __init__(self, world: World) -> None:
        self.cluster = world.chain.cluster
        self.infos: list[NodeInfo] = []
        self.away = False

    async def publish_node_info(self, peer: PeerId, info: bytes) -> None:
        if self.away:
            raise ChainUnavailable("away")
        self.infos.append(open_signed(decode(info, Signed), self.cluster, NodeInfo, by=peer))


@pytest.fixture
async def world() -> World:
    return await World().start()


def membership(world: World, tmp_path: Path, **parts: object) -> tuple[Membership, Published, list[str]]:
    chain, addresses = Published(world), ["/ip4/10.0.0.1/tcp/1"]
    journal = Journal(tmp_path / "journal.db")
    claims = parts.pop("claims", ShareClaims(world.identity, world.projection, journal.id, lambda: True))
    made = Membership(
        identity=world.identity,
        name="node-1",
        chain=chain,  # type: ignore[arg-type]
        mesh=world.mesh,
        projection=world.projection,
        journal=journal,
        addresses=lambda: addresses,
        labels={},
        taints={},
        claims=claims,  # type: ignore[arg-type]
        **parts,  # type: ignore[arg-type]
    )
    return made, chain, addresses


async def test_exactly_the_proven_active_and_cordoned_may_connect(world: World, tmp_path: Path) -> None:
    made, _, _ = membership(world, tmp_path)
    cordoned, pending, unproven = (Identity.generate() for _ in range(3))
    world.register(world.other, name="node-2")
    world.register(cordoned, status="Cordoned")
    world.register(pending, status="Pending")
    world.register(unproven, proven=False)
    await made.sync()
    assert {member.peer for member in world.mesh.members()} == {world.identity.peer_id, world.other.peer_id, cordoned.peer_id}
    world.register(world.other, name="node-2", status="Gone")
    await made.sync()
    assert not world.mesh.allows(world.other.peer_id)


async def test_addresses_are_published_once_and_again_when_they_change(world: World, tmp_path: Path) -> None:
    made, chain, addresses = membership(world, tmp_path)
    await made.sync()
    assert chain.infos == [], "who is not registered has nothing to say"
    world.register(world.identity)
    await made.sync()
    await made.sync()
    assert [(info.name, info.addresses) for info in chain.infos] == [("node-1", ("/ip4/10.0.0.1/tcp/1",))]
    world.register(world.identity, name="node-1")
    await asyncio.sleep(2 * REPUBLISH_S)
    await made.sync()
    assert len(chain.infos) == 1, "the chain says so already"
    addresses[0] = "/ip4/10.0.0.1/tcp/2"
    await made.sync()
    assert chain.infos[-1].addresses == ("/ip4/10.0.0.1/tcp/2",)
    assert chain.infos[-1].sequence > chain.infos[0].sequence


async def test_what_a_reorg_dropped_is_published_again(world: World, tmp_path: Path) -> None:
    made, chain, _ = membership(world, tmp_path)
    world.register(world.identity)
    await made.sync()
    await asyncio.sleep(REPUBLISH_S - 1)
    await made.sync()
    assert len(chain.infos) == 1
    await asyncio.sleep(2)
    await made.sync()
    assert [info.sequence for info in chain.infos] == [1, 2]


async def test_what_did_not_reach_the_chain_is_published_at_the_next_attempt(world: World, tmp_path: Path) -> None:
    made, chain, _ = membership(world, tmp_path)
    world.register(world.identity)
    world.register(world.other)
    chain.away = True
    with pytest.raises(ChainUnavailable):
        await made.sync()
    assert world.mesh.allows(world.other.peer_id), "the gate does not wait for the chain"
    chain.away = False
    await made.sync()
    assert len(chain.infos) == 1


async def test_a_node_without_addresses_and_one_with_too_many(world: World, tmp_path: Path) -> None:
    made, chain, addresses = membership(world, tmp_path)
    world.register(world.identity)
    addresses.clear()
    await made.sync()
    assert chain.infos == []
    addresses.extend(f"/ip4/10.0.0.{n}/tcp/1" for n in range(12))
    await made.sync()
    assert len(chain.infos[0].addresses) == 8


async def test_bootstrap_says_where_a_registered_peer_is_and_lets_nobody_in(world: World, tmp_path: Path) -> None:
    stranger = Identity.generate()
    texts = [f"/ip4/10.9.9.9/tcp/1/p2p/{peer_id_text(peer)}" for peer in (world.other.peer_id, stranger.peer_id)]
    made, _, _ = membership(world, tmp_path, bootstrap=bootstrap_addresses(texts))
    allowed: dict[PeerId, object] = {}
    world.mesh.allow = allowed.update  # type: ignore[method-assign,assignment]
    world.register(world.other, name="node-2")
    await made.sync()
    assert allowed == {world.other.peer_id: ("/ip4/10.0.0.1/tcp/1", "/ip4/10.9.9.9/tcp/1")}


@pytest.mark.parametrize("text", ["/ip4/10.0.0.1/tcp/1", "/p2p/12D3KooW", "/ip4/10.0.0.1/tcp/1/p2p/nobody"])
def test_a_bootstrap_address_without_a_peer_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        bootstrap_addresses([text])


# following the chain


async def test_it_catches_up_says_so_and_notices_silence(world: World) -> None:
    await world.chain.register_node(world.identity.peer_id, OPERATOR)
    follower = ChainFollower(world.chain, world.projection, LoopClock())
    assert follower.problem == "reading the chain"
    task = asyncio.create_task(follower.run())
    await follower.catch_up()
    assert (follower.caught_up, follower.problem) == (True, "")
    assert world.projection.node(world.identity.peer_id) is not None
    await asyncio.sleep(SILENCE_MAX_S + 1)
    assert "RPC endpoint" in follower.problem
    world.ledger.mine()
    await asyncio.sleep(1)
    assert follower.problem == ""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("ahead_s", "said"), [(0, ""), (-100, ""), (100, ""), (121, "clock is behind"), (-121, "clock is ahead")]
)
async def test_a_clock_that_differs_from_the_chains_is_noticed(world: World, ahead_s: int, said: str) -> None:
    class Clock(LoopClock):
        def now_s(self) -> float:
            tip = world.projection.tip()
            return (tip.timestamp_s if tip else 0) - ahead_s

    follower = ChainFollower(world.chain, world.projection, Clock())
    assert follower.clock_problem == "", "nothing was heard yet"
    task = asyncio.create_task(follower.run())
    await world.chain.register_node(world.identity.peer_id, OPERATOR)
    await follower.catch_up()
    assert said in follower.clock_problem
    assert bool(said) == bool(follower.clock_problem)
    await asyncio.sleep(SILENCE_MAX_S + 1)
    assert follower.clock_problem == "", "a chain that is silent says nothing about clocks"
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_chain_that_is_away_at_the_start_is_waited_for(world: World) -> None:
    world.ledger.away = True
    follower = ChainFollower(world.chain, world.projection, LoopClock())
    task = asyncio.create_task(follower.catch_up())
    await asyncio.sleep(10 * CATCH_UP_RETRY_S)
    assert not task.done()
    world.ledger.away = False
    await asyncio.sleep(CATCH_UP_RETRY_S)
    assert task.done()


async def test_a_chain_that_lies_stays_a_problem_until_it_is_right_again(world: World) -> None:
    await world.chain.register_node(world.identity.peer_id, OPERATOR)
    world.ledger.hide(1)
    follower = ChainFollower(world.chain, world.projection, LoopClock())
    task = asyncio.create_task(follower.run())
    for _ in range(8):
        await asyncio.sleep(0.7)
        assert follower.problem.startswith("HeadMismatch"), "also between two attempts"
    world.ledger._hidden.clear()
    world.ledger.wake()
    await follower.catch_up()
    assert follower.problem == ""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_claim_is_published_and_a_lost_one_is_handed_on(world: World, tmp_path: Path) -> None:
    caught_up = [False]
    claims = ShareClaims(world.identity, world.projection, b"this journal....", lambda: caught_up[0])
    made, chain, addresses = membership(world, tmp_path, claims=claims)
    for number in (1, 2, 3):
        row = EpochRow(epoch=Epoch(number), digest=Digest(bytes([number]) * 32), active=number > 1)
        world.write(lambda writer, row=row: writer.put_epoch(row))
    world.register(world.identity, name="node-1", journals=((1, b"1" * 16), (2, b"another journal.")))
    for epoch in (2, 3):
        claims.claim(Epoch(epoch))
    await made.sync()
    assert chain.infos == [], "the registry's newest word is not known yet"
    caught_up[0] = True
    await made.sync()
    await made.sync()
    assert [info.journals for info in chain.infos] == [((2, b"another journal."), (3, b"this journal...."))]
    addresses[:] = ["/ip4/10.0.0.2/tcp/1"]
    world.register(world.identity, name="node-1", journals=chain.infos[-1].journals)
    await made.sync()
    assert chain.infos[-1].journals == chain.infos[0].journals

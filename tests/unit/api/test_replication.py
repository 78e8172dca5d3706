"""Copies of what a workload's envelopes name: made again when members were away, and said so while they cannot be."""

from admission_world import EPOCH, HELLO, World, cluster, envelope_of, valid

from veil.api.fake import a_workload
from veil.mesh.ports import PeerState
from veil.node.replication import Replication
from veil.types import Digest, SystemClock


def replication_of(world: World, number: int = 0) -> Replication:
    node = world.nodes[number]
    return Replication(
        mesh=node.mesh,
        projection=node.projection,
        store=node.store,
        copies=node.admission.copies,
        homes=lambda of: (world.first.identity.peer_id,),
        clock=SystemClock(),
    )


def named(world: World) -> list[Digest]:
    """What the chain names: body, resources, demand."""
    envelope, demand = envelope_of(world.first), world.first.admission.demands.anchored(HELLO, EPOCH)
    return [Digest(envelope.body), Digest(envelope.resources), Digest(demand.demand)]


def holders(world: World, digest: Digest) -> list[int]:
    """Counted in the members' own stores."""
    return [number for number, node in enumerate(world.nodes) if digest in node.mesh.blobs]


def condition(world: World, number: int = 0) -> tuple[str, str] | None:
    live = world.nodes[number].store.find("Workload", "default", "hello")
    found = [one for one in live.get("status", {}).get("conditions", []) if one["type"] == "UnderReplicated"]
    return (found[0]["status"], found[0]["reason"]) if found else None


async def applied(world: World) -> None:
    obj = await world.first.admission.apply(valid(a_workload()), None)
    for node in world.nodes:
        node.store.put(obj)
    await world.settle()


def lost(world: World, *numbers: int) -> None:
    for number in numbers:
        peer = world.nodes[number].identity.peer_id
        world.network.kill(peer)
        world.network.set_state(peer, PeerState.DEAD)


def back(world: World, *numbers: int) -> None:
    for number in numbers:
        peer = world.nodes[number].identity.peer_id
        world.network.revive(peer)
        world.network.set_state(peer, PeerState.ALIVE)


async def test_two_others_keep_what_is_applied() -> None:
    async with cluster(5) as world:
        await applied(world)
        assert all(len(holders(world, digest)) == 3 for digest in named(world))
        await replication_of(world).sync()
        assert all(len(holders(world, digest)) == 3 for digest in named(world))
        assert condition(world) is None


async def test_copies_are_completed_when_members_return() -> None:
    async with cluster(3) as world:
        lost(world, 2)
        await applied(world)
        replication = replication_of(world)
        await replication.sync()
        assert condition(world) == ("True", "CopiesMissing")
        assert all(holders(world, digest) == [0, 1] for digest in named(world))
        back(world, 2)
        await replication.sync()
        assert condition(world) == ("False", "CopiesKept")
        assert all(holders(world, digest) == [0, 1, 2] for digest in named(world))


async def test_copies_that_died_are_made_elsewhere() -> None:
    async with cluster(5) as world:
        await applied(world)
        (gone, *_) = [number for number in holders(world, named(world)[0]) if number]
        lost(world, gone)
        await replication_of(world).sync()
        assert all(len(set(holders(world, digest)) - {gone}) == 3 for digest in named(world))
        assert condition(world) is None


async def test_a_home_that_lacks_a_content_fetches_it() -> None:
    async with cluster(3) as world:
        await applied(world)
        for digest in named(world):
            del world.first.mesh.blobs[digest]
        lost(world, 2)
        back(world, 2)
        world.first.admission.copies.forget(but=())
        await replication_of(world).sync()
        assert all(0 in holders(world, digest) for digest in named(world))


async def test_only_the_first_home_alive_acts() -> None:
    async with cluster(3) as world:
        lost(world, 2)
        await applied(world)
        back(world, 2)
        await replication_of(world, 1).sync()
        assert all(holders(world, digest) == [0, 1] for digest in named(world))
        assert condition(world, 1) is None

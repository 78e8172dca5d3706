"""A key rotation: demand and sealed parts for the next epoch, by whose turn it is, and never a new generation."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from admission_world import HELLO, World, valid
from msgspec import structs

from veil.api.fake import a_workload
from veil.api.sealing import EpochKeys
from veil.fhe.encoding import default_encoding
from veil.fhe.fake import FakeEncryptor
from veil.fhe.sharing import join_secret
from veil.identity import Identity
from veil.mesh.ports import PeerState
from veil.placement.eligibility import anchored, anchored_in
from veil.store.journal import Binding
from veil.types import Digest, Epoch, Generation, Secret
from veil.wire.codec import decode, encode
from veil.wire.objects import KINDS, Body, Demand, DemandEnvelope, Resources, SealedPart, demand_id, object_id
from veil.wire.sealed import home_key, open_part

WORKLOAD = KINDS["Workload"]
NEXT = Epoch(2)


@pytest.fixture
async def world() -> AsyncIterator[Any]:
    started = World()
    try:
        await started.start()
        yield started
    finally:
        await started.close()


@pytest.fixture
def committee() -> list[Identity]:
    """The next epoch's: none of them in the first one's."""
    return [Identity.generate() for _ in range(4)]


@pytest.fixture
def following(committee: list[Identity]) -> EpochKeys:
    peers = tuple(one.peer_id for one in committee)
    return EpochKeys(epoch=NEXT, committee=peers, threshold=3, encryptor=FakeEncryptor(NEXT))


def confidential() -> Any:
    obj = a_workload()
    obj["spec"]["confidential"] = True
    return obj


async def with_homes(world: Any, *nodes: Any) -> None:
    await world.first.chain.set_home_peers(HELLO[:16], [one.identity.peer_id for one in nodes])
    await world.settle()


async def completed(world: Any, node: Any, *epochs: EpochKeys, held: tuple[Binding, ...] = ()) -> int:
    await world.settle()
    made: int = await node.admission.demands.complete([world.keys, *epochs], held)
    await world.settle()
    return made


def blob(world: Any, digest: bytes) -> bytes:
    return next(node.mesh.blobs[Digest(digest)] for node in world.nodes if Digest(digest) in node.mesh.blobs)


def opened_by(committee: list[Identity], part: SealedPart, members: tuple[int, ...]) -> bytes:
    shares = {member: committee[member - 1].open(part.shares[member - 1]) for member in members}
    return open_part(part, Secret(join_secret(shares)))


def row_of(world: Any) -> Any:
    return world.first.projection.object(WORKLOAD, HELLO)


@pytest.mark.parametrize("make", [a_workload, confidential])
async def test_a_home_node_shares_the_parts_with_the_next_committee(
    world: Any, committee: list[Identity], following: EpochKeys, make: Any
) -> None:
    await world.first.admission.apply(valid(make()), None)
    before = row_of(world)
    assert await completed(world, world.others[0], following) == 0
    assert await completed(world, world.first, following) == 1
    assert await completed(world, world.first, following) == 0
    assert row_of(world) == before, "no generation, hence no rollout"
    named = world.first.admission.demands.anchored(HELLO, NEXT)
    found = anchored(world.first.projection, HELLO)
    there = anchored_in(world.first.projection, HELLO, NEXT)
    assert named.resources == found.envelope.resources
    assert (there.generation, there.envelope.resources) == (found.generation, named.shared_resources)
    part = decode(blob(world, named.shared_resources), SealedPart)
    first = decode(blob(world, found.envelope.resources), SealedPart)
    assert (part.epoch, part.threshold, part.box, part.homes) == (NEXT, 3, first.box, first.homes)
    plain = open_part(first, home_key(first, world.first.identity))
    assert opened_by(committee, part, (1, 2, 4)) == plain
    assert decode(plain, Resources).containers
    demand = decode(blob(world, named.demand), Demand)
    assert (demand.epoch, demand.resources) == (NEXT, found.envelope.resources)
    following.encryptor.check_demand(demand.vector)
    assert bool(found.envelope.template) == bool(there.envelope.template) == (make is confidential)
    if make is confidential:
        template = decode(blob(world, there.envelope.template), SealedPart)
        assert (template.epoch, template.piece) == (NEXT, "template")
        assert b"busybox" in opened_by(committee, template, (2, 3, 4))


async def test_parts_are_named_for_their_epoch_alone(world: Any, following: EpochKeys) -> None:
    await world.first.admission.apply(valid(a_workload()), None)
    await completed(world, world.first, following)
    found = anchored(world.first.projection, HELLO)
    assert anchored_in(world.first.projection, HELLO, 1).envelope == found.envelope
    assert anchored_in(world.first.projection, HELLO, 7).envelope == found.envelope


async def test_a_demand_of_older_figures_names_no_parts(world: Any, following: EpochKeys) -> None:
    live = await world.first.admission.apply(valid(a_workload()), None)
    await completed(world, world.first, following)
    other = a_workload()
    other["spec"]["template"]["containers"][0]["resources"] = {"requests": {"cpu": "2"}}
    await world.first.admission.apply(valid(other), live)
    found = anchored(world.first.projection, HELLO)
    assert anchored_in(world.first.projection, HELLO, NEXT).envelope == found.envelope
    assert await completed(world, world.first, following) == 1
    assert anchored_in(world.first.projection, HELLO, NEXT).envelope.resources != found.envelope.resources


async def test_the_first_living_home_node_acts_and_the_next_one_after_it(world: Any, following: EpochKeys) -> None:
    first, second, third = world.nodes
    await with_homes(world, first, second)
    await first.admission.apply(valid(a_workload()), None)
    assert await completed(world, third, following) == 0
    assert await completed(world, second, following) == 0
    await first.mesh.close()
    world.network.kill(first.identity.peer_id)
    world.network.set_state(first.identity.peer_id, PeerState.DEAD)
    assert await completed(world, third, following) == 0
    assert await completed(world, second, following) == 1


def binding(world: Any, *, generation: int = 1) -> Binding:
    found = anchored(world.first.projection, HELLO)
    assert found is not None
    part = decode(blob(world, found.envelope.resources), SealedPart)
    template = encode(Body(spec={"template": {"containers": []}}))
    return Binding(
        object_id=HELLO,
        generation=Generation(generation),
        replica=0,
        state="bound",
        bound=b"bound",
        resources=open_part(part, home_key(part, world.first.identity)),
        template=template,
        expires_s=1,
        workload="hello",
        namespace="default",
    )


@pytest.mark.parametrize("make", [a_workload, confidential])
async def test_with_no_home_node_alive_a_winner_acts(
    world: Any, committee: list[Identity], following: EpochKeys, make: Any
) -> None:
    first, second, third = world.nodes
    await first.admission.apply(valid(make()), None)
    held = binding(world)
    assert await completed(world, second, following, held=(held,)) == 0, "the home node is alive: it is its turn"
    world.network.kill(first.identity.peer_id)
    world.network.set_state(first.identity.peer_id, PeerState.DEAD)
    assert await second.admission.demands.complete([following], ()) == 0, "who runs nothing has no figures"
    old = replace(held, generation=Generation(7))
    assert await second.admission.demands.complete([following], (old,)) == 0, "figures of another template"
    assert await second.admission.demands.complete([following], (held,)) == 1
    await world.settle()
    there = anchored_in(second.projection, HELLO, NEXT)
    part = decode(blob(world, there.envelope.resources), SealedPart)
    assert opened_by(committee, part, (1, 3, 4)) == held.resources
    assert decode(open_part(part, home_key(part, first.identity)), Resources), "the home nodes can read it too"
    row = second.projection.object(KINDS["Demand"], demand_id(HELLO, NEXT))
    assert await third.admission.demands.complete([following], (held,)) == 0
    assert second.projection.object(KINDS["Demand"], demand_id(HELLO, NEXT)) == row


async def test_two_winners_do_not_overwrite_each_other(world: Any, following: EpochKeys) -> None:
    await world.first.admission.apply(valid(a_workload()), None)
    demands = world.others[0].admission.demands
    resources = anchored(world.first.projection, HELLO).envelope.resources  # type: ignore[union-attr]
    one, other = (
        DemandEnvelope(object_id=HELLO, epoch=NEXT, resources=resources, demand=bytes([number]) * 32) for number in (1, 2)
    )
    await demands.anchor(one, replace=False)
    await world.settle()
    await demands.anchor(other, replace=False)
    await world.settle()
    assert demands.anchored(HELLO, NEXT) == one
    await demands.anchor(other)
    await world.settle()
    assert demands.anchored(HELLO, NEXT) == other


async def test_scaling_right_after_a_rotation_is_no_rollout(world: Any, following: EpochKeys) -> None:
    """The demand for the new epoch is not there yet: it is added outside the generation, not sealed into a new one."""
    live = await world.first.admission.apply(valid(a_workload()), None)
    before = anchored(world.first.projection, HELLO)
    world.keys = following
    await world.first.admission.apply(valid(a_workload(replicas=5)), live)
    after = anchored(world.first.projection, HELLO)
    assert after is not None
    assert before is not None
    assert (after.generation, after.envelope.replicas) == (before.generation, 5)
    assert await completed(world, world.first) == 1


async def test_figures_that_the_next_epoch_cannot_encode_keep_nobody_else_waiting(
    world: Any, following: EpochKeys, caplog: pytest.LogCaptureFixture
) -> None:
    big = a_workload("big")
    big["spec"]["template"]["containers"][0]["resources"] = {"requests": {"cpu": "8"}}
    await world.first.admission.apply(valid(big), None)
    await world.first.admission.apply(valid(a_workload()), None)
    small = default_encoding()
    resources = list(small.resources)
    resources[0] = structs.replace(resources[0], sizes=tuple(size for size in resources[0].sizes if size <= 4000))
    encryptor = FakeEncryptor(NEXT, structs.replace(small, resources=tuple(resources)))
    assert await completed(world, world.first, replace(following, encryptor=encryptor)) == 1
    assert world.first.admission.demands.anchored(HELLO, NEXT) is not None
    assert world.first.admission.demands.anchored(object_id("default", "big"), NEXT) is None
    assert "8000" not in caplog.text, "a figure of demand is in no log"

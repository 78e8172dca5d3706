"""Objects follow the projection, whatever somebody else has put on the chain or into the mesh."""

from dataclasses import replace
from typing import Any

import pytest
from node_world import FIGURES, HELLO, OPERATOR, TEMPLATE, World

from veil.api.assemble import withheld_from
from veil.api.core_nodes import core_node
from veil.errors import MeshUnavailable
from veil.identity import Identity, peer_id_text
from veil.mesh.ports import PeerState
from veil.node.contents import Contents
from veil.store.objects import Obj
from veil.types import Digest, ObjectId
from veil.wire.codec import encode, sha256
from veil.wire.objects import Body, Envelope, object_id
from veil.wire.rounds import LeafBatch

pytestmark = pytest.mark.looptime


@pytest.fixture
async def world() -> World:
    return await World().start()


def hello(world: World) -> Obj:
    return world.store.get("Workload", "default", "hello")


async def test_a_workload_is_shown_whole_on_a_home_node_and_goes_with_its_row(world: World) -> None:
    await world.workload()
    await world.assembler.sync()
    assert hello(world)["spec"]["template"]["containers"][0]["resources"] == {"requests": {"cpu": "250m", "memory": "64Mi"}}
    assert withheld_from(hello(world)) == frozenset()
    world.forget("Workload", HELLO)
    await world.assembler.sync()
    assert world.store.find("Workload", "default", "hello") is None


async def test_a_workload_being_deleted_is_not_served(world: World) -> None:
    envelope = await world.workload()
    await world.assembler.sync()
    world.anchor("Workload", HELLO, encode(envelope), generation=2, deleting=True)
    await world.assembler.sync()
    assert world.store.list("Workload") == []


async def test_away_from_home_the_figures_are_withheld_and_said_to_be(world: World) -> None:
    await world.workload(homes=world.other.peer_id)
    await world.assembler.sync()
    assert "resources" not in hello(world)["spec"]["template"]["containers"][0]
    assert withheld_from(hello(world)) == {"resources"}


async def test_parts_that_nobody_has_are_asked_for_until_somebody_does(world: World) -> None:
    await world.workload(at=world.far)
    world.network.partition([world.identity.peer_id], [world.other.peer_id])
    with pytest.raises(MeshUnavailable):
        await world.assembler.sync()
    assert withheld_from(hello(world)) == {"template", "resources"}
    assert world.assembler.incomplete == 1
    world.network.heal()
    await world.assembler.sync()
    assert withheld_from(hello(world)) == frozenset()
    assert world.assembler.incomplete == 0


async def test_one_object_whose_parts_are_lost_keeps_no_other_waiting(world: World) -> None:
    lost = Envelope(kind="Workload", namespace="default", name="lost", uid=bytes(16), policy="BinPack", body=b"l" * 32)
    world.anchor("Workload", object_id("default", "lost"), encode(lost))
    await world.workload()
    with pytest.raises(MeshUnavailable):
        await world.assembler.sync()
    assert "template" in hello(world)["spec"]


@pytest.mark.parametrize(
    "envelope",
    [
        b"garbage",
        encode(Envelope(kind="Workload", namespace="default", name="hello", uid=bytes(16))),
        encode(Envelope(kind="Namespace", namespace="", name="default", uid=bytes(16))),
    ],
    ids=["unreadable", "of another name", "of another kind"],
)
async def test_an_envelope_that_is_not_that_of_its_object_is_no_object(world: World, envelope: bytes) -> None:
    await world.workload()
    await world.assembler.sync()
    before = hello(world)
    world.anchor("Workload", object_id("mallory", "evil"), envelope)
    await world.workload("later")
    await world.assembler.sync()
    assert hello(world) is before
    assert [obj["metadata"]["name"] for obj in world.store.list("Workload")] == ["hello", "later"]
    assert world.store.list("Namespace") == []


@pytest.mark.parametrize(
    "spec", [{"template": 7}, {"template": {"containers": 3}}, {"template": {"containers": [{}]}}, {"strategy": []}]
)
async def test_a_body_that_is_no_spec_keeps_no_other_waiting(world: World, spec: dict[str, Any]) -> None:
    part = await world.mesh.put(encode(world.part(object_id("default", "evil"), world.identity.peer_id)))
    body = await world.mesh.put(encode(Body(spec=spec)))
    evil = Envelope(kind="Workload", namespace="default", name="evil", uid=bytes(16), policy="BinPack", body=body, resources=part)
    world.anchor("Workload", object_id("default", "evil"), encode(evil))
    await world.workload()
    await world.assembler.sync()
    assert world.store.find("Workload", "default", "hello")
    assert world.store.find("Workload", "default", "evil")


async def test_a_body_that_cannot_be_decoded_keeps_no_other_waiting(world: World) -> None:
    body = await world.mesh.put(b"no body")
    evil = Envelope(kind="Workload", namespace="default", name="evil", uid=bytes(16), policy="BinPack", body=body)
    world.anchor("Workload", object_id("default", "evil"), encode(evil))
    await world.workload()
    await world.assembler.sync()
    assert hello(world)
    assert "template" not in world.store.get("Workload", "default", "evil")["spec"]


async def test_what_is_written_here_while_parts_are_fetched_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.workload()
    await world.assembler.sync()
    await world.workload(generation=2, replicas=5)
    fetch = world.contents.body

    async def slow(envelope: Envelope) -> Body | None:
        live = hello(world)
        world.store.put({**live, "status": {"replicas": 1}, "metadata": {**live["metadata"], "finalizers": ["kopf"]}})
        return await fetch(envelope)

    monkeypatch.setattr(world.contents, "body", slow)
    await world.assembler.sync()
    assert hello(world)["spec"]["replicas"] == 5
    assert hello(world)["status"] == {"replicas": 1}
    assert hello(world)["metadata"]["finalizers"] == ["kopf"]


async def test_an_object_deleted_while_its_parts_are_fetched_does_not_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.workload()

    async def slow(envelope: Envelope) -> Body | None:
        world.forget("Workload", HELLO)
        return None

    monkeypatch.setattr(world.contents, "body", slow)
    await world.assembler.sync()
    assert world.store.list("Workload") == []


async def test_an_object_that_a_reorg_brings_back_is_shown_again(world: World) -> None:
    await world.workload()
    await world.assembler.sync()
    world.store.delete("Workload", "default", "hello")
    await world.assembler.sync()
    assert hello(world)


async def test_a_sync_that_finds_nothing_new_tells_no_watcher(world: World) -> None:
    world.register(world.identity, name="node-1")
    await world.workload()
    await world.namespace(world.identity.peer_id)
    world.append(3, 1, Digest(b"d" * 32))
    await world.assembler.sync()
    before = world.store.resource_version
    await world.assembler.sync()
    assert world.store.resource_version == before


async def test_nodes_follow_the_registry_and_what_swim_says(world: World) -> None:
    squatter = Identity.generate()
    world.register(world.other, name="node-2", rv=1)
    world.register(squatter, name="node-2", rv=2)
    world.register(Identity.generate(), name="unproven", proven=False, rv=3)
    await world.assembler.sync()
    names = [obj["metadata"]["name"] for obj in world.store.list("Node")]
    assert names == ["node-2", f"node-2-{squatter.peer_id.hex()[:8]}"]
    node = world.store.get("Node", "", "node-2")
    assert (node["status"]["peerID"], node["status"]["operator"]) == (peer_id_text(world.other.peer_id), OPERATOR)
    assert node["status"]["conditions"][0]["status"] == "True"
    world.network.set_state(world.other.peer_id, PeerState.DEAD)
    await world.assembler.sync()
    assert world.store.get("Node", "", "node-2")["status"]["conditions"][0]["status"] == "False"
    world.register(world.other, name="renamed")
    await world.assembler.sync()
    assert [obj["metadata"]["name"] for obj in world.store.list("Node")] == ["node-2", "renamed"]


@pytest.mark.parametrize(
    ("status", "down", "expected", "kubectl"),
    [
        ("Active", None, ("True", "Active"), ("True", "SwimAlive")),
        ("Active", 7, ("False", "MarkedDown"), ("False", "MarkedDown")),
        ("Cordoned", 7, ("False", "MarkedDown"), ("False", "MarkedDown")),
        ("Cordoned", None, ("False", "Cordoned"), ("True", "SwimAlive")),
        ("Leaving", 7, ("False", "NotActive"), ("False", "Leaving")),
    ],
)
async def test_a_node_says_whether_rounds_may_choose_it(
    world: World, status: str, down: int | None, expected: tuple[str, str], kubectl: tuple[str, str]
) -> None:
    world.register(world.other, name="node-2", status=status)
    row = world.projection.node(world.other.peer_id)
    assert row is not None
    world.write(lambda writer: writer.put_node(replace(row, down_incarnation=down)))
    await world.assembler.sync()
    node = world.store.get("Node", "", "node-2")
    found = {one["type"]: (one["status"], one["reason"]) for one in node["status"]["conditions"]}
    assert found["Eligible"] == expected
    assert {one["type"]: (one["status"], one["reason"]) for one in core_node(node)["status"]["conditions"]}["Ready"] == kubectl


async def test_leaves_are_shown_once_their_batch_is_here_and_go_with_a_reorg(world: World) -> None:
    batch = encode(LeafBatch(shard=3, sequence=1, leaves=(b"l" * 32,)))
    world.append(3, 1, sha256(batch))
    await world.assembler.sync()
    assert [obj["metadata"]["name"] for obj in world.store.list("Placement")] == ["3-1"]
    await world.mesh.put(batch)
    await world.assembler.sync()
    assert [obj["metadata"]["name"] for obj in world.store.list("Placement")] == ["3-1-0"]
    with world.projection.batch() as writer:
        writer.rollback(0)
    await world.assembler.sync()
    assert world.store.list("Placement") == []


async def test_an_append_that_names_something_else_as_its_batch_stops_nothing(world: World) -> None:
    world.append(3, 1, await world.mesh.put(b"not a batch"))
    await world.workload()
    await world.assembler.sync()
    assert hello(world)
    assert [obj["metadata"]["name"] for obj in world.store.list("Placement")] == ["3-1"]


# contents


async def test_contents_are_fetched_once_and_opened_at_home_only(world: World) -> None:
    envelope = await world.workload(at=world.far)
    assert await world.contents.resources(envelope) == FIGURES
    assert await world.contents.body(envelope) == Body(spec={"template": TEMPLATE})
    assert await world.contents.template(envelope) is None
    world.network.kill(world.other.peer_id)
    world.mesh.blobs.clear()
    assert await world.contents.resources(envelope) == FIGURES
    assert await Contents(world.far, world.other).resources(envelope) is None


async def test_a_content_that_nobody_has_is_a_matter_of_time(world: World) -> None:
    envelope = Envelope(kind="Workload", namespace="default", name="x", uid=bytes(16), body=b"b" * 32)
    with pytest.raises(MeshUnavailable):
        await world.contents.body(envelope)


# view


async def test_homes_are_those_of_the_namespace_and_unknown_until_it_is_here(world: World) -> None:
    peer = world.identity.peer_id
    assert not world.view.may_be_home(HELLO, peer)
    await world.workload()
    assert world.view.homes(HELLO) == ()
    assert world.view.may_be_home(HELLO, peer)
    await world.namespace(world.other.peer_id)
    await world.assembler.sync()
    assert world.view.homes(HELLO) == (world.other.peer_id,)
    assert not world.view.may_be_home(HELLO, peer)


async def test_home_nodes_are_the_registry_s_whatever_the_object_wishes(world: World) -> None:
    await world.workload()
    await world.namespace(world.identity.peer_id)
    await world.assembler.sync()
    world.homes(world.other.peer_id)
    await world.assembler.sync()
    assert world.view.homes(HELLO) == (world.other.peer_id,)
    shown = world.store.find("Namespace", "", "default")
    assert shown is not None
    assert shown["spec"]["homePeers"] == [peer_id_text(world.other.peer_id)]


async def test_placement_does_not_see_a_workload_that_is_called_something_else(world: World) -> None:
    elsewhere = ObjectId(object_id("mallory", "evil"))
    envelope = await world.workload()
    world.anchor("Workload", elsewhere, encode(envelope))
    assert world.view.object(2, HELLO) is not None
    assert world.view.object(2, elsewhere) is None
    assert world.view.homes(elsewhere) == ()

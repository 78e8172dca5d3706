"""Viewers of sealed content: a node whose operator may view shows what home nodes show; nobody else's does."""

from typing import Any

import pytest
from node_world import FIGURES, HELLO, OPERATOR, LoopClock, World

from veil.api.assemble import WITHHELD
from veil.chain.records import Right
from veil.errors import MeshUnavailable
from veil.identity import Identity
from veil.mesh.ports import PeerState
from veil.node.assembler import Assembler
from veil.node.contents import Contents
from veil.node.reports import InstanceReports
from veil.node.view import NodeView
from veil.node.viewing import VIEW, Viewing
from veil.store.objects import Obj
from veil.store.rows import NodeRow
from veil.types import Address, Generation, ObjectId, PeerId
from veil.wire.codec import decode, encode
from veil.wire.objects import KINDS, object_id
from veil.wire.rounds import InstanceStatus
from veil.wire.views import ViewAnswer, ViewedWorkload, ViewQuestion

pytestmark = pytest.mark.looptime

VIEWER = Address("0x" + "22" * 20)
SPACE = object_id("default", "")
RUNNING = InstanceStatus(phase="Running", reason="", ready=True, restarts=3, started_s=5, observed_s=6)


class Site:
    """One node's part in it, over the world's chain; its store is its own."""

    def __init__(self, world: World, own: World) -> None:
        self.identity = own.identity
        self.mesh = world.network.mesh(self.identity.peer_id)
        self.store = own.store
        view = NodeView(world.projection, lambda: None)
        self.contents = Contents(self.mesh, self.identity)
        self.assembler = Assembler(self.store, world.projection, self.contents, self.mesh)
        self.reports = InstanceReports(self.store, world.projection, LoopClock())
        self.pokes = 0
        self.viewing = Viewing(
            mesh=self.mesh,
            projection=world.projection,
            view=view,
            contents=self.contents,
            reports=self.reports,
            coordinates=lambda _: False,
            on_keys=self._poked,
        )

    def _poked(self) -> None:
        self.pokes += 1

    async def look(self) -> Obj:
        """The Workload as it is shown after everything has run once."""
        await self.assembler.sync()
        await self.viewing.sync()
        await self.assembler.sync()
        return self.store.get("Workload", "default", "hello")

    @property
    def instances(self) -> list[tuple[str, dict[str, Any]]]:
        return [(obj["metadata"]["name"], obj["status"]) for obj in self.store.list("Instance")]


class Scene:
    """A home node with one workload whose replica runs, and the node of a stranger's operator."""

    def __init__(self) -> None:
        self.world = World()
        self.home = Site(self.world, World(identity=self.world.identity))
        self.far = Site(self.world, World(identity=self.world.other))

    async def start(self) -> "Scene":
        world = self.world
        await world.start()
        for identity, operator in ((world.identity, OPERATOR), (world.other, VIEWER)):
            self.register(identity, operator)
        await world.workload()
        await world.namespace(world.identity.peer_id)
        world.network.set_state(world.identity.peer_id, PeerState.ALIVE)
        await self.home.assembler.sync()
        self.home.reports.report(HELLO, Generation(1), 0, RUNNING, None)
        return self

    def register(self, identity: Identity, operator: Address) -> None:
        row = NodeRow(peer=identity.peer_id, operator=operator, status="Active", proven=True, name=operator, registered_rv=1)
        self.world.write(lambda writer: writer.put_node(row))

    def grant(self, rights: Right, account: Address = VIEWER) -> None:
        self.world.write(lambda writer: writer.put_rights(SPACE[:16], OPERATOR, account, int(rights)))


@pytest.fixture
async def scene() -> Scene:
    return await Scene().start()


def withheld(workload: Obj) -> str:
    return str(workload["metadata"].get("annotations", {}).get(WITHHELD, ""))


def resources(workload: Obj) -> Any:
    return workload["spec"]["template"]["containers"][0].get("resources")


@pytest.mark.parametrize("rights", [Right.NONE, Right.EDIT, Right.REQUEST, Right.WRITE])
async def test_other_rights_show_nothing(scene: Scene, rights: Right) -> None:
    scene.grant(rights)
    shown = await scene.far.look()
    assert (withheld(shown), resources(shown), scene.far.instances) == ("resources", None, [])
    with pytest.raises(MeshUnavailable):
        await scene.far.mesh.request(scene.home.identity.peer_id, VIEW, encode(ViewQuestion(namespace=SPACE[:16])))


async def test_a_viewer_s_node_shows_what_the_home_node_shows_until_the_right_ends(scene: Scene) -> None:
    scene.grant(Right.VIEW)
    shown, at_home = await scene.far.look(), await scene.home.look()
    assert withheld(shown) == ""
    assert resources(shown) == resources(at_home)
    assert resources(shown)["requests"]["cpu"] == "250m"
    assert FIGURES.containers["main"].cpu_milli == 250
    assert scene.far.instances == scene.home.instances
    assert scene.far.instances[0][1]["restarts"] == 3
    assert scene.far.viewing.shows(HELLO)
    scene.grant(Right.EDIT)
    shown = await scene.far.look()
    assert (withheld(shown), resources(shown), scene.far.instances) == ("resources", None, [])
    assert not scene.far.viewing.shows(HELLO)


async def test_what_has_not_changed_is_not_sent_again(scene: Scene) -> None:
    scene.grant(Right.VIEW)
    await scene.far.look()
    network = scene.world.network
    network.passed.clear()
    await scene.far.viewing.sync()
    (answer,) = [decode(one.payload, ViewAnswer) for one in network.passed if (one.protocol, one.leg) == (VIEW, "reply")]
    assert (answer.workloads, scene.far.pokes) == (None, 1)
    scene.home.reports.report(HELLO, Generation(1), 0, InstanceStatus(phase="Failed", reason="Error"), None)
    await scene.far.viewing.sync()
    assert scene.far.instances[0][1]["phase"] == "Failed"
    scene.home.reports.gone(HELLO, Generation(1), 0)
    await scene.far.viewing.sync()
    assert scene.far.instances == []


async def test_while_no_home_node_answers_what_was_shown_stays(scene: Scene) -> None:
    scene.grant(Right.VIEW)
    await scene.far.look()
    scene.world.network.kill(scene.home.identity.peer_id)
    shown = await scene.far.look()
    assert (withheld(shown), len(scene.far.instances)) == ("", 1)


async def test_a_key_that_does_not_open_and_a_workload_of_another_namespace_are_left_out(scene: Scene) -> None:
    """A home node that lies: about its own namespace it can keep something back, and in others it has no say."""
    scene.grant(Right.VIEW)
    row = scene.world.projection.object(KINDS["Workload"], HELLO)
    assert row is not None
    shown = await scene.home.look()
    digest = next(iter(scene.home.contents._keys))
    elsewhere = object_id("other", "web")

    async def lie(_: PeerId, __: bytes) -> bytes:
        told = [
            ViewedWorkload(object_id=HELLO, keys=((digest, bytes(32)), (b"x" * 32, bytes(32))), replicas=()),
            ViewedWorkload(object_id=elsewhere, keys=(), replicas=()),
        ]
        return encode(ViewAnswer(workloads=tuple(told), more=False))

    scene.home.mesh.serve(VIEW, lie)
    shown = await scene.far.look()
    assert (withheld(shown), scene.far.instances) == ("resources", [])
    assert set(scene.far.contents._lent) == {digest}
    assert not scene.far.viewing.shows(ObjectId(elsewhere))


async def test_a_namespace_comes_in_pages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veil.node.viewing.PAGE_MAX_BYTES", 0)
    for number in range(4):
        await scene.world.workload(f"w{number}")
    scene.grant(Right.VIEW)
    await scene.far.look()
    pages = scene.far.viewing._seen[SPACE[:16]].pages
    assert len(pages) == 5
    assert sum(len(answer.workloads or ()) for _, answer in pages.values()) == 5
    await scene.far.viewing.sync()
    assert scene.far.viewing._seen[SPACE[:16]].pages == pages


async def test_who_is_no_home_node_has_nothing_to_give(scene: Scene) -> None:
    """Asked by a viewer, also when keys were lent to it."""
    scene.grant(Right.VIEW)
    await scene.far.look()
    with pytest.raises(MeshUnavailable):
        await scene.home.mesh.request(scene.far.identity.peer_id, VIEW, encode(ViewQuestion(namespace=SPACE[:16])))
    assert await scene.far.contents.key(next(iter(scene.far.contents._lent))) is None

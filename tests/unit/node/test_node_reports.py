"""Instances as they are heard of, what placement is asked for, and what the agent is to run."""

import asyncio
import json

import msgspec
import pytest
from node_world import FIGURES, HELLO, TEMPLATE, World

from veil.identity import Identity
from veil.manifest.schemas import schema
from veil.node.desired import desired_instances
from veil.node.reports import UNHEARD_MAX_S
from veil.node.wanted import drop_foreign_instances, visible_to_controllers, wanted_replicas
from veil.rollout.instance import new_instance
from veil.store.journal import Binding
from veil.store.objects import Obj
from veil.types import Generation, ObjectId
from veil.wire.codec import encode
from veil.wire.objects import Body
from veil.wire.rounds import Bound, InstanceStatus, Leaf

pytestmark = pytest.mark.looptime

FIRST = Generation(1)
RUNNING = InstanceStatus(phase="Running", ready=True, restarts=2, started_s=1_700_000_000, observed_s=1_700_000_005)


def yes(of: ObjectId) -> bool:
    return True


def no(of: ObjectId) -> bool:
    return False


def bound(peer: bytes) -> Bound:
    leaf = Leaf(
        salt=b"s" * 32,
        object_id=HELLO,
        generation=1,
        replica=0,
        round=b"r" * 16,
        epoch=1,
        transcript=b"t" * 32,
        peer=peer,
        checked=True,
    )
    return Bound(leaf=leaf, shard=3, sequence=7, root=b"o" * 32, proof=())


@pytest.fixture
async def world() -> World:
    world = await World().start()
    await world.workload()
    await world.namespace(world.identity.peer_id)
    await world.assembler.sync()
    return world


def instances(world: World) -> list[str]:
    return [obj["metadata"]["name"] for obj in world.store.list("Instance")]


def first(world: World) -> Obj:
    return world.store.get("Instance", "default", "hello-1-0")


async def test_changes_are_told_as_events(world: World) -> None:
    world.register(world.other, name="node-2")
    for _ in range(3):
        world.reports.report(HELLO, FIRST, 0, RUNNING, bound(world.other.peer_id))
    events = {one["reason"]: one for one in world.store.list("Event")}
    assert set(events) == {"Placed", "Restarted", "Running"}
    assert events["Running"]["count"] == 1, "what is as before is no event"
    assert events["Placed"]["involvedObject"]["uid"] == first(world)["metadata"]["uid"]


async def test_the_first_report_makes_the_instance_of_its_workload(world: World) -> None:
    world.register(world.other, name="node-2")
    world.reports.report(HELLO, FIRST, 0, RUNNING, bound(world.other.peer_id))
    made = first(world)
    assert made["metadata"]["labels"]["veil.dev/workload"] == "hello"
    assert made["metadata"]["ownerReferences"][0]["uid"] == world.store.get("Workload", "default", "hello")["metadata"]["uid"]
    assert made["status"]["node"] == "node-2"
    assert made["status"]["placement"]["sequence"] == 7
    assert {entry["type"]: entry["status"] for entry in made["status"]["conditions"]} == {
        "Placed": "True",
        "Ready": "True",
        "DecryptionChecked": "True",
    }


async def test_every_field_of_the_status_is_said(world: World) -> None:
    """Only the generation of a condition is not: an Instance has one."""
    world.register(world.other, name="node-2")
    world.reports.report(HELLO, FIRST, 0, RUNNING, bound(world.other.peer_id))
    said, known = first(world)["status"], schema("Instance")["properties"]["status"]["properties"]
    assert set(said) == set(known)
    assert set(said["placement"]) == set(known["placement"]["properties"])
    assert {*said["conditions"][0], "observedGeneration"} == set(known["conditions"]["items"]["properties"])


@pytest.mark.parametrize("checked", [True, False])
async def test_every_condition_is_produced(world: World, checked: bool) -> None:
    world.register(world.other, name="node-2")

    def shown() -> dict[str, tuple[str, str]]:
        return {entry["type"]: (entry["status"], entry["reason"]) for entry in first(world)["status"]["conditions"]}

    world.reports.report(HELLO, FIRST, 0, InstanceStatus(phase="Pending", reason="NoFeasibleNode"), None)
    assert shown() == {"Placed": ("False", "NoFeasibleNode"), "Ready": ("False", "NoFeasibleNode")}
    placed = bound(world.other.peer_id)
    placed = msgspec.structs.replace(placed, leaf=msgspec.structs.replace(placed.leaf, checked=checked))
    world.reports.report(HELLO, FIRST, 0, RUNNING, placed)
    assert shown() == {
        "Placed": ("True", "Appended"),
        "Ready": ("True", "Running"),
        "DecryptionChecked": ("True", "QuorumAgreed") if checked else ("False", "DecryptionUnchecked"),
    }


async def test_a_status_says_nothing_of_figures(world: World) -> None:
    world.reports.report(HELLO, FIRST, 0, RUNNING, bound(world.other.peer_id))
    text = json.dumps(world.store.list("Instance"))
    assert not any(word in text for word in ("cpu", "memory", str(64 << 20), "salt", (b"s" * 32).hex()))


async def test_a_transition_time_moves_with_the_condition_only(world: World) -> None:
    world.reports.report(HELLO, FIRST, 0, RUNNING, bound(world.other.peer_id))
    before = first(world)["status"]["conditions"]
    later = InstanceStatus(phase="Running", ready=True, restarts=3, observed_s=1_700_000_100)
    world.reports.report(HELLO, FIRST, 0, later, bound(world.other.peer_id))
    assert [entry["lastTransitionTime"] for entry in first(world)["status"]["conditions"]] == [
        entry["lastTransitionTime"] for entry in before
    ]
    world.reports.report(HELLO, FIRST, 0, InstanceStatus(phase="Failed", observed_s=1_700_000_200), bound(world.other.peer_id))
    moved = {entry["type"]: entry["lastTransitionTime"] for entry in first(world)["status"]["conditions"]}
    assert moved["Placed"] == before[0]["lastTransitionTime"]
    assert moved["Ready"] != before[1]["lastTransitionTime"]


async def test_nothing_is_made_of_an_unknown_workload(world: World) -> None:
    world.reports.report(ObjectId(b"x" * 32), FIRST, 0, RUNNING, None)
    assert instances(world) == []


async def test_a_late_renewal_of_a_deleted_workload_brings_no_instance_back(world: World) -> None:
    world.reports.report(HELLO, FIRST, 0, RUNNING, None)
    envelope = world.projection.object(2, HELLO)
    assert envelope is not None
    world.store.delete("Instance", "default", "hello-1-0")
    world.anchor("Workload", HELLO, envelope.envelope, generation=2, deleting=True)
    world.reports.report(HELLO, FIRST, 0, RUNNING, None)
    assert instances(world) == []
    world.forget("Workload", HELLO)
    world.reports.report(HELLO, FIRST, 0, RUNNING, None)
    assert instances(world) == []


async def test_while_a_deleted_workload_ends_its_instances_show_it_and_then_go(world: World) -> None:
    world.reports.report(HELLO, FIRST, 0, RUNNING, None)
    world.forget("Workload", HELLO)
    world.reports.report(HELLO, FIRST, 0, InstanceStatus(phase="Terminating"), None)
    assert first(world)["status"]["phase"] == "Terminating"
    world.reports.gone(HELLO, FIRST, 1)
    assert instances(world) == ["hello-1-0"]
    world.reports.gone(HELLO, FIRST, 0)
    assert instances(world) == []


async def test_a_replica_that_nobody_asks_for_or_speaks_of_is_forgotten(world: World) -> None:
    for replica in (0, 1):
        world.reports.report(HELLO, FIRST, replica, RUNNING, None)
    world.reports.drop_unheard(no)
    await world.workload(generation=1, replicas=1)
    await asyncio.sleep(UNHEARD_MAX_S + 1)
    world.reports.drop_unheard(yes)
    assert instances(world) == ["hello-1-0", "hello-1-1"], "where it is coordinated, the controllers decide"
    world.reports.drop_unheard(no)
    assert instances(world) == ["hello-1-0"], "the other one is asked for: it is being placed anew"


async def test_one_that_still_ends_is_not_forgotten(world: World) -> None:
    world.reports.report(HELLO, FIRST, 1, RUNNING, None)
    await world.workload(generation=2)
    for _ in range(5):
        await asyncio.sleep(UNHEARD_MAX_S / 2)
        world.reports.report(HELLO, FIRST, 1, InstanceStatus(phase="Terminating"), None)
        world.reports.drop_unheard(no)
    assert instances(world) == ["hello-1-1"]


async def test_a_workloads_status_counts_its_instances(world: World) -> None:
    for replica in (0, 1):
        world.reports.report(HELLO, FIRST, replica, RUNNING, bound(world.other.peer_id))
    world.reports.refresh_workloads()
    status = world.store.get("Workload", "default", "hello")["status"]
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    before = world.store.resource_version
    world.reports.refresh_workloads()
    assert world.store.resource_version == before


# what placement is asked for


async def test_wanted_are_the_instances_of_the_shards_coordinated_here(world: World) -> None:
    workload = world.store.get("Workload", "default", "hello")
    world.store.put(new_instance(workload, 1, 1))
    (wanted,) = wanted_replicas(world.store, yes)
    assert (wanted.key, wanted.name) == ((HELLO, 1, 1), "hello-1-1")
    assert wanted_replicas(world.store, no) == []
    assert visible_to_controllers(workload, yes)
    assert not visible_to_controllers(workload, no)
    assert visible_to_controllers({"kind": "Node", "metadata": {"name": "n"}}, no)


async def test_only_what_is_neither_coordinated_nor_at_home_here_is_dropped(world: World) -> None:
    world.reports.report(HELLO, FIRST, 0, RUNNING, None)
    drop_foreign_instances(world.store, yes, no)
    drop_foreign_instances(world.store, no, lambda of: world.view.may_be_home(of, world.identity.peer_id))
    assert instances(world) == ["hello-1-0"]
    world.store.delete("Namespace", "", "default")
    drop_foreign_instances(world.store, no, lambda of: world.view.may_be_home(of, world.identity.peer_id))
    assert instances(world) == ["hello-1-0"], "whose homes are not known yet stays"
    drop_foreign_instances(world.store, no, lambda of: world.view.may_be_home(of, Identity.generate().peer_id))
    await world.namespace(world.other.peer_id)
    await world.assembler.sync()
    drop_foreign_instances(world.store, no, lambda of: world.view.may_be_home(of, world.identity.peer_id))
    assert instances(world) == []


# what the agent is to run


def binding(of: ObjectId = HELLO, *, state: str = "bound", template: bytes | None = None) -> Binding:
    return Binding(
        object_id=of,
        generation=FIRST,
        replica=0,
        state=state,  # type: ignore[arg-type]
        template=encode(Body(spec={"template": TEMPLATE})) if template is None else template,
        resources=encode(FIGURES),
        expires_s=0,
        workload="hello",
        namespace="default",
    )


async def test_only_bound_replicas_run(world: World) -> None:
    states = [binding(state="reserved"), binding(state="superseded")]
    assert desired_instances(states, world.projection, caught_up=True) == {}
    ((key, desired),) = desired_instances([binding()], world.projection, caught_up=True).items()
    assert (key.object_id, desired.spec, desired.resources, desired.public) == (HELLO, TEMPLATE, FIGURES, True)


async def test_a_missing_workload_ends_its_replicas_only_once_the_chain_was_read(world: World) -> None:
    world.forget("Workload", HELLO)
    assert len(desired_instances([binding()], world.projection, caught_up=False)) == 1
    assert desired_instances([binding()], world.projection, caught_up=True) == {}


@pytest.mark.parametrize("template", [b"", b"garbage", encode(Body(spec={})), encode(Body(spec={"template": 7}))])
async def test_a_template_that_is_none_does_not_keep_others_from_running(world: World, template: bytes) -> None:
    other = ObjectId(b"o" * 32)
    desired = desired_instances([binding(template=template), binding(other)], world.projection, caught_up=False)
    assert [one.spec for one in desired.values()] == [{}, TEMPLATE]


async def test_an_envelope_that_is_none_makes_the_template_a_secret(world: World) -> None:
    world.anchor("Workload", HELLO, b"garbage", generation=2)
    ((_, desired),) = desired_instances([binding()], world.projection, caught_up=True).items()
    assert not desired.public

"""Admission on three nodes: what is anchored, where contents are, what is refused, and that no figure gets out."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from admission_world import EPOCH, HELLO, cluster, envelope_of, valid
from eth_utils.address import to_checksum_address

from veil.api import copies, sealing
from veil.api.fake import FakeAuditor, FakeDrainer, FakeExecs, FakeLogs, a_workload
from veil.api.server import ApiServer
from veil.chain.records import Right
from veil.client.api import ApiClient
from veil.client.blocking import unix_config
from veil.client.kinds import WORKLOADS
from veil.errors import (
    ChainUnavailable,
    ConfigInvalid,
    Conflict,
    DeadlineExceeded,
    FheUnavailable,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    MeshUnavailable,
    Untrusted,
)
from veil.fhe.sharing import join_secret
from veil.identity import Identity, peer_id_text
from veil.mesh.faults import Drop
from veil.mesh.ports import PeerState
from veil.store.objects import Obj
from veil.types import Address, Digest, Generation, Secret
from veil.wire.codec import Message, decode, encode, sha256
from veil.wire.objects import (
    KINDS,
    Body,
    Demand,
    DemandEnvelope,
    Envelope,
    Resources,
    SealedPart,
    demand_id,
    object_id,
)
from veil.wire.sealed import home_key, open_part

WORKLOAD, DEMAND = KINDS["Workload"], KINDS["Demand"]


@pytest.fixture
async def world() -> AsyncIterator[Any]:
    async with cluster() as started:
        yield started


def blob(node: Any, digest: bytes, kind: type[Message]) -> Any:
    return decode(node.mesh.blobs[Digest(digest)], kind)


def sent(world: Any) -> int:
    """How many transactions there were, and pushes."""
    return len(world.ledger.blocks) + len(world.network.passed)


async def test_what_is_anchored_is_what_was_asked_for(world: Any) -> None:
    obj = await world.first.admission.apply(valid(a_workload()), None)
    assert obj["metadata"]["generation"] == 1
    assert obj["spec"]["template"]["containers"][0]["resources"] == {"requests": {"cpu": "250m", "memory": "64Mi"}}
    envelope = envelope_of(world.first)
    assert (envelope.name, envelope.replicas, envelope.policy, envelope.labels) == ("hello", 2, "BinPack", {"app": "hello"})
    row = world.first.projection.object(DEMAND, demand_id(HELLO, EPOCH))
    anchored = decode(row.envelope, DemandEnvelope)
    assert (anchored.object_id, anchored.resources) == (HELLO, envelope.resources)
    demand = blob(world.first, anchored.demand, Demand)
    assert (demand.object_id, demand.epoch, demand.resources) == (HELLO, EPOCH, envelope.resources)
    world.keys.encryptor.check_demand(demand.vector)


async def test_another_member_has_every_content_before_the_chain_names_it(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, seen = world.first.chain, []
    original = chain.apply_object

    async def checked(kind: int, where: bytes, expected: Generation, data: bytes, **rest: Any) -> Generation:
        named = decode(data, DemandEnvelope) if kind == DEMAND else decode(data, Envelope)
        digests = [named.demand] if isinstance(named, DemandEnvelope) else [named.body, named.resources]
        for digest in digests:
            seen.append(any(digest in node.mesh.blobs for node in world.others))
        result: Generation = await original(kind, where, expected, data, **rest)
        return result

    monkeypatch.setattr(chain, "apply_object", checked)
    await world.first.admission.apply(valid(a_workload()), None)
    assert seen == [True, True, True]


async def test_the_key_opens_for_the_home_node_and_for_a_threshold_of_the_committee(world: Any) -> None:
    await world.first.admission.apply(valid(a_workload()), None)
    part = blob(world.first, envelope_of(world.first).resources, SealedPart)
    assert decode(open_part(part, home_key(part, world.first.identity)), Resources).containers["main"].cpu_milli == 250
    with pytest.raises(Forbidden):
        home_key(part, world.others[0].identity)
    shares = {index: node.identity.open(part.shares[index - 1]) for index, node in enumerate(world.nodes, 1)}
    joined = Secret(join_secret({1: shares[1], 3: shares[3]}))
    assert decode(open_part(part, joined), Resources).containers["main"].memory_bytes == 64 << 20
    with pytest.raises(Untrusted):
        join_secret({2: shares[2]})
    with pytest.raises(Untrusted):
        world.nodes[0].identity.open(part.shares[1])


# no figure gets out

FIGURES = {"cpu_milli": 3217, "memory_bytes": 1_234_571_264, "disk_bytes": 987_654_144, "gpu_count": 0}
WRITTEN = {"cpu": "3217m", "memory": "1234571264", "ephemeral-storage": "964506Ki"}


def secretive(**spec: Any) -> Obj:
    obj = a_workload(**spec)
    obj["spec"]["template"]["containers"][0]["resources"] = {"requests": dict(WRITTEN)}
    return obj


def encodings() -> Iterator[bytes]:
    """The ways in which a figure could be written: text, CBOR, little- and big-endian, hexadecimal."""
    import cbor2

    for text in ("3217m", "3.217", "1234571264", "1205636Ki", "987654144", "964506Ki"):
        yield text.encode()
    for value in (figure for figure in FIGURES.values() if figure):
        yield str(value).encode()
        yield cbor2.dumps(value)
        yield f"{value:x}".encode()
        for size in (4, 8):
            yield value.to_bytes(size, "big")
            yield value.to_bytes(size, "little")
    yield (3217).to_bytes(2, "big") + b"\x00"
    yield b"cpu_milli"
    yield b"memory_bytes"


def leaks(world: Any, log_text: str) -> list[tuple[str, bytes]]:
    """Where a figure can be read by anybody but this node: chain, other members' blobs, messages, logs."""
    places = [("log", log_text.encode())]
    places += [("chain", repr(block.events).encode()) for block in world.ledger.blocks]
    for block in world.ledger.blocks:
        places += [("envelope", event.envelope) for event in block.events if hasattr(event, "envelope")]
    places += [("message", passage.payload) for passage in world.network.passed]
    for node in world.nodes:
        places += [("blob", content) for content in node.mesh.blobs.values()]
    return [(place, found) for place, content in places for found in encodings() if found in content]


@pytest.mark.parametrize("confidential", [False, True])
async def test_no_figure_is_on_the_chain_in_a_blob_a_message_or_a_log(
    world: Any, caplog: pytest.LogCaptureFixture, confidential: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    obj = await world.first.admission.apply(valid(secretive(confidential=confidential)), None)
    await world.first.admission.apply(valid(secretive(confidential=confidential, replicas=3)), obj)
    assert len(world.network.passed) > 4
    assert leaks(world, caplog.text) == []


async def test_the_search_for_leaks_finds_a_part_that_was_not_sealed(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(plaintext: bytes, piece: Any, of: Any, keys: Any, homes: Any) -> SealedPart:
        return SealedPart(piece=piece, object_id=of, epoch=EPOCH, threshold=1, box=plaintext, shares=(), homes=())

    monkeypatch.setattr(sealing, "seal_piece", broken)
    await world.first.admission.apply(valid(secretive()), None)
    assert {place for place, _ in leaks(world, "")} >= {"blob", "message"}


async def test_the_search_for_leaks_finds_an_encryptor_that_does_not_encrypt(world: Any) -> None:
    class Broken(type(world.keys.encryptor)):  # type: ignore[misc]
        def demand(self, demand: Any) -> bytes:
            return str(demand).encode()

    world.keys = sealing.EpochKeys(epoch=EPOCH, committee=world.keys.committee, threshold=2, encryptor=Broken(EPOCH))
    await world.first.admission.apply(valid(secretive()), None)
    assert {place for place, _ in leaks(world, "")} >= {"blob", "message"}


async def test_a_confidential_template_is_nowhere_in_clear(world: Any) -> None:
    obj = a_workload(confidential=True)
    obj["spec"]["template"]["containers"][0] |= {"image": "secret.example/app", "args": ["hush-hush"]}
    shown = await world.first.admission.apply(valid(obj), None)
    assert shown["spec"]["template"]["containers"][0]["args"] == ["hush-hush"]
    envelope = envelope_of(world.first)
    assert envelope.template
    assert not envelope.body
    places = [*(p.payload for p in world.network.passed), *(b for n in world.nodes for b in n.mesh.blobs.values())]
    assert not [True for content in places if b"secret.example" in content or b"hush-hush" in content]
    part = blob(world.first, envelope.template, SealedPart)
    template = decode(open_part(part, home_key(part, world.first.identity)), Body).spec["template"]
    assert template["containers"][0]["image"] == "secret.example/app"


# changes


async def test_scaling_keeps_the_sealed_parts_and_their_demand(world: Any) -> None:
    first = await world.first.admission.apply(valid(a_workload()), None)
    before, blocks = envelope_of(world.first), len(world.ledger.blocks)
    await world.first.admission.apply(valid(a_workload(replicas=9)), first)
    after = envelope_of(world.first)
    assert (after.resources, after.body, after.uid, after.replicas) == (before.resources, before.body, before.uid, 9)
    assert len(world.ledger.blocks) == blocks + 1


async def test_other_figures_are_sealed_and_encrypted_anew(world: Any) -> None:
    first = await world.first.admission.apply(valid(a_workload()), None)
    before = envelope_of(world.first)
    await world.first.admission.apply(valid(secretive()), first)
    after = envelope_of(world.first)
    assert after.resources != before.resources
    row = world.first.projection.object(DEMAND, demand_id(HELLO, EPOCH))
    assert decode(row.envelope, DemandEnvelope).resources == after.resources


async def test_an_update_of_an_old_generation_changes_neither_object_nor_demand(world: Any) -> None:
    first = await world.first.admission.apply(valid(a_workload()), None)
    other = world.others[0]
    await world.settle()
    other.store.put(first)
    await other.admission.apply(valid(a_workload(replicas=4)), first)
    await world.settle()
    demand = world.first.projection.object(DEMAND, demand_id(HELLO, EPOCH))
    with pytest.raises(Conflict, match="generation 2"):
        await world.first.admission.apply(valid(secretive()), first)
    assert world.first.projection.object(DEMAND, demand_id(HELLO, EPOCH)) == demand
    assert envelope_of(world.first).replicas == 4


async def test_two_nodes_updating_at_once_leave_one_consistent_pair(world: Any) -> None:
    first = await world.first.admission.apply(valid(a_workload()), None)
    await world.settle()
    second = a_workload(replicas=3)
    second["spec"]["template"]["containers"][0]["resources"] = {"requests": {"cpu": "2"}}
    results = await asyncio.gather(
        world.first.admission.apply(valid(secretive()), first),
        world.others[0].admission.apply(valid(second), first),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "dict"]
    await world.settle()
    row = world.first.projection.object(DEMAND, demand_id(HELLO, EPOCH))
    assert decode(row.envelope, DemandEnvelope).resources == envelope_of(world.first).resources


async def test_a_deleted_workload_takes_its_demand_along_and_can_be_made_again(world: Any) -> None:
    obj = await world.first.admission.apply(valid(a_workload()), None)
    await world.first.admission.delete(obj)
    assert world.first.projection.object(WORKLOAD, HELLO) is None
    await world.settle()
    assert world.first.projection.object(DEMAND, demand_id(HELLO, EPOCH)) is None
    again = await world.first.admission.apply(valid(a_workload()), None)
    assert again["metadata"]["uid"] != obj["metadata"]["uid"]
    assert again["metadata"]["generation"] > obj["metadata"]["generation"]


async def test_a_namespace_gets_the_node_that_was_asked_as_its_home(world: Any) -> None:
    team = {"apiVersion": "veil.dev/v1alpha1", "kind": "Namespace", "metadata": {"name": "team"}, "spec": {}}
    made = await world.first.admission.apply(valid(team), None)
    assert made["spec"]["homePeers"] == [peer_id_text(world.first.identity.peer_id)]
    await world.first.admission.delete(made)


async def test_home_nodes_and_rights_are_anchored_in_the_registry(world: Any) -> None:
    """The broken twin of this was that nodes went by the object's body, which the registry does not know."""
    one, two = ("0x" + letter * 40 for letter in "ab")
    home = world.others[0].identity.peer_id
    team = {"apiVersion": "veil.dev/v1alpha1", "kind": "Namespace", "metadata": {"name": "team"}}
    half = object_id("team", "")[:16]
    spec = {"homePeers": [peer_id_text(home)], "editors": [one, two], "viewers": [two]}
    made = await world.first.admission.apply(valid({**team, "spec": spec}), None)
    await world.settle()
    assert [node.projection.namespace(half).homes for node in world.nodes] == [(home,)] * 3
    chain, (first, second) = world.first.chain, map(to_checksum_address, (one, two))
    assert [await chain.rights_of(half, account) for account in (first, second)] == [Right.WRITE, Right.ALL]
    await chain.set_access(half, Address("0x" + "cc" * 20), Right.EDIT)
    spec = {"homePeers": [peer_id_text(home)], "viewers": [two]}
    changed = await world.first.admission.apply(valid({**team, "spec": spec}), made)
    assert [await chain.rights_of(half, account) for account in (first, second)] == [Right.NONE, Right.VIEW]
    assert await chain.rights_of(half, Address("0x" + "cc" * 20)) == Right.EDIT, "given otherwise"
    nobody = Identity.generate().peer_id
    before = chain.ledger.state.head
    with pytest.raises(ConfigInvalid, match="no registered node"):
        await world.first.admission.apply(valid({**team, "spec": {"homePeers": [peer_id_text(nobody)]}}), changed)
    assert chain.ledger.state.head == before, "nothing was sent"
    await world.first.admission.delete(changed)
    await world.settle()
    assert world.first.projection.namespace(half).homes == ()


# a node that is no home


def at_another_node(world: Any, shown: Obj) -> tuple[Any, Obj]:
    """Another node, and the object as it sees it: without resources."""
    other = world.others[0]
    live = {**shown, "spec": {**shown["spec"], "template": {"containers": [{"name": "main", "image": "busybox"}]}}}
    live = {**valid(live), "metadata": {**shown["metadata"], "annotations": {"veil.dev/withheld": "resources"}}}
    return other, live


async def test_a_node_that_is_no_home_can_scale_but_not_lose_the_resources(world: Any) -> None:
    shown = await world.first.admission.apply(valid(a_workload()), None)
    await world.settle()
    other, live = at_another_node(world, shown)
    before = envelope_of(world.first)
    scaled = await other.admission.apply({**live, "spec": {**live["spec"], "replicas": 7}}, live)
    assert envelope_of(other).resources == before.resources
    assert scaled["metadata"]["annotations"]["veil.dev/withheld"] == "resources"
    assert "resources" not in scaled["spec"]["template"]["containers"][0]
    live = {**live, "metadata": {**live["metadata"], "generation": 2}}
    changed = valid({**live, "spec": {"template": {"containers": [{"name": "main", "image": "other"}]}}})
    with pytest.raises(Forbidden, match="cannot read the resources"):
        await other.admission.apply(changed, live)
    changed["spec"]["template"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
    await other.admission.apply(changed, live)
    assert envelope_of(other).resources != before.resources


# parts that are down


async def test_without_a_key_epoch_nothing_is_sent() -> None:
    async with cluster(epoch=False) as world:
        before = sent(world)
        with pytest.raises(FheUnavailable, match="no active key epoch"):
            await world.first.admission.apply(valid(a_workload()), None)
        assert sent(world) == before


async def test_when_no_other_member_is_alive_nothing_is_sent(world: Any) -> None:
    for node in world.others:
        world.network.set_state(node.identity.peer_id, PeerState.DEAD)
    before, blobs = sent(world), len(world.first.mesh.blobs)
    with pytest.raises(MeshUnavailable, match="none of the 2 other members is alive"):
        await world.first.admission.apply(valid(a_workload()), None)
    assert (sent(world), len(world.first.mesh.blobs)) == (before, blobs)


async def test_a_cluster_of_one_needs_no_copies() -> None:
    async with cluster(1) as world:
        await world.first.admission.apply(valid(a_workload()), None)
        assert envelope_of(world.first).replicas == 2


async def test_when_one_member_takes_no_copy_another_one_does(world: Any) -> None:
    world.network.kill(world.others[0].identity.peer_id)
    await world.first.admission.apply(valid(a_workload()), None)
    assert envelope_of(world.first).resources in world.others[1].mesh.blobs


async def test_when_nobody_takes_a_copy_no_transaction_is_sent(world: Any) -> None:
    for node in world.others:
        world.network.kill(node.identity.peer_id)
    blocks = len(world.ledger.blocks)
    with pytest.raises(MeshUnavailable, match="no other member took a copy"):
        await world.first.admission.apply(valid(a_workload()), None)
    assert len(world.ledger.blocks) == blocks


async def test_without_the_chain_it_is_said_so(world: Any) -> None:
    world.ledger.away = True
    with pytest.raises(ChainUnavailable):
        await world.first.admission.apply(valid(a_workload()), None)


async def test_a_node_that_lags_behind_says_that_the_transaction_went_through(world: Any) -> None:
    world.first.following.cancel()
    await asyncio.sleep(0)
    world.first.admission._timeout_s = 0.05
    with pytest.raises(DeadlineExceeded):
        await world.first.admission.apply(valid(a_workload()), None)
    await world.others[0].projection.wait_until(lambda: envelope_of(world.others[0]).replicas == 2, 1.0)


async def test_a_demand_that_cannot_be_encoded_is_refused_before_anything_is_sent(world: Any) -> None:
    before, obj = sent(world), a_workload()
    obj["spec"]["template"]["containers"][0]["resources"] = {"requests": {"cpu": "100000"}}
    with pytest.raises(LimitExceeded):
        await world.first.admission.apply(valid(obj), None)
    assert sent(world) == before


async def test_a_demand_that_got_lost_is_completed_by_a_home_node_alone(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: Any) -> None:
        raise ChainUnavailable("went away after the first transaction")

    monkeypatch.setattr(world.first.admission.demands, "anchor", lost)
    with pytest.raises(ChainUnavailable):
        await world.first.admission.apply(valid(a_workload()), None)
    monkeypatch.undo()
    await world.settle()
    assert world.first.projection.object(DEMAND, demand_id(HELLO, EPOCH)) is None
    assert await world.others[0].admission.demands.complete([world.keys]) == 0
    assert await world.first.admission.demands.complete([world.keys]) == 1
    await world.settle()
    anchored = world.first.admission.demands.anchored(HELLO, EPOCH)
    assert anchored.resources == envelope_of(world.first).resources
    assert any(sha256(content) == anchored.demand for content in world.others[0].mesh.blobs.values()) or any(
        sha256(content) == anchored.demand for content in world.others[1].mesh.blobs.values()
    )
    assert await world.first.admission.demands.complete([world.keys]) == 0


async def test_a_lost_push_is_tried_with_another_member(world: Any) -> None:
    world.network.afflict(Drop(protocol="blob/push", receiver=world.others[0].identity.peer_id))
    original, copies.PUSH_TIMEOUT_S = copies.PUSH_TIMEOUT_S, 0.05
    try:
        await world.first.admission.apply(valid(a_workload()), None)
    finally:
        copies.PUSH_TIMEOUT_S = original
    assert encode(decode(world.others[1].mesh.blobs[envelope_of(world.first).resources], SealedPart))


async def test_over_http_a_workload_lives_from_creation_to_deletion(world: Any, tmp_path: Path) -> None:
    node = world.first
    server = ApiServer(node.store, node.admission, FakeLogs(), FakeAuditor(), FakeDrainer(), FakeExecs())
    await server.listen_unix(tmp_path / "s")
    try:
        async with ApiClient(unix_config(tmp_path / "s")) as client:
            made = await client.apply(WORKLOADS, a_workload(), manager="veil")
            assert (made["metadata"]["generation"], made["spec"]["template"]["containers"][0]["resources"]) == (
                1,
                {"requests": {"cpu": "250m", "memory": "64Mi"}},
            )
            assert await client.apply(WORKLOADS, a_workload(), manager="veil") == made
            scaled = await client.patch(WORKLOADS, "hello", {"spec": {"replicas": 5}}, "default")
            assert (scaled["metadata"]["generation"], envelope_of(node).replicas) == (2, 5)
            world.ledger.away = True
            with pytest.raises(ChainUnavailable):
                await client.patch(WORKLOADS, "hello", {"spec": {"replicas": 6}}, "default")
            assert (await client.get(WORKLOADS, "hello", "default"))["spec"]["replicas"] == 5
            world.ledger.away = False
            await client.delete(WORKLOADS, "hello", "default")
            assert await client.find(WORKLOADS, "hello", "default") is None
            again = await client.create(WORKLOADS, a_workload(), "default")
            assert again["metadata"]["uid"] != made["metadata"]["uid"]
    finally:
        await server.close()


async def test_only_another_template_is_a_new_template_generation(world: Any, tmp_path: Path) -> None:
    """And nobody but the node says which it is."""
    node, name = world.first, "veil.dev/template-generation"
    server = ApiServer(node.store, node.admission, FakeLogs(), FakeAuditor(), FakeDrainer(), FakeExecs())
    await server.listen_unix(tmp_path / "s")

    def shown(obj: Obj) -> tuple[int, str]:
        return obj["metadata"]["generation"], obj["metadata"]["annotations"][name]

    try:
        async with ApiClient(unix_config(tmp_path / "s")) as client:
            forged = a_workload()
            forged["metadata"]["annotations"] = {name: "77", "note": "x"}
            made = await client.create(WORKLOADS, forged, "default")
            assert shown(made) == (1, "1")
            assert made["metadata"]["annotations"]["note"] == "x"
            assert shown(await client.patch(WORKLOADS, "hello", {"spec": {"replicas": 5}}, "default")) == (2, "1")
            labels = {"metadata": {"labels": {"a": "b"}, "annotations": {name: "2"}}}
            assert shown(await client.patch(WORKLOADS, "hello", labels, "default")) == (3, "1")
            selector = {"spec": {"placement": {"nodeSelector": {"zone": "a"}}}}
            assert shown(await client.patch(WORKLOADS, "hello", selector, "default")) == (4, "4")
            for forgery in ("9", None):
                patched = await client.patch(WORKLOADS, "hello", {"metadata": {"annotations": {name: forgery}}}, "default")
                assert shown(patched) == (4, "4")
            assert shown(await client.get(WORKLOADS, "hello", "default")) == (4, "4")
            assert shown(await client.apply(WORKLOADS, a_workload(replicas=1), manager="veil", force=True)) == (5, "4")
            with pytest.raises(InvalidInput):
                await client.patch(WORKLOADS, "hello", {"metadata": {"annotations": "none"}}, "default")
    finally:
        await server.close()

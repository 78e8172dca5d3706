"""Get, list, create, update, patch, apply, delete over HTTP: Kubernetes' rules on a real store."""

import asyncio

import aiohttp
import msgspec
import pytest

from veil.api.fake import FakeNode, a_workload, an_instance
from veil.client.kinds import CORE_NAMESPACES, INSTANCES, NAMESPACES, NODES, PODS, WORKLOADS
from veil.client.requests import JSON_PATCH, Call
from veil.errors import (
    AlreadyExists,
    ChainUnavailable,
    Conflict,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    ManifestInvalid,
    NotFound,
    VeilError,
)


async def test_a_created_workload_can_be_read_listed_and_deleted(served: FakeNode) -> None:
    async with served.client() as client:
        made = await client.create(WORKLOADS, a_workload(), "default")
        assert made["metadata"]["generation"] == 1
        assert made["metadata"]["uid"]
        assert made["spec"]["template"]["restartPolicy"] == "Always"
        assert (await client.get(WORKLOADS, "hello", "default")) == made
        listed = await client.list(WORKLOADS)
        assert (listed["kind"], len(listed["items"])) == ("WorkloadList", 1)
        assert int(listed["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])
        await client.delete(WORKLOADS, "hello", "default")
        with pytest.raises(NotFound):
            await client.get(WORKLOADS, "hello", "default")
        with pytest.raises(NotFound):
            await client.delete(WORKLOADS, "hello", "default")


async def test_creating_twice_is_refused(served: FakeNode) -> None:
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload(), "default")
        with pytest.raises(AlreadyExists, match="hello"):
            await client.create(WORKLOADS, a_workload(), "default")


async def test_every_error_of_a_manifest_is_told_with_its_field_and_nothing_is_sent(served: FakeNode) -> None:
    bad = a_workload(replicas="x", repicas=1)
    async with served.client() as client:
        with pytest.raises(ManifestInvalid) as caught:
            await client.create(WORKLOADS, bad, "default")
    assert {error.path for error in caught.value.errors} == {"spec.replicas", "spec.repicas"}
    assert "did you mean replicas" in str(caught.value)
    assert served.writer.applied == []


async def test_unknown_fields_are_dropped_with_a_warning_when_asked_for(served: FakeNode) -> None:
    async with served.client() as client:
        call = Call(
            method="POST",
            path=WORKLOADS.path("default"),
            query={"fieldValidation": "Warn"},
            body=msgspec.json.encode(a_workload(repicas=1)),
        )
        timeout = aiohttp.ClientTimeout(total=5)
        async with client._request(call, timeout) as response:
            assert response.status == 201
            assert response.headers["Warning"] == '299 - "unknown field \\"spec.repicas\\""'
            assert "repicas" not in (await response.json())["spec"]


async def test_dry_run_validates_and_sends_nothing(served: FakeNode) -> None:
    async with served.client() as client:
        shown = await client.create(WORKLOADS, a_workload(), "default", dry_run=True)
        assert shown["spec"]["confidential"] is False
        with pytest.raises(ManifestInvalid):
            await client.create(WORKLOADS, a_workload(replicas=-1), "default", dry_run=True)
        with pytest.raises(NotFound):
            await client.get(WORKLOADS, "hello", "default")
    assert served.writer.applied == []


async def test_a_missing_namespace_is_named(served: FakeNode) -> None:
    async with served.client() as client:
        with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
            await client.create(WORKLOADS, a_workload() | {"metadata": {"name": "a"}}, "nowhere")


async def test_only_spec_and_labels_go_to_the_chain(served: FakeNode) -> None:
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload(), "default")
        patched = await client.patch(WORKLOADS, "hello", {"metadata": {"annotations": {"note": "x"}}}, "default")
        assert patched["metadata"]["annotations"] == {"note": "x"}
        assert patched["metadata"]["generation"] == 1
        assert len(served.writer.applied) == 1
        patched = await client.patch(WORKLOADS, "hello", {"metadata": {"labels": {"tier": "a"}}}, "default")
        assert (patched["metadata"]["generation"], len(served.writer.applied)) == (2, 2)
        patched = await client.patch(WORKLOADS, "hello", {"spec": {"replicas": 5}}, "default")
        assert (patched["metadata"]["generation"], patched["spec"]["replicas"]) == (3, 5)
        assert patched["metadata"]["annotations"] == {"note": "x"}


async def test_the_same_figures_written_otherwise_are_no_change(served: FakeNode) -> None:
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload(), "default")
        same = a_workload()
        same["spec"]["template"]["containers"][0]["resources"] = {"requests": {"cpu": "0.25", "memory": "65536Ki"}}
        await client.apply(WORKLOADS, same, manager="veil")
    assert len(served.writer.applied) == 1


async def test_an_annotation_written_while_the_chain_is_asked_is_not_lost(served: FakeNode) -> None:
    async with served.client() as client, served.client(controllers=True) as controllers:
        await client.create(WORKLOADS, a_workload(), "default")
        served.writer.hold.clear()
        change = {"spec": {"replicas": 7}, "metadata": {"annotations": {"mine": "1"}}}
        slow = asyncio.create_task(client.patch(WORKLOADS, "hello", change, "default"))
        await asyncio.sleep(0.02)
        await controllers.patch(WORKLOADS, "hello", {"metadata": {"annotations": {"kopf": "2"}}}, "default")
        await controllers.patch(WORKLOADS, "hello", {"status": {"readyReplicas": 1}}, "default", subresource="status")
        served.writer.hold.set()
        await slow
        final = await client.get(WORKLOADS, "hello", "default")
    assert final["metadata"]["annotations"] == {"mine": "1", "kopf": "2"}
    assert (final["spec"]["replicas"], final["status"]["readyReplicas"]) == (7, 1)


async def test_an_update_of_an_old_version_is_a_conflict(served: FakeNode) -> None:
    async with served.client() as client:
        old = await client.create(WORKLOADS, a_workload(), "default")
        await client.patch(WORKLOADS, "hello", {"metadata": {"annotations": {"a": "b"}}}, "default")
        with pytest.raises(Conflict, match="modified"):
            await client.update(WORKLOADS, old)
        fresh = await client.get(WORKLOADS, "hello", "default")
        assert (await client.update(WORKLOADS, fresh))["metadata"]["resourceVersion"] == fresh["metadata"]["resourceVersion"]


async def test_json_patches_change_and_test_the_object(served: FakeNode) -> None:
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload(), "default")
        change = [{"op": "test", "path": "/spec/replicas", "value": 2}, {"op": "replace", "path": "/spec/replicas", "value": 6}]
        assert (await client.patch(WORKLOADS, "hello", change, "default", form=JSON_PATCH))["spec"]["replicas"] == 6
        with pytest.raises(InvalidInput, match="does not fit"):
            await client.patch(WORKLOADS, "hello", change, "default", form=JSON_PATCH)


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ChainUnavailable("no RPC answers", hint="start it"), ChainUnavailable),
        (Conflict("generation 4, not 3"), Conflict),
        (Forbidden("not your namespace"), Forbidden),
        (LimitExceeded("too large"), LimitExceeded),
    ],
)
async def test_what_admission_refuses_reaches_the_client_as_it_was(
    served: FakeNode, error: VeilError, seen: type[VeilError]
) -> None:
    served.writer.faults.append(error)
    async with served.client() as client:
        with pytest.raises(seen) as caught:
            await client.create(WORKLOADS, a_workload(), "default")
        assert (caught.value.message, caught.value.hint) == (error.message, error.hint)
        with pytest.raises(NotFound):
            await client.get(WORKLOADS, "hello", "default")


async def test_instances_are_made_and_removed_by_controllers_only(served: FakeNode) -> None:
    async with served.client() as client, served.client(controllers=True) as controllers:
        with pytest.raises(Forbidden, match="controllers"):
            await client.create(INSTANCES, an_instance(), "default")
        made = await controllers.create(INSTANCES, an_instance(), "default")
        assert "status" not in made
        changed = await controllers.patch(
            INSTANCES, "hello-1-0", {"status": {"phase": "Running"}}, "default", subresource="status"
        )
        assert changed["status"] == {"phase": "Running"}
        with pytest.raises(Forbidden):
            await client.patch(INSTANCES, "hello-1-0", {"metadata": {"annotations": {"a": "b"}}}, "default")
        with pytest.raises(Forbidden):
            await client.delete(INSTANCES, "hello-1-0", "default")
        await controllers.delete(INSTANCES, "hello-1-0", "default")
        assert (await client.list(INSTANCES))["items"] == []


async def test_users_cannot_write_status(served: FakeNode) -> None:
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload() | {"status": {"readyReplicas": 9}}, "default")
        with pytest.raises(Forbidden, match="status"):
            await client.patch(WORKLOADS, "hello", {"status": {"readyReplicas": 9}}, "default", subresource="status")
        await client.patch(WORKLOADS, "hello", {"status": {"readyReplicas": 9}, "spec": {"replicas": 3}}, "default")
        assert "status" not in await client.get(WORKLOADS, "hello", "default")


async def test_controllers_see_and_write_only_what_is_in_their_charge(served: FakeNode) -> None:
    served.hidden.add("other")
    async with served.client() as client, served.client(controllers=True) as controllers:
        await client.create(WORKLOADS, a_workload(), "default")
        await client.create(WORKLOADS, a_workload("other"), "default")
        assert [item["metadata"]["name"] for item in (await controllers.list(WORKLOADS))["items"]] == ["hello"]
        with pytest.raises(NotFound):
            await controllers.patch(WORKLOADS, "other", {"metadata": {"annotations": {"a": "b"}}}, "default")
        served.hidden.add("other-1-0")
        with pytest.raises(Forbidden, match="charge"):
            await controllers.create(INSTANCES, an_instance("other-1-0"), "default")


async def test_finalizers_keep_an_instance_until_they_are_gone(served: FakeNode) -> None:
    async with served.client(controllers=True) as controllers:
        await controllers.create(INSTANCES, an_instance(), "default")
        await controllers.patch(INSTANCES, "hello-1-0", {"metadata": {"finalizers": ["veil.dev/guard"]}}, "default")
        await controllers.delete(INSTANCES, "hello-1-0", "default")
        waiting = await controllers.get(INSTANCES, "hello-1-0", "default")
        assert waiting["metadata"]["deletionTimestamp"]
        await controllers.patch(INSTANCES, "hello-1-0", {"metadata": {"finalizers": None}}, "default")
        assert await controllers.find(INSTANCES, "hello-1-0", "default") is None


async def test_nodes_are_read_only(served: FakeNode) -> None:
    node = {"apiVersion": "veil.dev/v1alpha1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {}}
    served.store.put(node)
    async with served.client() as client:
        assert [item["metadata"]["name"] for item in (await client.list(NODES))["items"]] == ["n1"]
        for write in (client.create(NODES, node), client.delete(NODES, "n1")):
            with pytest.raises(VeilError, match="projection"):
                await write


async def test_server_side_apply_creates_changes_and_removes(served: FakeNode) -> None:
    async with served.client() as client:
        await client.apply(WORKLOADS, a_workload(), manager="a")
        second = a_workload(replicas=4)
        second["metadata"]["labels"] = {}
        changed = await client.apply(WORKLOADS, second, manager="a")
        assert changed["spec"]["replicas"] == 4
        assert "labels" not in changed["metadata"]
        with pytest.raises(Conflict, match=r"spec\.replicas"):
            await client.apply(WORKLOADS, a_workload(replicas=9), manager="b")
        forced = await client.apply(WORKLOADS, a_workload(replicas=9), manager="b", force=True)
        assert forced["spec"]["replicas"] == 9
        again = await client.apply(WORKLOADS, a_workload(replicas=9), manager="b")
        assert again["metadata"]["resourceVersion"] == forced["metadata"]["resourceVersion"]


async def test_a_namespace_is_served_in_both_groups(served: FakeNode) -> None:
    async with served.client() as client:
        await client.create(CORE_NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        core, own = await client.get(CORE_NAMESPACES, "team"), await client.get(NAMESPACES, "team")
    assert (core["apiVersion"], own["apiVersion"]) == ("v1", "veil.dev/v1alpha1")
    assert core["status"]["phase"] == own["status"]["phase"] == "Active"
    assert served.writer.applied[0]["apiVersion"] == "veil.dev/v1alpha1"


async def test_pods_show_instances_and_cannot_be_written(served: FakeNode) -> None:
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload(), "default")
        served.store.put(an_instance(node="n2", startedAt="2026-01-01T00:00:00Z"))
        pod = await client.get(PODS, "hello-1-0", "default")
        assert (pod["spec"]["nodeName"], pod["status"]["phase"]) == ("n2", "Running")
        assert pod["spec"]["containers"] == [{"name": "main", "image": "busybox"}]
        assert pod["status"]["containerStatuses"][0]["state"] == {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        with pytest.raises(VeilError, match="made by this node"):
            await client.delete(PODS, "hello-1-0", "default")


async def test_a_body_over_the_limit_is_refused(served: FakeNode) -> None:
    big = a_workload()
    big["metadata"]["annotations"] = {"big": "x" * (1024 * 1024)}
    async with served.client() as client:
        with pytest.raises(LimitExceeded, match="API_BODY_MAX_BYTES"):
            await client.create(WORKLOADS, big, "default")


@pytest.mark.parametrize("body", [b"{", b"[]", b"[" * 100_000, b"", b"\xff"])
async def test_bodies_that_are_no_object_are_refused(served: FakeNode, body: bytes) -> None:
    async with served.client() as client:
        with pytest.raises(InvalidInput):
            await client.send(Call(method="POST", path=WORKLOADS.path("default"), body=body))


async def test_lists_come_in_pages(served: FakeNode) -> None:
    for number in range(7):
        served.store.put(an_instance(f"a-1-{number}"))
    seen, token = [], ""
    async with served.client() as client:
        while True:
            query = {"limit": "3"} | ({"continue": token} if token else {})
            page = await client.send(Call(method="GET", path=INSTANCES.path("default"), query=query))
            seen += [item["metadata"]["name"] for item in page["items"]]
            token = page["metadata"].get("continue", "")
            if not token:
                break
    assert seen == [f"a-1-{number}" for number in range(7)]


async def test_delete_with_another_uid_is_a_conflict(served: FakeNode) -> None:
    async with served.client() as client:
        await client.create(WORKLOADS, a_workload(), "default")
        with pytest.raises(Conflict, match="uid"):
            await client.delete(WORKLOADS, "hello", "default", uid="another")


async def test_sockets_can_be_opened_by_their_owner_only(served: FakeNode) -> None:
    for path in (served.socket, served.controllers_socket):
        assert path.stat().st_mode & 0o777 == 0o600

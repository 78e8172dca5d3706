"""The real kubectl against a node's API over TLS: what users and GitOps tools do."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from veil.api.fake import FakeNode, a_node, a_workload, an_instance
from veil.errors import ChainUnavailable, ContainerFailed
from veil.node.instance_events import InstanceEvents
from veil.types import SystemClock

Run = Callable[..., Awaitable[Any]]


def text(**spec: Any) -> str:
    return yaml.safe_dump(a_workload(**spec))


async def test_client_side_apply_patch_and_delete(served: FakeNode, kubectl: Run) -> None:
    assert (await kubectl("apply", "-f", "-", stdin=text())).out == "workload.veil.dev/hello created\n"
    assert (await kubectl("apply", "-f", "-", stdin=text())).out == "workload.veil.dev/hello unchanged\n"
    assert (await kubectl("apply", "-f", "-", stdin=text(replicas=3))).out == "workload.veil.dev/hello configured\n"
    listed = await kubectl("get", "workloads")
    assert listed.out.splitlines()[0].split() == ["NAME", "READY", "PLACED", "REASON", "AGE"]
    assert listed.out.splitlines()[1].split()[:2] == ["hello", "0/3"]
    await kubectl("patch", "wl", "hello", "--type=merge", "-p", '{"spec":{"replicas":5}}')
    operations = '[{"op":"replace","path":"/spec/replicas","value":6}]'
    await kubectl("patch", "wl", "hello", "--type=json", "-p", operations)
    await kubectl("label", "wl", "hello", "tier=front")
    shown = json.loads((await kubectl("get", "wl", "hello", "-o", "json")).out)
    assert (shown["spec"]["replicas"], shown["metadata"]["labels"]["tier"]) == (6, "front")
    anchored = [obj["metadata"] for obj in served.writer.applied]
    assert len(anchored) == 5
    assert (await kubectl("delete", "wl", "hello")).out == 'workload.veil.dev "hello" deleted\n'
    assert (await kubectl("get", "wl")).err == "No resources found in default namespace.\n"


async def test_the_last_applied_configuration_is_never_given_to_the_chain(served: FakeNode, kubectl: Run) -> None:
    await kubectl("apply", "-f", "-", stdin=text())
    live = served.store.get("Workload", "default", "hello")
    assert "kubectl.kubernetes.io/last-applied-configuration" in live["metadata"]["annotations"]
    assert "last-applied" not in json.dumps([obj["spec"] for obj in served.writer.applied])


async def test_server_side_apply_and_its_conflicts(served: FakeNode, kubectl: Run) -> None:
    applied = await kubectl("apply", "--server-side", "-f", "-", stdin=text())
    assert applied.out == "workload.veil.dev/hello serverside-applied\n"
    conflict = await kubectl("apply", "--server-side", "--field-manager=bob", "-f", "-", stdin=text(replicas=6))
    assert conflict.code == 1
    assert 'conflict with "kubectl"' in conflict.err
    assert ".spec.replicas" in conflict.err
    forced = ("apply", "--server-side", "--field-manager=bob", "--force-conflicts", "-f", "-")
    assert (await kubectl(*forced, stdin=text(replicas=6))).code == 0
    assert served.store.get("Workload", "default", "hello")["spec"]["replicas"] == 6


async def test_dry_run_diff_and_explain(served: FakeNode, kubectl: Run) -> None:
    assert "created (server dry run)" in (await kubectl("apply", "--dry-run=server", "-f", "-", stdin=text())).out
    assert served.writer.applied == []
    await kubectl("apply", "-f", "-", stdin=text())
    assert "+  replicas: 4" in (await kubectl("diff", "-f", "-", stdin=text(replicas=4))).out
    explained = (await kubectl("explain", "workload.spec.template.containers")).out
    assert "An OCI image reference" in explained
    assert "-required-" in explained


async def test_field_errors_are_printed_field_by_field(served: FakeNode, kubectl: Run) -> None:
    refused = await kubectl("apply", "-f", "-", stdin=text(replicas="x", repicas=1))
    assert refused.code == 1
    assert 'The Workload "hello" is invalid:' in refused.err
    assert "* spec.repicas: unknown field, did you mean replicas?" in refused.err
    assert '* spec.replicas: must be an integer, not "x"' in refused.err
    assert served.writer.applied == []
    warned = await kubectl("create", "--validate=warn", "-f", "-", stdin=text(repicas=1))
    assert 'Warning: unknown field "spec.repicas"' in warned.err


async def test_a_part_that_is_down_is_named(served: FakeNode, kubectl: Run) -> None:
    served.writer.faults.append(ChainUnavailable("no RPC endpoint answers", hint="start the chain"))
    refused = await kubectl("apply", "-f", "-", stdin=text())
    assert refused.code == 1
    assert "(ChainUnavailable)" in refused.err
    assert "no RPC endpoint answers (start the chain)" in refused.err


async def test_pods_and_logs(served: FakeNode, kubectl: Run) -> None:
    await kubectl("apply", "-f", "-", stdin=text())
    served.store.put(an_instance(node="n1", startedAt="2026-01-01T00:00:00Z"))
    served.logs.lines["hello-1-0"] = [b"one\n", b"two\n"]
    pods = (await kubectl("get", "pods", "-o", "wide")).out.splitlines()[1].split()
    assert (pods[:4], pods[-1]) == (["hello-1-0", "1/1", "Running", "0"], "n1")
    assert (await kubectl("logs", "hello-1-0")).out == "one\ntwo\n"
    assert (await kubectl("logs", "hello-1-0", "--tail=1", "--since=1m")).out == "two\n"
    following = asyncio.create_task(kubectl("logs", "-f", "hello-1-0"))
    async with asyncio.timeout(10):
        while not any(asked["follow"] for asked in served.logs.asked):
            await asyncio.sleep(0.02)
    served.logs.lines["hello-1-0"].append(b"three\n")
    served.logs.finished = True
    served.logs.more.set()
    assert (await following).out == "one\ntwo\nthree\n"


async def test_nodes_are_cordoned(served: FakeNode, kubectl: Run) -> None:
    served.store.put(a_node())
    assert (await kubectl("cordon", "node-1")).out == "node/node-1 cordoned\n"
    assert (await kubectl("cordon", "node-1")).out == "node/node-1 already cordoned\n"
    listed = (await kubectl("get", "nodes")).out.splitlines()
    assert listed[0].split() == ["NAME", "STATUS", "AGE", "VERSION"]
    assert listed[1].split()[:2] == ["node-1", "Ready,SchedulingDisabled"]
    assert (await kubectl("uncordon", "node-1")).out == "node/node-1 uncordoned\n"
    assert served.writer.cordoned == [("node-1", True), ("node-1", False)]
    assert (await kubectl("get", "nodes.veil.dev", "node-1", "-o", "jsonpath={.status.phase}")).out == "Active"
    described = await kubectl("describe", "node", "node-1")
    assert (described.code, "dedicated=gpu:NoSchedule" in described.out) == (0, True)


async def test_exec(served: FakeNode, kubectl: Run) -> None:
    await kubectl("apply", "-f", "-", stdin=text())
    served.store.put(an_instance(node="n1"))
    ran = await kubectl("exec", "-i", "hello-1-0", "-c", "main", "--", "tr", "a-z", "A-Z", stdin="one\ntwo\n")
    assert (ran.code, ran.out) == (7, "ONE\nTWO\n")
    assert served.execs.opened[0][:4] == ("hello-1-0", "main", ("tr", "a-z", "A-Z"), False)
    assert served.execs.opened[0][4].closed
    served.execs.faults.append(ContainerFailed("sh does not start", hint="check the command"))
    refused = await kubectl("exec", "hello-1-0", "--", "sh")
    assert (refused.code, "sh does not start" in refused.err) == (1, True)


async def test_events(served: FakeNode, kubectl: Run) -> None:
    shown = served.store.put(an_instance())
    told = InstanceEvents(served.store, SystemClock())
    told.changed(shown, {}, {"phase": "Creating", "reason": "ImagePullBackOff", "message": "no such image"})
    listed = (await kubectl("get", "events")).out.splitlines()
    assert listed[0].split() == ["NAME", "LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert listed[1].split()[2:5] == ["Warning", "ImagePullBackOff", "hello-1-0"]
    described = (await kubectl("describe", "pod", "hello-1-0")).out
    assert "ImagePullBackOff" in described.partition("Events:")[2]
    assert "no such image" in described
    assert (await kubectl("delete", "events", "--all")).code == 1


async def test_a_watch_shows_changes_as_they_come(served: FakeNode, kubectl: Run) -> None:
    await kubectl("apply", "-f", "-", stdin=text())
    watching = asyncio.create_task(kubectl("get", "wl", "-w", "--request-timeout=3s"))
    await asyncio.sleep(1.2)
    live = served.store.get("Workload", "default", "hello")
    served.store.put({**live, "status": {"readyReplicas": 2}})
    served.store.delete("Workload", "default", "hello")
    ready = [line.split()[1] for line in (await watching).out.splitlines()[1:]]
    assert ready == ["0/2", "2/2", "2/2"]


async def test_namespaces_and_rights(served: FakeNode, kubectl: Run) -> None:
    assert (await kubectl("create", "namespace", "team")).out == "namespace/team created\n"
    assert (await kubectl("label", "ns", "team", "a=b")).code == 0
    assert served.writer.applied[-1]["metadata"]["labels"] == {"a": "b"}
    names = [line.split()[0] for line in (await kubectl("get", "ns", "--no-headers")).out.splitlines()]
    assert names == ["default", "team"]
    assert (await kubectl("auth", "can-i", "create", "workloads")).out == "yes\n"
    assert (await kubectl("auth", "can-i", "create", "instances")).code == 1
    assert (await kubectl("delete", "ns", "team")).code == 0


async def test_kubectl_waits_for_conditions(served: FakeNode, kubectl: Run) -> None:
    await kubectl("apply", "-f", "-", stdin=text())
    waiting = asyncio.create_task(kubectl("wait", "wl/hello", "--for=condition=Available", "--timeout=10s"))
    await asyncio.sleep(0.5)
    live = served.store.get("Workload", "default", "hello")
    served.store.put({**live, "status": {"conditions": [{"type": "Available", "status": "True"}]}})
    assert (await waiting).out == "workload.veil.dev/hello condition met\n"


async def test_a_wrong_token_and_a_wrong_certificate_are_refused(
    served: FakeNode, kubectl: Run, kubeconfig: Path, tmp_path: Path
) -> None:
    document = yaml.safe_load(kubeconfig.read_text())
    document["users"][0]["user"]["token"] = "x" * 64
    kubeconfig.write_text(yaml.safe_dump(document))
    assert "You must be logged in to the server" in (await kubectl("get", "wl")).err
    del document["clusters"][0]["cluster"]["certificate-authority-data"]
    kubeconfig.write_text(yaml.safe_dump(document))
    assert "certificate" in (await kubectl("get", "wl")).err


@pytest.mark.parametrize("path", ["/healthz", "/readyz?verbose", "/version/", "/openapi/v3", "/api", "/apis"])
async def test_documents_can_be_read_raw(kubectl: Run, path: str) -> None:
    assert (await kubectl("get", "--raw", path)).code == 0

"""The main job, seen from the outside: a manifest becomes containers, a leaf on chain, and later nothing."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_cluster import ROOT, Cluster, eventually

pytestmark = pytest.mark.e2e


def raw_logs(cluster: Cluster) -> list[dict[str, object]]:
    """Every log of the registry, by eth_getLogs and nothing else."""
    chain = cluster.status()["chain"]
    question = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "eth_getLogs",
        "params": [{"address": chain["contract"], "fromBlock": "0x0", "toBlock": "latest"}],
    }
    request = urllib.request.Request(
        chain["rpc"], json.dumps(question).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["result"]


def running(cluster: Cluster) -> dict[str, int]:
    """Container id → pid on all nodes; where there is no containerd to ask, the ids alone."""
    found: dict[str, int] = {}
    for name, ids in cluster.all_containers().items():
        pids = cluster.task_pids(name) if cluster.runtime == "containerd" else {}
        found |= {id: pids.get(id, 0) for id in ids}
    return found


def test_hello_runs_and_goes(cluster: Cluster) -> None:
    hello = str(ROOT / "manifests" / "hello.yaml")
    before = len(raw_logs(cluster))
    assert "created" in cluster.veil("apply", "-f", hello).stdout
    cluster.veil("wait", "workload/hello", "--for=condition=Available", "--timeout", "90s")

    workload = cluster.get("workload", "hello")
    replicas = workload["spec"]["replicas"]
    instances = [one for one in cluster.get("instances") if one["spec"]["workload"] == "hello"]
    assert len(instances) == replicas
    assert all(one["status"]["ready"] and one["status"]["node"] for one in instances)
    running = cluster.all_containers()
    assert sum(len(ids) for ids in running.values()) == replicas
    by_node = {name: sum(one["status"]["node"] == name for one in instances) for name in running}
    assert by_node == {name: len(ids) for name, ids in running.items()}, "the runtimes and the API disagree"

    assert "hello" in eventually(lambda: cluster.veil("logs", "workload/hello", "--tail", "2").stdout, what="a log line")
    assert "unchanged" in cluster.veil("apply", "-f", hello).stdout

    leaves = {one["status"]["placement"]["root"] for one in instances}
    data = "".join(str(entry["data"]) for entry in raw_logs(cluster)[before:])
    assert all(root in data for root in leaves), "a leaf's root is not in the registry's events"

    cluster.veil("delete", "-f", hello)
    eventually(lambda: not any(cluster.all_containers().values()), what="no container left")
    assert cluster.veil("get", "workload", "hello", check=False).returncode == 1


def test_kubectl_lists_and_scales(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    kubectl = ["kubectl", "--kubeconfig", str(cluster.directory / "kubeconfig")]
    environment = {**os.environ, "HOME": str(cluster.directory)}

    def run(*arguments: str) -> str:
        done = subprocess.run([*kubectl, *arguments], capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("apply", "-f", str(manifest("scaled")))
    assert "scaled" in run("get", "workloads")
    run("wait", "workload/scaled", "--for=condition=Available", "--timeout=60s")
    first = running(cluster)
    assert len(first) == 1
    for replicas in (2, 1):
        run("patch", "workload", "scaled", "--type=merge", "-p", f'{{"spec":{{"replicas":{replicas}}}}}')
        eventually(lambda: len(running(cluster)) == replicas, timeout_s=60, what=f"{replicas} containers")  # noqa: B023
        assert first.items() <= running(cluster).items(), "scaling replaced a running replica"

    def names() -> list[str]:
        return [one["metadata"]["name"] for one in cluster.get("instances") if one["spec"]["workload"] == "scaled"]

    eventually(lambda: names() == ["scaled-1-0"], what="the first replica alone")
    run("delete", "workload", "scaled")
    eventually(lambda: not any(cluster.all_containers().values()), what="no container left")


def test_a_changed_template_is_rolled_out(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    path = manifest("rolled", replicas=1)
    cluster.veil("apply", "-f", str(path))
    cluster.veil("wait", "workload/rolled", "--for=condition=Available", "--timeout", "60s")
    path.write_text(path.read_text().replace("echo started", "echo began"))
    assert "configured" in cluster.veil("apply", "-f", str(path)).stdout

    def is_rolled_out(generation: int) -> None:
        told = cluster.veil("rollout", "status", "workload/rolled", "--timeout", "60s").stdout
        assert told.splitlines()[-1] == f"rolled: generation {generation} is rolled out"
        (instance,) = [one for one in cluster.get("instances") if one["spec"]["workload"] == "rolled"]
        assert (instance["spec"]["generation"], instance["status"]["ready"]) == (generation, True)

    is_rolled_out(2)
    cluster.veil("rollout", "restart", "workload/rolled")
    is_rolled_out(3)
    eventually(lambda: "began" in cluster.veil("logs", "workload/rolled").stdout, what="the new template's output")
    assert sum(len(ids) for ids in cluster.all_containers().values()) == 1
    cluster.veil("delete", "workload", "rolled")
    eventually(lambda: not any(cluster.all_containers().values()), what="no container left")

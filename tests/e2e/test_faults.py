"""kill -9 of what matters: containers are adopted, rounds end with one binding, the chain comes back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_cluster import ROOT, Cluster, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def restart_node(cluster: Cluster, name: str) -> None:
    """What a service manager does: start the node process again."""
    code = (
        "import sys; from pathlib import Path; from veil.dev.layout import Layout; from veil.dev.up import start_node\n"
        "layout = Layout(Path(sys.argv[1])); start_node(layout, layout.load(), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(cluster.directory), name], check=True, cwd=ROOT, timeout=30)


def node_is_ready(cluster: Cluster, name: str) -> bool:
    """Its own conditions, asked at itself."""
    found = cluster.veil("get", "node", name, "-o", "json", check=False, at=name)
    return found.returncode == 0 and '"status": "False"' not in found.stdout


def kill(cluster: Cluster, name: str) -> None:
    os.kill(cluster.node(name)["pids"]["node"], signal.SIGKILL)


def test_a_killed_nodes_containers_are_adopted(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    """Also when its projection is lost: it is rebuilt from the chain."""
    cluster.veil("apply", "-f", str(manifest("adopted")))
    cluster.veil("wait", "workload/adopted", "--for=condition=Available", "--timeout", "60s")
    name = next(one for one in cluster.get("instances") if one["spec"]["workload"] == "adopted")["status"]["node"]
    before = cluster.task_pids(name)
    kill(cluster, name)
    Path(cluster.node(name)["directory"], "store.db").unlink()
    restart_node(cluster, name)
    eventually(lambda: node_is_ready(cluster, name), timeout_s=60, what=f"{name} ready again")
    time.sleep(3)
    assert cluster.task_pids(name) == before, "the container was restarted instead of adopted"
    assert sum(len(ids) for ids in cluster.all_containers().values()) == 1
    assert cluster.veil("get", "workload", "adopted", at=name).returncode == 0
    cluster.veil("delete", "workload", "adopted")
    eventually(lambda: not any(cluster.all_containers().values()), what="no container left")


def test_a_killed_coordinators_round_ends_with_one_binding(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    """Every node but the user's own is killed once in the middle of placing; which of them coordinates is not asked."""
    cluster.veil("apply", "-f", str(manifest("raced", replicas=3)))
    for name in ("node-2", "node-3"):
        time.sleep(0.7)
        kill(cluster, name)
        restart_node(cluster, name)
    cluster.veil("wait", "workload/raced", "--for=condition=Available", "--timeout", "150s", timeout_s=180)
    time.sleep(3)
    running = [container for ids in cluster.all_containers().values() for container in ids]
    assert len(running) == 3, running
    assert len({container.rsplit("-g", 1)[-1] for container in running}) == 3, f"a replica runs twice: {running}"
    cluster.veil("delete", "workload", "raced")
    eventually(lambda: not any(cluster.all_containers().values()), timeout_s=60, what="no container left")


def test_without_the_chain_containers_stay_and_the_user_is_told(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    cluster.veil("apply", "-f", str(manifest("kept")))
    cluster.veil("wait", "workload/kept", "--for=condition=Available", "--timeout", "60s")
    chain = cluster.status()["chain"]["pid"]
    os.kill(chain, signal.SIGSTOP)
    try:
        done = cluster.veil("apply", "-f", str(manifest("unsent")), check=False, timeout_s=90)
        assert done.returncode == 2
        assert "chain" in done.stderr.lower()
        assert sum(len(ids) for ids in cluster.all_containers().values()) == 1
    finally:
        os.kill(chain, signal.SIGCONT)
    cluster.veil("delete", "workload", "kept")
    cluster.veil("delete", "workload", "unsent", check=False)
    eventually(lambda: not any(cluster.all_containers().values()), what="no container left")

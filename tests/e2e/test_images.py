"""Images that the registry does not allow run nowhere, as the runtimes say."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_cluster import Cluster, eventually

pytestmark = pytest.mark.e2e
BUSYBOX = "veil.dev/busybox:1"
OTHER = "sha256:" + "77" * 32


def manifest_of(cluster: Cluster, image: str) -> str:
    """The digest that ``image`` stands for in the first node's containerd."""
    node = cluster.status()["nodes"][0]
    command = ["ctr", "-a", node["runtime"]["socket"], "-n", node["runtime"]["namespace"], "images", "ls"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    return next(line.split()[2] for line in lines if line.split()[0] == image)


@pytest.fixture
def allow(cluster: Cluster) -> Iterator[Callable[..., Any]]:
    """`veil policy allow-image` on the first node, as the administrator; every image is allowed again afterwards."""
    if cluster.runtime != "containerd":
        pytest.skip("plain processes have no images")
    where = ("--dir", cluster.status()["nodes"][0]["directory"], "--keystore", str(cluster.directory / "admin.key"))
    yield lambda *arguments: cluster.veil("policy", "allow-image", *arguments, *where)
    cluster.veil("policy", "allow-image", "--any", *where)


def test_an_image_that_the_registry_does_not_allow_runs_nowhere(
    cluster: Cluster, manifest: Callable[..., Path], allow: Callable[..., Any]
) -> None:
    before = cluster.all_containers()
    allow(OTHER)
    cluster.veil("apply", "-f", str(manifest("refused", replicas=3)))

    def refusals() -> set[tuple[str, str]]:
        found = [one["status"] for one in cluster.get("instances") if one["spec"]["workload"] == "refused"]
        return {(one.get("node", ""), one.get("reason", "")) for one in found}

    told = eventually(
        lambda: (seen := refusals()) and {reason for _, reason in seen} == {"ImageNotAllowed"} and seen,
        timeout_s=60,
        what="every replica is refused",
    )
    assert all(node for node, _ in told), "it was placed: nodes refuse it, each by the list that it fetched"
    assert cluster.all_containers() == before
    assert "allow-image" in cluster.veil("why", "workload/refused").stdout
    allow(manifest_of(cluster, BUSYBOX))
    cluster.veil("wait", "workload/refused", "--for=condition=Available", "--timeout", "90s")
    cluster.veil("delete", "workload", "refused")
    eventually(lambda: cluster.all_containers() == before, what="all containers are gone")

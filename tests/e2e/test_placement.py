"""Policies and the cluster's policy on real parts: real circuits, a real committee, real containers."""

from collections.abc import Callable
from pathlib import Path

import yaml
from e2e_cluster import Cluster, eventually

ROOT = Path(__file__).parents[2]


def placed(cluster: Cluster, name: str) -> list[dict[str, object]]:
    return [one for one in cluster.get("instances") if one["spec"]["workload"] == name and one["status"].get("node")]


def with_placement(path: Path, **placement: object) -> str:
    manifest = yaml.safe_load(path.read_text())
    manifest["spec"]["placement"] = placement
    path.write_text(yaml.safe_dump(manifest))
    return str(path)


def test_replicas_that_are_kept_apart_are_on_three_nodes(cluster: Cluster) -> None:
    file = str(ROOT / "manifests" / "spread.yaml")
    cluster.veil("apply", "-f", file)
    cluster.veil("wait", "workload/spread", "--for=condition=Available", "--timeout", "90s")
    assert len({one["status"]["node"] for one in placed(cluster, "spread")}) == 3  # type: ignore[index]
    cluster.veil("delete", "-f", file)


def test_a_fourth_replica_finds_no_node_of_its_own(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    file = with_placement(manifest("four", replicas=4), antiAffinity=True)
    cluster.veil("apply", "-f", file)
    eventually(lambda: len(placed(cluster, "four")) == 3, timeout_s=60.0, what="three of four are placed")
    waiting = eventually(
        lambda: [one for one in cluster.get("instances") if one["status"].get("reason") == "NoNodeFits"],
        timeout_s=60.0,
        what="the fourth says that no node fits",
    )
    assert [one["spec"]["workload"] for one in waiting] == ["four"]
    cluster.veil("delete", "-f", file)


def test_decisions_are_checked_by_more_members_than_needed(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    file = str(manifest("checked", replicas=2))
    cluster.veil("apply", "-f", file)
    cluster.veil("wait", "workload/checked", "--for=condition=Available", "--timeout", "90s")
    for one in placed(cluster, "checked"):
        conditions = {entry["type"]: entry for entry in one["status"]["conditions"]}  # type: ignore[index]
        assert conditions["DecryptionChecked"]["reason"] == "QuorumAgreed"
    cluster.veil("delete", "-f", file)


def test_a_profile_that_the_epoch_has_no_circuits_of_places_nothing(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    node = cluster.node("node-1")["directory"]
    admin = str(cluster.directory / "admin.key")

    def policy(*arguments: str) -> str:
        return cluster.veil("policy", *arguments, "--dir", node).stdout

    assert "default" in policy("get")
    policy("set", "--profile", "precise", "--keystore", admin)
    file = str(manifest("profiled"))
    try:
        cluster.veil("apply", "-f", file)
        eventually(
            lambda: [one for one in cluster.get("instances") if one["status"].get("reason") == "EpochMissing"],
            what="the instance says that the epoch has no such circuits",
        )
    finally:
        policy("set", "--profile", "default", "--keystore", admin)
    cluster.veil("wait", "workload/profiled", "--for=condition=Available", "--timeout", "90s")
    cluster.veil("delete", "-f", file)

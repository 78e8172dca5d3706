"""Rotating the keys of a living cluster, as docs/how-to/rotate-keys.md says: nothing that runs is touched."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_cluster import Cluster, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NODES = ("node-1", "node-2", "node-3")
HEAD = "apiVersion: veil.dev/v1alpha1\nkind: Committee\nmetadata:\n  name: all\nspec:\n  members:\n"
PLAN = "manifests/keys/small.yaml"
PLAIN = ("--parameters", "plain")
"""As `veil dev` has it: quicker to compile."""

CONFIDENTIAL = "  confidential: true"


def key(cluster: Cluster, *arguments: str, at: str = "node-1", check: bool = True) -> Any:
    return cluster.veil("key", *arguments, "--dir", cluster.node(at)["directory"], check=check)


def epochs(cluster: Cluster) -> dict[int, Any]:
    return {one["epoch"]: one for one in json.loads(key(cluster, "list", "-o", "json").stdout)}


def condition(cluster: Cluster, name: str, kind: str) -> str:
    """Its reason, asked at the node itself."""
    node = json.loads(cluster.veil("get", "node", name, "-o", "json", at=name).stdout)
    return next((entry["reason"] for entry in node["status"]["conditions"] if entry["type"] == kind), "")


def nodes_of(cluster: Cluster, workload: str) -> dict[str, str]:
    found = [one for one in cluster.get("instances") if one["spec"]["workload"] == workload]
    return {one["metadata"]["name"]: one["status"].get("node", "") for one in found}


def test_keys_are_rotated_under_running_workloads(cluster: Cluster, manifest: Callable[..., Path], tmp_path: Path) -> None:
    cluster.veil("apply", "-f", str(manifest("open", replicas=2)))
    cluster.veil("apply", "-f", str(manifest("closed", extra=CONFIDENTIAL)))
    for name in ("open", "closed"):
        cluster.veil("wait", f"workload/{name}", "--for=condition=Available", "--timeout", "60s")
    containers, placed = cluster.all_containers(), nodes_of(cluster, "open")
    last = max(epochs(cluster))

    committee = tmp_path / "committee.yaml"
    committee.write_text(HEAD + "".join(key(cluster, "classes", *PLAIN, at=name).stdout for name in NODES))
    made, admin = tmp_path / "epoch", str(cluster.directory / "admin.key")
    key(cluster, "ceremony", "--committee", str(committee), "--config", PLAN, *PLAIN, "--out", str(made))
    refused = key(cluster, "publish", str(made), check=False)
    assert (refused.returncode, "KEY_ADMIN" in refused.stderr) == (1, True)
    key(cluster, "publish", str(made), "--keystore", admin)
    new = last + 1
    assert (epochs(cluster)[last]["state"], epochs(cluster)[new]["state"]) == ("Active", "Prepared")
    for name in NODES:
        eventually(
            lambda name=name: condition(cluster, name, "NextKeysReady") == "Prepared", timeout_s=60, what=f"{name} prepared"
        )  # type: ignore[misc]
    eventually(lambda: epochs(cluster)[new]["demands"] == 2, timeout_s=60, what="demand for the next epoch")

    key(cluster, "activate", str(new), "--keystore", admin)
    assert (epochs(cluster)[last]["state"], epochs(cluster)[new]["state"]) == ("Retired", "Active")
    cluster.veil("apply", "-f", str(manifest("open", replicas=4)))
    cluster.veil("apply", "-f", str(manifest("closed", replicas=2, extra=CONFIDENTIAL)))
    for name in ("open", "closed"):
        cluster.veil("wait", f"workload/{name}", "--for=condition=Available", "--timeout", "90s")
    now = cluster.all_containers()
    assert all(before <= now[name] for name, before in containers.items()), "a container was replaced by the rotation"
    assert sum(map(len, now.values())) == 6
    assert nodes_of(cluster, "open").items() >= placed.items()
    for name in NODES:
        assert condition(cluster, name, "FheReady") == "InClass"
        assert condition(cluster, name, "NextKeysReady") == "NoNextEpoch"
    for name in ("open", "closed"):
        cluster.veil("delete", "workload", name)
    eventually(lambda: not any(cluster.all_containers().values()), what="no container left")


def test_a_committee_file_with_errors_is_refused_with_lines(cluster: Cluster, tmp_path: Path) -> None:
    entry = key(cluster, "classes", *PLAIN, at="node-2").stdout
    committee = tmp_path / "committee.yaml"
    committee.write_text(HEAD + entry + entry)
    done = key(cluster, "ceremony", "--committee", str(committee), "--threshold", "2", "--out", str(tmp_path / "e"), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "committee.yaml:9: spec.members[1].peer" in done.stderr
    committee.write_text(HEAD + entry)
    done = key(cluster, "ceremony", "--committee", str(committee), "--threshold", "1", "--out", str(tmp_path / "e"), check=False)
    assert (done.returncode, "no decryption could ever be checked" in done.stderr) == (1, True)
    assert not (tmp_path / "e").exists()

"""What is wrong is said in one line each, with file, line and path; nothing is sent, nothing is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_cluster import Cluster, eventually

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: [unclosed\n", ["bad.yaml:"]),
        ("apiVersion: veil.dev/v1alpha1\nkind: Worklod\nmetadata: {name: x}\n", ["bad.yaml:2", "kind"]),
        (
            "apiVersion: veil.dev/v1alpha1\nkind: Workload\nmetadata: {name: x}\nspec:\n  replica: 2\n  template:\n"
            "    containers:\n      - {name: a, image: i, resources: {requests: {cpu: 1x}}}\n",
            ["bad.yaml:5", "spec.replica", "bad.yaml:8", "cpu"],
        ),
    ],
)
def test_a_wrong_manifest_names_file_line_and_path(cluster: Cluster, tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    before = cluster.get("workloads")
    done = cluster.veil("apply", "-f", str(path), check=False)
    assert done.returncode == 1
    for part in expected:
        assert part in done.stderr
    assert cluster.get("workloads") == before


def test_what_fits_nowhere_stays_pending_and_says_so(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    before = set().union(*cluster.all_containers().values())
    cluster.veil("apply", "-f", str(manifest("huge", cpu="30", memory="200Gi")))

    def reason() -> str:
        conditions = cluster.get("workload", "huge").get("status", {}).get("conditions", [])
        return next((entry["reason"] for entry in conditions if entry["type"] == "Placed" and entry["status"] == "False"), "")

    eventually(lambda: reason() == "NoNodeFits", timeout_s=60, what="Placed=False, NoNodeFits")
    assert set().union(*cluster.all_containers().values()) <= before
    cluster.veil("delete", "workload", "huge")


def test_a_node_that_is_not_there_is_named(cluster: Cluster, tmp_path: Path) -> None:
    text = (cluster.directory / "kubeconfig").read_text()
    server = next(line.split()[-1] for line in text.splitlines() if "server:" in line)
    broken = tmp_path / "kubeconfig"
    broken.write_text(text.replace(server, "https://127.0.0.1:1"))
    done = cluster.veil("--kubeconfig", str(broken), "get", "nodes", check=False)
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr
    assert "hint" in done.stderr


def test_every_list_has_json(cluster: Cluster) -> None:
    for kind in ("nodes", "workloads", "instances", "namespaces"):
        assert json.loads(cluster.veil("get", kind, "-o", "json").stdout)["items"] is not None

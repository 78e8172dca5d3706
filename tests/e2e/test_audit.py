"""A placement is audited by every member under real encryption; a transcript that was changed gives its keeper away."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from e2e_cluster import Cluster, eventually

from veil.wire.codec import decode, encode, sha256
from veil.wire.rounds import Transcript

pytestmark = pytest.mark.e2e

NODES = ("node-1", "node-2", "node-3")


@pytest.fixture(scope="module")
def placement(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A replica's placement, as `veil audit` names it; the workload is gone afterwards, because other tests count containers."""
    path = tmp_path_factory.mktemp("audit") / "audited.yaml"
    container = {"name": "main", "image": "veil.dev/busybox:1", "command": ["/bin/sleep", "1000"]}
    spec = {"replicas": 1, "template": {"terminationGracePeriodSeconds": 1, "containers": [container]}}
    path.write_text(
        json.dumps({"apiVersion": "veil.dev/v1alpha1", "kind": "Workload", "metadata": {"name": "audited"}, "spec": spec})
    )
    cluster.veil("apply", "-f", str(path))
    cluster.veil("wait", "workload/audited", "--for=condition=Available", "--timeout", "60s")
    (instance,) = [one for one in cluster.get("instances") if one["spec"]["workload"] == "audited"]
    placed = instance["status"]["placement"]
    yield f"{placed['shard']}-{placed['sequence']}-0"
    cluster.veil("delete", "workload", "audited")
    eventually(lambda: not any(cluster.all_containers().values()), what="no container left")


def audit(cluster: Cluster, placement: str, at: str) -> tuple[int, dict[str, Any]]:
    done = cluster.veil("audit", placement, "-o", "json", at=at, check=False)
    return done.returncode, json.loads(done.stdout)


def directory(cluster: Cluster, name: str) -> Path:
    return Path(cluster.node(name)["directory"]) / "transcripts"


@contextmanager
def altered(path: Path, change: Callable[[Transcript], Transcript]) -> Iterator[None]:
    """The kept file with another content, and a digest that fits it."""
    before = path.read_bytes()
    data = encode(change(decode(before[32:], Transcript)))
    path.write_bytes(sha256(data) + data)
    try:
        yield
    finally:
        path.write_bytes(before)


def test_every_member_evaluates_again_and_agrees(cluster: Cluster, placement: str) -> None:
    for name in NODES:
        code, report = audit(cluster, placement, name)
        assert (code, report["verdict"], report["reevaluated"]) == (0, "agreed", True), report
        assert {one["state"] for one in report["checks"]} == {"ok"}


def test_a_coordinator_with_a_changed_transcript_is_named(cluster: Cluster, placement: str) -> None:
    _, report = audit(cluster, placement, NODES[0])
    kept = {name: directory(cluster, name) / f"{report['round']}.coordinator" for name in NODES}
    ((coordinator, path),) = [(name, path) for name, path in kept.items() if path.exists()]
    asked = next(name for name in NODES if name != coordinator)
    with altered(path, lambda one: msgspec.structs.replace(one, evaluation=bytes(32))):
        code, report = audit(cluster, placement, asked)
        assert (code, [liar["node"] for liar in report["liars"]]) == (3, [coordinator]), report
    with altered(path, lambda one: msgspec.structs.replace(one, partials=one.partials[:1])):
        code, report = audit(cluster, placement, asked)
        assert (code, [liar["node"] for liar in report["liars"]]) == (3, [coordinator]), report
    assert audit(cluster, placement, asked)[0] == 0


def test_a_member_without_its_telemetry_says_so(cluster: Cluster, placement: str) -> None:
    _, report = audit(cluster, placement, NODES[0])
    path = directory(cluster, NODES[0]) / f"{report['round']}.member"
    before = path.read_bytes()
    path.write_bytes(before[:-1])
    try:
        code, report = audit(cluster, placement, NODES[0])
    finally:
        path.write_bytes(before)
    missing = [one for one in report["checks"] if one["state"] == "missing"]
    assert (code, [one["check"] for one in missing]) == (2, ["telemetry"])
    assert "is damaged" in missing[0]["message"]


def test_doctor_and_why_speak_of_a_healthy_cluster(cluster: Cluster, placement: str) -> None:
    for name in NODES:
        done = cluster.veil("doctor", "--dir", cluster.node(name)["directory"], "-o", "json")
        states = {one["check"]: one["state"] for one in json.loads(done.stdout)["checks"]}
        assert states["FheReady"] == states["ClockRight"] == states["contract"] == "ok"
        assert "fail" not in states.values()
    (said, *_) = json.loads(cluster.veil("why", "wl/audited", "-o", "json").stdout)
    assert said["class"] == "well"

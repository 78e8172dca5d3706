"""A node is taken out of service while the cluster works: what it runs goes to the others, nothing runs twice."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_cluster import Cluster, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SPREAD = "  placement:\n    policy: Spread"


class Watched:
    """Looks at the runtimes all the time, and notes replicas that run on two nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self.twins: list[str] = []
        self._cluster = cluster
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            running = Counter(one for ids in self._cluster.all_containers().values() for one in ids)
            self.twins += [name for name, count in running.items() if count > 1]


def test_a_drained_node_hands_its_replicas_over(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    cluster.veil("apply", "-f", str(manifest("moved", replicas=4, extra=SPREAD)))
    cluster.veil("wait", "workload/moved", "--for=condition=Available", "--timeout", "60s")
    there = cluster.node("node-2")["directory"]
    assert cluster.containers("node-2"), "nothing to move: four replicas on three nodes leave none without"
    refused = cluster.veil("node", "drain", "node-2", check=False)
    assert refused.returncode == 1, "node-1's operator is not node-2's"
    with Watched(cluster) as watched:
        drained = cluster.veil("node", "drain", "node-2", "--dir", there, "--timeout", "120s", timeout_s=150)
    assert watched.twins == []
    assert drained.stdout.splitlines()[-1] == "node/node-2 drained"
    assert "waiting for default/moved-1-" in drained.stderr
    assert not cluster.containers("node-2")
    eventually(lambda: sum(map(len, cluster.all_containers().values())) == 4, timeout_s=60, what="four replicas elsewhere")
    cluster.veil("wait", "workload/moved", "--for=condition=Available", "--timeout", "60s")
    assert cluster.get("node", "node-2")["status"]["phase"] == "Cordoned"
    assert cluster.veil("node", "drain", "node-2", "--dir", there).stdout.splitlines() == [
        "node/node-2 already cordoned",
        "node/node-2 drained",
    ]
    cluster.veil("node", "uncordon", "node-2", "--dir", there)
    eventually(lambda: cluster.get("node", "node-2")["status"]["phase"] == "Active", what="node-2 takes replicas again")
    cluster.veil("delete", "workload", "moved")
    eventually(lambda: not any(cluster.all_containers().values()), timeout_s=60, what="no container left")

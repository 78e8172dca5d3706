"""`veil dev down` leaves nothing: a cluster of one node is taken down while it runs a container."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from e2e_cluster import Cluster, chosen_runtime, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
def cgroups_before() -> set[str]:
    """Asked before the cluster is started."""
    return cgroups()


@pytest.fixture
def lonely(cgroups_before: set[str]) -> Iterator[Cluster]:
    """One node, which is its own committee."""
    directory = Path(tempfile.mkdtemp(prefix="veil-e2e-")) / "c"
    running = Cluster(directory, chosen_runtime())
    try:
        running.veil("dev", "up", "--nodes", "1", "--runtime", running.runtime, "--dir", str(directory), timeout_s=180)
        yield running
    finally:
        running.veil("dev", "down", "--dir", str(directory), check=False)
        shutil.rmtree(directory.parent, ignore_errors=True)


def processes_of(cluster: Cluster) -> set[int]:
    """Every process that was started by the cluster or in it: by its directory, and all below those."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if any(str(cluster.directory) in word for word in process.info["cmdline"] or []):
            found |= {process.pid, *(child.pid for child in process.children(recursive=True))}
    return found


def cgroups() -> set[str]:
    """All control groups of Veil's on this machine."""
    return {str(path) for path in Path("/sys/fs/cgroup").glob("*/veil*")} | {
        str(path) for path in Path("/sys/fs/cgroup").glob("veil*")
    }


def test_a_running_cluster_is_removed_without_a_trace(
    lonely: Cluster, cgroups_before: set[str], manifest: Callable[..., Path]
) -> None:
    lonely.veil("apply", "-f", str(manifest("left", replicas=2)))
    lonely.veil("wait", "workload/left", "--for=condition=Available", "--timeout", "60s")
    started = processes_of(lonely)
    if lonely.runtime == "containerd":
        started |= set(lonely.task_pids("node-1").values())
        assert cgroups() > cgroups_before, "the containers are in no cgroup: the check below proves nothing"
    born = {pid: psutil.Process(pid).create_time() for pid in started if psutil.pid_exists(pid)}
    assert len(born) >= 6, "fewer processes than a node has"

    lonely.veil("dev", "down", "--dir", str(lonely.directory))

    def living() -> list[int]:
        return [
            pid
            for pid, created_s in born.items()
            if psutil.pid_exists(pid)
            and psutil.Process(pid).create_time() == created_s
            and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
            and pid != os.getpid()
        ]

    eventually(lambda: not living(), timeout_s=10, what="no process of the cluster")
    assert str(lonely.directory) not in Path("/proc/self/mountinfo").read_text()
    assert not lonely.directory.exists()
    assert cgroups() <= cgroups_before

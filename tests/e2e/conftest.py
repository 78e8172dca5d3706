"""A whole cluster for the session: three nodes on this machine, driven from the outside as a user would."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e_cluster import Cluster, chosen_runtime

UP_TIMEOUT_S = 180.0


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster that all tests share; taken down at the end, whatever happened."""
    directory = Path(tempfile.mkdtemp(prefix="veil-e2e-")) / "c"
    running = Cluster(directory, chosen_runtime())
    try:
        running.veil(
            "dev",
            "up",
            "--nodes",
            "3",
            "--runtime",
            running.runtime,
            "--capture",
            "--dir",
            str(directory),
            timeout_s=UP_TIMEOUT_S,
        )
        yield running
    finally:
        done = running.veil("dev", "down", "--dir", str(directory), check=False)
        shutil.rmtree(directory.parent, ignore_errors=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Writes a Workload manifest with distinctive figures."""

    def write(name: str, *, replicas: int = 1, cpu: str = "50m", memory: str = "32Mi", extra: str = "") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"""\
apiVersion: veil.dev/v1alpha1
kind: Workload
metadata:
  name: {name}
spec:
  replicas: {replicas}
{extra}
  template:
    terminationGracePeriodSeconds: 2
    containers:
      - name: main
        image: veil.dev/busybox:1
        command: ["/bin/sh", "-c", "trap 'exit 0' TERM; echo started $VEIL_INSTANCE; while true; do sleep 0.2; done"]
        resources:
          requests:
            cpu: {cpu}
            memory: {memory}
"""
        )
        return path

    return write

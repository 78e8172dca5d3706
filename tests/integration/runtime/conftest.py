"""Drivers on private daemons."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import private_dockerd
import pytest
from private_dockerd import PrivateDockerd

from veil.runtime.containerd import ContainerdRuntime
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.docker import DockerRuntime


@pytest.fixture
def connect_containerd(private: PrivateContainerd) -> Callable[[], ContainerdRuntime]:
    return lambda: ContainerdRuntime(
        private.socket,
        namespace="conformance",
        snapshotter=private.snapshotter,
        runc_root=private.runc_root,
        cgroup_parent=private.cgroup_parent,
    )


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDockerd]:
    """Runs for the tests of one module; skips them with the reason where dockerd cannot run."""
    with private_dockerd.running(tmp_path_factory.mktemp("dockerd")) as one:
        yield one


@pytest.fixture
def docker_socket(request: pytest.FixtureRequest) -> Path:
    """That of VEIL_DOCKER_SOCKET (a podman's, for example), or of a dockerd of its own."""
    if given := os.environ.get("VEIL_DOCKER_SOCKET"):
        return Path(given)
    own: PrivateDockerd = request.getfixturevalue("dockerd")
    return own.socket


@pytest.fixture
def connect_docker(docker_socket: Path, tmp_path: Path) -> Callable[[], DockerRuntime]:
    return lambda: DockerRuntime(docker_socket, tmp_path / "docker", namespace="conformance")

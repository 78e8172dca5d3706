"""A private containerd and an image for the tests that want the real thing."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from veil.runtime import daemon
from veil.runtime.containerd import ContainerdRuntime
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE, build_busybox


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    assert build_busybox(path) == BUSYBOX_IMAGE
    return path


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateContainerd]:
    """Runs for the tests of one module; skips them with the reason where containerd cannot run."""
    if (reason := daemon.available()) is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("ctrd")
    one = PrivateContainerd(directory / "d", directory / "containerd.log")
    asyncio.run(one.start())
    try:
        yield one
    finally:
        asyncio.run(one.stop())


@pytest.fixture
def connect_containerd(private: PrivateContainerd) -> Callable[[], ContainerdRuntime]:
    return lambda: ContainerdRuntime(
        private.socket,
        namespace="conformance",
        snapshotter=private.snapshotter,
        runc_root=private.runc_root,
        cgroup_parent=private.cgroup_parent,
    )

"""A private containerd and an image for the tests that want the real thing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from image_registry import Registry, serving

from veil.runtime import daemon
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE, build_busybox


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The busybox image as an OCI layout."""
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
async def registry(archive: Path) -> AsyncIterator[Registry]:
    async with serving(archive) as one:
        yield one

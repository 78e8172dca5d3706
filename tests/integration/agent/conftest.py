"""A private containerd for each module, an agent on it for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from containerd_machine import Machine

from veil.runtime import daemon
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE, build_busybox


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateContainerd]:
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
async def machine(private: PrivateContainerd, tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(private, tmp_path)
    await made.runtime.start_driver()
    archive = tmp_path / "busybox.tar"
    build_busybox(archive)
    await made.runtime.import_image(BUSYBOX_IMAGE, archive)
    await made.agent.start()
    yield made
    made.agent.set_desired({})
    async with asyncio.timeout(30):
        while await made.runtime.list():
            await asyncio.sleep(0.02)
    await made.agent.close()
    await made.networks.clear()
    await made.runtime.close()
    made.journal.close()

"""An agent on a private containerd for each test."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from containerd_machine import Machine

from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE


@pytest.fixture
async def machine(private: PrivateContainerd, archive: Path, tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(private, tmp_path)
    await made.runtime.start_driver()
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

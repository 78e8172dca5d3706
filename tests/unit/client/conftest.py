"""A node whose API is real and whose rest is not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from veil.api.fake import FakeNode


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[FakeNode]:
    node = FakeNode(tmp_path)
    await node.start()
    yield node
    await node.close()

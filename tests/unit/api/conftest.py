"""A node whose API is real and whose rest is not."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from veil.api.fake import FakeNode

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[FakeNode]:
    node = FakeNode(tmp_path)
    await node.start()
    yield node
    await node.close()

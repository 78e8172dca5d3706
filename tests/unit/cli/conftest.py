"""A node whose API is real and whose rest is not, and `veil` against it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cli_ran import Ran, Veil

from veil.api.fake import FakeNode
from veil.cli.main import run
from veil.client.blocking import unix_config
from veil.client.kubeconfig import write


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[FakeNode]:
    node = FakeNode(tmp_path)
    await node.start()
    yield node
    await node.close()


@pytest.fixture
def veil(served: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Veil:
    path = tmp_path / "config"
    write(path, {"test": unix_config(served.socket)}, "test")
    monkeypatch.setenv("VEIL_KUBECONFIG", str(path))

    async def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        return Ran(code, *capsys.readouterr())

    return call

"""A node's API over TLS with a token, as kubectl sees it."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from veil.api.access import ensure_token
from veil.api.fake import FakeNode
from veil.api.tls import ensure_certificates, server_context
from veil.client.kubeconfig import KubeConfig, write
from veil.types import SystemClock


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[FakeNode]:
    node = FakeNode(tmp_path)
    await node.start()
    yield node
    await node.close()


@pytest.fixture
async def kubeconfig(served: FakeNode, tmp_path: Path) -> Path:
    """The kubeconfig of the node, which listens on TLS."""
    files = ensure_certificates(tmp_path / "tls", ["127.0.0.1"], SystemClock())
    token = ensure_token(tmp_path / "token")
    port = await served.server.listen_tls("127.0.0.1", 0, server_context(files), token)
    path = tmp_path / "kubeconfig"
    config = KubeConfig(server=f"https://127.0.0.1:{port}", ca_pem=files.ca_pem, token=token)
    write(path, {"veil": config}, "veil")
    return path


@pytest.fixture
def kubectl(kubeconfig: Path, tmp_path: Path) -> Run:
    """Runs kubectl with its own home."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)}

    async def run(*arguments: str, stdin: str = "", timeout_s: float = 20.0) -> Ran:
        process = await asyncio.create_subprocess_exec(
            "kubectl",
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    return run

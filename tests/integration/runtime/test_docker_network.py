"""Networks of the Docker API: a bridge of the daemon's, with published ports."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import private_dockerd
import pytest
from private_dockerd import PrivateDockerd

from veil.errors import ContainerFailed
from veil.runtime.docker import DockerRuntime
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.ports import BRIDGE, ContainerSpec, PortMapping

pytestmark = [pytest.mark.runtime, pytest.mark.timeout(120)]

SERVE = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"


@pytest.fixture(scope="module")
def bridge() -> Iterator[str]:
    """The name of a bridge of this test's own."""
    name = f"vtd{os.getpid() % 100000}"
    made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no bridge can be made here: {made.stderr.strip()}")
    subprocess.run(["ip", "address", "add", "10.62.250.1/24", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.fixture(scope="module")
def dockerd(bridge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDockerd]:
    with private_dockerd.running(tmp_path_factory.mktemp("dockerd"), bridge=bridge) as one:
        yield one


@pytest.fixture
async def runtime(dockerd: PrivateDockerd, archive: Path, tmp_path: Path) -> AsyncIterator[DockerRuntime]:
    one = DockerRuntime(dockerd.socket, tmp_path / "docker", namespace="network")
    await one.start_driver()
    await one.import_image(BUSYBOX_IMAGE, archive)
    yield one
    for container in await one.list():
        await one.delete(container.id)
    await one.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def serving(id: str, tmp_path: Path, port: int) -> ContainerSpec:
    return ContainerSpec(
        id=id,
        image=BUSYBOX_IMAGE,
        command=("sh", "-c", SERVE),
        network=BRIDGE,
        ports=[PortMapping(host_port=port, container_port=8080)],
        stdout=tmp_path / f"{id}.out",
        stderr=tmp_path / f"{id}.err",
    )


async def fetched(port: int) -> bytes:
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
                if answer:
                    return answer
            except OSError:
                pass
            await asyncio.sleep(0.1)


async def test_a_published_port_leads_to_its_container_also_after_a_restart(runtime: DockerRuntime, tmp_path: Path) -> None:
    port = free_port()
    await runtime.create(serving("web", tmp_path, port))
    await runtime.start("web")
    assert (await fetched(port)).endswith(b"served\n")
    await runtime.stop("web", grace_s=0)
    await runtime.start("web")
    assert (await fetched(port)).endswith(b"served\n")


async def test_a_port_that_is_taken_is_said(runtime: DockerRuntime, tmp_path: Path) -> None:
    port = free_port()
    for id in ("one", "two"):
        await runtime.create(serving(id, tmp_path, port))
    await runtime.start("one")
    with pytest.raises(ContainerFailed, match="did not start"):
        await runtime.start("two")
    await runtime.delete("one")
    await runtime.start("two")
    assert (await fetched(port)).endswith(b"served\n")

"""Meshes of a few nodes: in one process, and as real meshd processes on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from veil.identity import Identity
from veil.mesh.client import LibP2PMesh
from veil.mesh.fake import FakeMesh, FakeNetwork
from veil.mesh.ports import PeerState
from veil.types import ClusterId, Digest, PeerId

CLUSTER = ClusterId(b"c" * 32)


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Returns when ``condition`` holds; fails the test if that takes too long."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def state_of(mesh: FakeMesh | LibP2PMesh, peer: PeerId) -> PeerState:
    return next(member.state for member in mesh.members() if member.peer == peer)


def sees_alive(mesh: FakeMesh | LibP2PMesh, *others: FakeMesh | LibP2PMesh) -> bool:
    return all(state_of(mesh, other.peer_id) is PeerState.ALIVE for other in others)


@dataclass
class Trio:
    """Three nodes that know each other, and a way to spoil a blob that one of them keeps."""

    a: FakeMesh | LibP2PMesh
    b: FakeMesh | LibP2PMesh
    c: FakeMesh | LibP2PMesh
    spoil: Callable[[FakeMesh | LibP2PMesh, Digest], None]

    @property
    def all(self) -> list[FakeMesh | LibP2PMesh]:
        return [self.a, self.b, self.c]


def addresses(meshes: list[LibP2PMesh]) -> dict[PeerId, list[str]]:
    return {mesh.peer_id: mesh.listen_addresses for mesh in meshes}


@contextlib.asynccontextmanager
async def real_meshes(directory: Path, count: int = 3, capture: bool = False) -> AsyncIterator[list[LibP2PMesh]]:
    """``count`` nodes with a meshd each, connected; identities are random."""
    meshes = []
    for number in range(count):
        home = directory / str(number)
        home.mkdir()
        mesh = LibP2PMesh(
            Identity.generate(),
            CLUSTER,
            blobs=home / "blobs",
            preset="local",
            capture=home / "capture" if capture else None,
        )
        meshes.append(mesh)
    try:
        await asyncio.gather(*(mesh.start() for mesh in meshes))
        for mesh in meshes:
            mesh.allow(addresses(meshes))
        await until(lambda: all(sees_alive(mesh, *meshes) for mesh in meshes))
        yield meshes
    finally:
        await asyncio.gather(*(mesh.close() for mesh in meshes))


@contextlib.asynccontextmanager
async def fake_trio() -> AsyncIterator[Trio]:
    network = FakeNetwork()
    meshes = [network.mesh(Identity.generate().peer_id) for _ in range(3)]
    for mesh in meshes:
        await mesh.start()
        mesh.allow({one.peer_id: () for one in meshes})

    def spoil(mesh: FakeMesh | LibP2PMesh, digest: Digest) -> None:
        assert isinstance(mesh, FakeMesh)
        mesh.blobs[digest] = b"wrong"

    yield Trio(*meshes, spoil)
    for mesh in meshes:
        await mesh.close()


@contextlib.asynccontextmanager
async def real_trio(directory: Path) -> AsyncIterator[Trio]:
    async with real_meshes(directory) as meshes:
        homes = {mesh.peer_id: directory / str(number) for number, mesh in enumerate(meshes)}

        def spoil(mesh: FakeMesh | LibP2PMesh, digest: Digest) -> None:
            (homes[mesh.peer_id] / "blobs" / digest.hex()).write_bytes(b"wrong")

        yield Trio(*meshes, spoil)


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param("fake"), pytest.param("libp2p", marks=pytest.mark.mesh)],
)
async def trio_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trio]:
    """Each driver of the port in turn."""
    if request.param == "fake":
        async with fake_trio() as three:
            yield three
    else:
        async with real_trio(tmp_path_factory.mktemp("mesh")) as three:
            yield three


class Loopback:
    """What tests of real nodes on one machine need."""

    cluster = CLUSTER
    meshes = staticmethod(real_meshes)
    addresses = staticmethod(addresses)
    until = staticmethod(until)
    state_of = staticmethod(state_of)
    sees_alive = staticmethod(sees_alive)


@pytest.fixture
def loopback() -> Loopback:
    return Loopback()

"""The docker driver when the node or the daemon goes away: no line of output is lost or doubled, events begin anew."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from image_registry import LOGIN, Registry, auths
from private_dockerd import PrivateDockerd

from veil.errors import ImageUnavailable
from veil.runtime.credentials import Logins
from veil.runtime.docker import DockerRuntime
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.ports import ContainerSpec, ContainerState, EventKind, RuntimeEvent
from veil.types import Secret

pytestmark = [pytest.mark.runtime, pytest.mark.timeout(120)]

LINES = 300
COUNT = f"i=0; while [ $i -lt {LINES} ]; do echo out $i; echo err $i >&2; i=$((i+1)); sleep 0.01; done"


def spec(directory: Path, id: str, script: str) -> ContainerSpec:
    return ContainerSpec(
        id=id,
        image=BUSYBOX_IMAGE,
        command=("sh", "-c", script),
        stdout=directory / f"{id}.out",
        stderr=directory / f"{id}.err",
    )


async def ended(runtime: DockerRuntime, id: str) -> None:
    async with asyncio.timeout(30):
        while (await runtime.state(id)).state is ContainerState.RUNNING:
            await asyncio.sleep(0.05)


async def test_output_goes_on_where_a_node_that_was_away_left_it(
    connect_docker: Callable[[], DockerRuntime], archive: Path, tmp_path: Path
) -> None:
    wanted = spec(tmp_path, "counts", COUNT)
    for absence_s in (None, 0.3, 0.3, 0.3, 6.0):
        runtime = connect_docker()
        await runtime.start_driver()
        if absence_s is None:
            await runtime.import_image(BUSYBOX_IMAGE, archive)
            await runtime.create(wanted)
            await runtime.start("counts")
        await asyncio.sleep(0.2)
        await runtime.close()
        await asyncio.sleep(absence_s or 0)
    last = connect_docker()
    await last.start_driver()
    await ended(last, "counts")
    assert wanted.stdout.read_text().splitlines() == [f"out {i}" for i in range(LINES)]
    assert wanted.stderr.read_text().splitlines() == [f"err {i}" for i in range(LINES)]
    await last.delete("counts")
    await last.close()
    assert list((tmp_path / "docker").iterdir()) == [], "cursors go with their containers"


async def test_the_daemon_is_killed_and_comes_back(
    dockerd: PrivateDockerd, connect_docker: Callable[[], DockerRuntime], archive: Path, tmp_path: Path
) -> None:
    runtime = connect_docker()
    await runtime.start_driver()
    await runtime.import_image(BUSYBOX_IMAGE, archive)
    await runtime.create(spec(tmp_path, "kept", "while :; do sleep 0.1; done"))
    await runtime.start("kept")
    seen: list[RuntimeEvent] = []

    async def hear() -> None:
        async for event in runtime.events():
            seen.append(event)

    hearing = asyncio.create_task(hear())
    async with asyncio.timeout(10):
        while not seen:
            await asyncio.sleep(0.02)
    await asyncio.to_thread(dockerd.kill)
    await asyncio.to_thread(dockerd.start)
    async with asyncio.timeout(20):
        while [event.kind for event in seen].count(EventKind.RESYNC) < 2:
            await asyncio.sleep(0.05)
    assert {view.id for view in await runtime.list()} == {"kept"}
    await runtime.start("kept")
    assert (await runtime.stop("kept", grace_s=0)).state is ContainerState.EXITED
    await runtime.delete("kept")
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    await runtime.close()


async def test_an_image_of_one_callers_login_is_no_others(
    connect_docker: Callable[[], DockerRuntime], registry: Registry
) -> None:
    registry.wants_basic, name = LOGIN, f"{registry.address}/a/b:1"
    own = Logins((Secret(auths(registry).encode()),)).find(registry.address)
    runtime = connect_docker()
    await runtime.start_driver()
    with pytest.raises(ImageUnavailable):
        await runtime.pull(name)
    digest = await runtime.pull(name, own)
    registry.asked.clear()
    assert await runtime.pull(name, own) == digest
    assert registry.asked == [], "it was given to this login"
    await runtime.close()
    after_a_restart = connect_docker()
    await after_a_restart.start_driver()
    with pytest.raises(ImageUnavailable):
        await after_a_restart.pull(name)
    assert await after_a_restart.pull(name, own) == digest
    await after_a_restart.remove_image(name)
    await after_a_restart.close()

"""containerd's data on a file system of 24 MiB that a container fills up: what runs goes on, what cannot start says why and whose
fault it is not, and once who filled the disk is evicted everything else that is wanted runs."""

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from containerd_machine import Machine, desired

from veil.agent import evictions
from veil.agent.keys import DesiredInstance
from veil.runtime import daemon
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.mounts import mount_tmpfs

pytestmark = [pytest.mark.runtime, pytest.mark.timeout(300)]

DISK_BYTES = 24 << 20
FILL = "dd if=/dev/zero of=/full bs=64k 2>/dev/null; dd if=/dev/zero of=/fuller bs=1k 2>/dev/null; exec sleep 1000"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[PrivateContainerd]:
    """A containerd with all it has on one small file system."""
    if (reason := daemon.available()) is not None:
        pytest.skip(reason)
    directory = tmp_path / "d"
    directory.mkdir()
    mount_tmpfs(directory, DISK_BYTES)
    one = PrivateContainerd(directory, tmp_path / "containerd.log")
    asyncio.run(one.start())
    yield one
    asyncio.run(one.stop())


def filling() -> DesiredInstance:
    (one,) = desired(2).values()
    container = {**one.spec["containers"][0], "command": ["sh", "-c", FILL]}
    return replace(one, spec={**one.spec, "containers": [container]})


async def test_a_disk_that_fills_up_and_is_emptied(
    small: PrivateContainerd, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evictions, "PERIOD_S", 3600.0)
    machine = Machine(small, tmp_path)
    await machine.runtime.start_driver()
    await machine.runtime.import_image(BUSYBOX_IMAGE, archive)
    await machine.agent.start()
    (first, third), second = desired(1, 3).values(), filling()
    ids = {key: f"{key.text}-main" for key in (first.key, second.key, third.key)}

    async def until_said(one: DesiredInstance, reason: str) -> None:
        async with asyncio.timeout(60):
            while machine.agent.statuses()[one.key].reason != reason:
                await asyncio.sleep(0.05)

    machine.agent.set_desired({first.key: first})
    await machine.until(lambda pids: ids[first.key] in pids)
    machine.agent.set_desired({first.key: first, second.key: second})
    await machine.until(lambda pids: {ids[first.key], ids[second.key]} <= set(pids))
    pid = (await machine.pids())[ids[first.key]]
    async with asyncio.timeout(60):
        while psutil.disk_usage(str(small.directory)).free > 0:
            await asyncio.sleep(0.05)

    machine.agent.set_desired({one.key: one for one in (first, second, third)})
    async with asyncio.timeout(30):
        while third.key not in machine.agent.statuses():
            await asyncio.sleep(0.05)
    await until_said(third, "DiskPressure")
    assert (await machine.pids())[ids[first.key]] == pid, "what runs goes on"
    assert machine.agent.statuses()[first.key].restarts == 0
    os.kill(pid, signal.SIGKILL)
    await until_said(first, "DiskPressure")
    assert machine.agent.statuses()[first.key].phase != "Failed"

    await machine.agent._evictions.look()
    await until_said(second, "Evicted")
    await machine.until(lambda pids: set(pids) == {ids[first.key], ids[third.key]}, timeout_s=120)
    machine.agent.set_desired({})
    await machine.until(lambda pids: not pids)
    await machine.agent.close()
    await machine.runtime.close()
    machine.journal.close()

"""GPUs: who has which, who may have one, and what is said where there are none."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from veil.agent.gpus import LABEL_GPUS, Gpu, Gpus, NvmlAway
from veil.agent.keys import DesiredInstance
from veil.agent.status import GPU_UNAVAILABLE
from veil.errors import RuntimeUnavailable
from veil.wire.objects import ContainerResources, Resources

pytestmark = pytest.mark.looptime


class Library:
    """What a test lets NVML say."""

    def __init__(self, count: int = 0) -> None:
        self.gpus = [gpu(number) for number in range(count)]
        self.away = ""

    def read(self) -> list[Gpu]:
        if self.away:
            raise NvmlAway(self.away)
        return self.gpus


def gpu(number: int, **facts: Any) -> Gpu:
    plain = Gpu(uuid=f"GPU-{number}", name="T4", minor=number, memory_bytes=1 << 34, memory_used_bytes=0, busy_percent=0)
    return replace(plain, **facts)


@pytest.fixture
def library() -> Library:
    return Library(2)


@pytest.fixture
async def gpus(host: Any, library: Library, tmp_path: Path) -> Gpus:
    """Two GPUs, and the agent uses them."""
    devices = tmp_path / "dev"
    devices.mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps"):
        (devices / name).touch()
    host.agent._acting._gpus = made = Gpus(host.runtime, devices=devices, read=library.read)
    await made.sync()
    return made


def asking(host: Any, number: int, count: int) -> DesiredInstance:
    figures = ContainerResources(cpu_milli=50, memory_bytes=1 << 20, gpu_count=count)
    wanted: DesiredInstance = host.instance(number)
    return replace(wanted, resources=Resources(containers={"main": figures}))


def given(host: Any, number: int) -> str:
    return str(host.machine.records[host.id(number)].view.labels[LABEL_GPUS])


async def test_each_gpu_goes_to_one_container_also_after_a_restart(host: Any, gpus: Gpus) -> None:
    host.want(asking(host, 1, 1), asking(host, 2, 1))
    await host.until(lambda: len(host.running()) == 2)
    assert {given(host, 1), given(host, 2)} == {"GPU-0", "GPU-1"}
    spec = host.machine.records[host.id(1)].spec
    assert [path.name for path in spec.devices] == [f"nvidia{given(host, 1)[-1]}", "nvidiactl", "nvidia-uvm"]
    assert spec.env["NVIDIA_VISIBLE_DEVICES"] == given(host, 1)
    assert spec.labels["veil.dev/spec"], "its digest does not go by the GPU it got"
    await host.restart_agent()
    host.agent._acting._gpus = gpus
    host.want(asking(host, 1, 1), asking(host, 2, 1), asking(host, 3, 1))
    await host.until(lambda: host.status(3).reason == GPU_UNAVAILABLE)
    free = given(host, 2)
    host.want(asking(host, 1, 1), asking(host, 3, 1))
    await host.until(lambda: host.status(3).phase == "Running", 60)
    assert given(host, 3) == free


async def test_what_cannot_be_had_is_said(host: Any, gpus: Gpus, library: Library) -> None:
    host.want(asking(host, 1, 3))
    await host.until(lambda: host.status(1).reason == GPU_UNAVAILABLE)
    assert host.status(1).message == "not as many GPUs are free on this node as are asked for"
    assert (host.status(1).phase, host.count("create")) == ("Pending", 0)
    (gpus._devices / "nvidia1").unlink()
    host.want(asking(host, 2, 2))
    await host.until(lambda: "there is no device node" in host.status(2).message)
    library.gpus = []
    await gpus.sync()
    host.want(asking(host, 3, 1))
    await host.until(lambda: "this node has no GPU that it can see (libnvidia-ml.so.1 is not there)" in host.status(3).message)


async def test_a_gpu_that_somebody_else_computes_on_is_not_ours_to_give(host: Any, gpus: Gpus, library: Library) -> None:
    assert gpus.usable_count == 2
    library.gpus[0] = gpu(0, pids=(os.getpid(),))
    await gpus.sync()
    assert gpus.usable_count == 1
    host.want(asking(host, 1, 1))
    await host.until(lambda: len(host.running()) == 1)
    assert given(host, 1) == "GPU-1"
    library.gpus[1] = gpu(1, pids=(os.getpid(),))
    await gpus.sync()
    assert gpus.usable_count == 1, "a container of ours computes on it"


async def test_no_library_is_no_error_and_devices_without_one_are_a_problem(host: Any, library: Library, tmp_path: Path) -> None:
    made = Gpus(host.runtime, devices=tmp_path, read=library.read)
    library.away = "libnvidia-ml.so.1 is not there"
    await made.sync()
    assert (made.seen, made.usable_count, made.problem) == ((), 0, "")
    (tmp_path / "nvidia0").touch()
    await made.sync()
    assert made.problem == "there are device nodes of GPUs, but libnvidia-ml.so.1 is not there"
    library.away = ""
    await made.sync()
    assert (made.usable_count, made.problem) == (2, "")


async def test_a_runtime_that_is_away_is_told_to_the_loop(host: Any, gpus: Gpus) -> None:
    host.machine.away()
    with pytest.raises(RuntimeUnavailable):
        await gpus.sync()
    await asyncio.sleep(0)

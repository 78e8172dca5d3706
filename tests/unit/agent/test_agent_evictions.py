"""Who holds too much of the disk is ended, and what it held is freed."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from veil.agent.disk_use import EVICTED_MIN_BYTES, Held, most_over
from veil.agent.keys import DesiredInstance
from veil.agent.status import EVICTED
from veil.runtime.fake import Behaviour
from veil.wire.objects import ContainerResources, Resources

pytestmark = pytest.mark.looptime

MB = 1 << 20


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time does not stand still while a thread works."""

    async def at_once(function: Any, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


def asking(wanted: DesiredInstance, disk_bytes: int, name: str = "main") -> DesiredInstance:
    """The same with this much ephemeral-storage for a container."""
    figures = ContainerResources(cpu_milli=50, memory_bytes=MB, disk_bytes=disk_bytes)
    return replace(wanted, resources=Resources(containers={**wanted.resources.containers, name: figures}))


def writing(host: Any, number: int, size: int, **template: Any) -> DesiredInstance:
    command = ("write", str(size))
    host.machine.behaviours[command] = Behaviour(written_bytes=size)
    made: DesiredInstance = host.instance(number, command=command, **template)
    return made


def fill(host: Any, volume: str, size: int, kind: str = "disk", number: int = 1) -> Path:
    path: Path = host.log_dir.with_name("volumes") / host.key(number).text / kind / volume / "data"
    path.write_bytes(bytes(size))
    return path


EMPTY = {"name": "data", "emptyDir": {}}


def mounting(wanted: DesiredInstance, *volumes: Mapping[str, Any]) -> DesiredInstance:
    (container,) = wanted.spec["containers"]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    return replace(wanted, spec={**wanted.spec, "containers": [{**container, "volumeMounts": mounts}], "volumes": [*volumes]})


async def test_who_holds_too_much_is_ended_and_begins_anew(host: Any) -> None:
    await host.restart_agent()  # in virtual time
    host.want(asking(writing(host, 1, 9 * MB), 8 * MB), asking(writing(host, 2, 7 * MB), 8 * MB), writing(host, 3, 99 * MB))
    await host.until(lambda: host.status(1).reason == EVICTED, 12)
    assert (host.status(1).phase, host.status(1).message) == ("Creating", "container main held more than its ephemeral-storage")
    assert host.running() == {host.id(2), host.id(3)}, "one within its figure, and one without"
    assert host.id(1) not in host.machine.written
    await host.until(lambda: host.status(1).phase == "Running", 11)
    pauses = []
    for _ in range(3):
        await host.until(lambda: host.status(1).reason == EVICTED, 12)
        pauses.append(round(await host.until(lambda: host.status(1).phase == "Running", 301)))
    assert pauses == [20, 40, 80], "the pauses double"
    assert {host.status(2).restarts, host.status(3).restarts} == {0}


async def test_volumes_count_for_the_instance(host: Any) -> None:
    await host.restart_agent()  # in virtual time
    wanted = mounting(asking(writing(host, 1, 3 * MB), 8 * MB), EMPTY)
    host.want(wanted)
    await host.until(lambda: host.status().phase == "Running")
    path = fill(host, "data", 4 * MB)
    await asyncio.sleep(25)
    assert host.status().phase == "Running"
    fill(host, "data", 6 * MB)
    await host.until(lambda: host.status().reason == EVICTED, 12)
    assert host.status().message == "containers and volumes together held more than the containers' ephemeral-storage"
    assert not path.exists()
    await host.until(lambda: host.status().phase == "Running", 11)


@pytest.mark.parametrize(("medium", "kind"), [("Disk", "disk"), ("Memory", "memory")])
async def test_a_volume_has_a_limit_of_its_own(host: Any, medium: str, kind: str) -> None:
    await host.restart_agent()  # in virtual time
    limited = {"name": "data", "emptyDir": {"medium": medium, "sizeLimit": "1Mi"}}
    host.want(mounting(writing(host, 1, 99 * MB), limited, {"name": "other", "emptyDir": {}}))
    await host.until(lambda: host.status().phase == "Running")
    fill(host, "other", 5 * MB)
    fill(host, "data", MB // 2, kind)
    await asyncio.sleep(25)
    assert host.status().phase == "Running"
    fill(host, "data", 2 * MB, kind)
    await host.until(lambda: host.status().reason == EVICTED, 12)
    assert host.status().message == "volume data held more than its sizeLimit"


async def test_logs_count_for_their_container(host: Any) -> None:
    await host.restart_agent()  # in virtual time
    host.want(asking(host.instance(), 2 * MB))
    await host.until(lambda: host.status().phase == "Running")
    host.machine.write(host.id(), stderr=bytes(3 * MB))
    await host.until(lambda: host.status().reason == EVICTED, 12)
    assert not list(host.log_dir.rglob("*.log"))


async def test_init_containers_run_again(host: Any) -> None:
    await host.restart_agent()  # in virtual time
    host.machine.behaviours["prepare",] = Behaviour(exit_code=0)
    first = {"name": "first", "image": "app:1", "command": ["prepare"]}
    host.want(asking(writing(host, 1, 9 * MB, initContainers=[first]), 8 * MB))
    init = host.id(container="first")
    await host.until(lambda: host.status().reason == EVICTED, 12)
    assert host.count("start", init) == 1
    await host.until(lambda: host.status().phase == "Running", 11)
    assert host.count("start", init) == 2, "what it had prepared was removed"


async def test_what_is_to_run_once_has_failed_also_for_a_later_agent(host: Any) -> None:
    await host.restart_agent()  # in virtual time
    wanted = asking(writing(host, 1, 9 * MB, restartPolicy="Never"), 8 * MB)
    host.want(wanted)
    await host.until(lambda: host.status().phase == "Failed", 12)
    assert host.status().reason == EVICTED
    await host.restart_agent()
    host.want(wanted)
    await host.until(lambda: host.status().reason == EVICTED)
    await asyncio.sleep(700)
    assert (host.status().phase, host.count("start", host.id())) == ("Failed", 1)
    host.want()
    await host.until(lambda: not list(host.log_dir.with_name("evicted").iterdir()))
    host.want(asking(writing(host, 1, MB, restartPolicy="Never"), 8 * MB))
    await host.until(lambda: host.status().phase == "Running")


async def test_what_has_ended_well_is_not_run_again(host: Any) -> None:
    await host.restart_agent()  # in virtual time
    host.machine.behaviours["once",] = Behaviour(exit_code=0, written_bytes=9 * MB)
    host.want(asking(host.instance(command=("once",), restartPolicy="OnFailure"), 8 * MB))
    await host.until(lambda: host.status().phase == "Succeeded")
    await asyncio.sleep(60)
    assert (host.status().phase, host.count("start", host.id())) == ("Succeeded", 1)


async def test_the_disk_runs_short(host: Any) -> None:
    """The images that nobody uses go first, then who holds most over its request, then the next: never who is within its own."""
    await host.restart_agent()  # in virtual time
    machine = host.machine
    machine.disk_total_bytes, machine.disk_used_bytes = 10 << 30, 5 << 30
    sizes = {1: 100 * MB, 2: 300 * MB, 3: 900 * MB, 4: EVICTED_MIN_BYTES - 1}
    host.want(*(asking(writing(host, n, size), 900 * MB if n == 3 else 0) for n, size in sizes.items()))
    await host.until(lambda: len(host.running()) == 4)
    machine.images["old:1"] = "sha256:old"
    machine.pulled.add("old:1")
    machine.image_bytes = 1 << 30
    await asyncio.sleep(700)
    assert len(host.running()) == 4
    machine.disk_used_bytes = machine.disk_total_bytes - 200 * MB
    await asyncio.sleep(15)
    assert "old:1" not in machine.images
    assert len(host.running()) == 4, "that was enough"
    machine.disk_used_bytes = machine.disk_total_bytes - 850 * MB
    await host.until(lambda: host.status(2).reason == EVICTED, 12)
    assert host.status(2).message == "the node's disk is nearly full and it held most over its request"
    assert len(host.running()) == 3
    await asyncio.sleep(30)
    assert len(host.running()) == 3, "1150 MB of 10 GB are free"
    machine.disk_used_bytes = machine.disk_total_bytes - 100 * MB
    await host.until(lambda: host.status(1).reason == EVICTED, 12)
    await asyncio.sleep(60)
    assert host.running() == {host.id(3), host.id(4)}
    machine.disk_used_bytes = 5 << 30
    await host.until(lambda: len(host.running()) == 4, 301)


def test_who_holds_most_over_its_request() -> None:
    assert most_over([]) is None
    held = Held(containers={"a": 5}, volumes={"v": 6}, memory={"m": 1000})
    assert held.disk_bytes == 11


async def test_a_runtime_that_is_away_evicts_nobody(host: Any) -> None:
    await host.restart_agent()  # in virtual time
    host.want(asking(writing(host, 1, 9 * MB), 8 * MB))
    await host.until(lambda: host.status().phase == "Running")
    host.machine.away()
    await asyncio.sleep(60)
    host.machine.back()
    await host.until(lambda: host.status().reason == EVICTED, 12)

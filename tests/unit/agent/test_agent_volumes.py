"""Volumes on the fake runtime, in virtual time; memory is only noted."""

import asyncio
from typing import Any

import pytest

from veil.agent.volumes import MEMORY_DEFAULT_BYTES
from veil.runtime.ports import Mount

pytestmark = pytest.mark.looptime

FILES = {"files": {"a.conf": "x = 1\n"}}


def with_volumes(host: Any, *volumes: dict[str, Any], number: int = 1, **template: Any) -> Any:
    mounts = [{"name": volume["name"], "mountPath": f"/v/{volume['name']}"} for volume in volumes]
    container = {"name": "main", "image": "app:1", "command": ["serve"], "volumeMounts": mounts}
    return host.instance(number, containers=[container], volumes=list(volumes), **template)


async def test_every_kind_of_volume(host: Any) -> None:
    shared = host.log_dir.with_name("shared")
    shared.mkdir()
    host.want(
        with_volumes(
            host,
            {"name": "disk", "emptyDir": {}},
            {"name": "fast", "emptyDir": {"medium": "Memory"}},
            {"name": "conf", "config": FILES},
            {"name": "key", "secret": FILES},
            {"name": "shared", "hostPath": {"path": str(shared)}},
        )
    )
    await host.until(lambda: host.status().phase == "Running")
    home = host.log_dir.with_name("volumes") / host.key().text
    assert host.machine.records[host.id()].spec.mounts == (
        Mount(source=home / "memory" / "conf", destination="/v/conf", read_only=True),
        Mount(source=home / "disk" / "disk", destination="/v/disk"),
        Mount(source=home / "memory" / "fast", destination="/v/fast"),
        Mount(source=home / "memory" / "key", destination="/v/key", read_only=True),
        Mount(source=shared, destination="/v/shared"),
    )
    assert host.in_memory == [(home / "memory", 1 << 20)]
    for name in ("conf", "key"):
        file = home / "memory" / name / "a.conf"
        assert (file.read_text(), file.stat().st_mode & 0o777) == ("x = 1\n", 0o444)
    assert [(home / part).stat().st_mode & 0o777 for part in ("disk/disk", "memory/fast", "memory/key", "memory")] == [
        0o777,
        0o777,
        0o755,
        0o700,
    ]


async def test_an_instance_without_a_memory_figure_has_a_limit_all_the_same(host: Any) -> None:
    host.want(with_volumes(host, {"name": "conf", "config": FILES}, initContainers=[]))
    wanted = with_volumes(host, {"name": "conf", "config": FILES}, number=2)
    wanted.spec["containers"][0]["name"] = "other"
    host.want(wanted)
    await host.until(lambda: host.status(2).phase == "Running")
    assert host.in_memory[-1][1] == MEMORY_DEFAULT_BYTES


async def test_a_path_that_the_node_does_not_allow(host: Any) -> None:
    shared = host.log_dir.with_name("shared")
    for number, path in enumerate((shared / "below", shared.parent, "/etc", shared), 1):
        host.want(with_volumes(host, {"name": "data", "hostPath": {"path": str(path)}}, number=number))
        await host.until(lambda number=number: host.status(number).reason == "VolumeUnavailable")
    assert host.status(4).message == "volume data: its path is not there on this node"
    assert host.count("create") == 0
    shared.mkdir()
    await host.until(lambda: host.status(4).phase == "Running", 15)


async def test_what_was_written_stays_through_restarts_and_goes_with_the_instance(host: Any) -> None:
    wanted = with_volumes(host, {"name": "disk", "emptyDir": {}}, {"name": "conf", "config": FILES})
    host.want(wanted)
    await host.until(lambda: host.status().phase == "Running")
    home = host.log_dir.with_name("volumes") / host.key().text
    (home / "disk" / "disk" / "mine").write_text("x")
    read = (home / "memory" / "conf" / "a.conf").stat().st_ino
    host.machine.finish(host.id(), 1)
    await host.until(lambda: host.status().restarts == 1 and host.status().phase == "Running")
    await host.restart_agent()
    host.want(wanted)
    await asyncio.sleep(60)
    assert (home / "disk" / "disk" / "mine").read_text() == "x"
    assert (home / "memory" / "conf" / "a.conf").stat().st_ino == read, "not written again while somebody may read it"
    host.want()
    await host.until(lambda: host.gone == [host.key()], 5)
    assert host.unmounted == [home]
    assert not home.exists()


async def test_memory_is_made_and_filled_anew_after_the_machine_was_restarted(host: Any) -> None:
    wanted = with_volumes(host, {"name": "conf", "config": FILES})
    host.want(wanted)
    await host.until(lambda: host.status().phase == "Running")
    await host.agent.close()
    memory = host.log_dir.with_name("volumes") / host.key().text / "memory"
    for path in sorted(memory.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    host.machine.forget_end(host.id())
    host.agent = host.new_agent()
    await host.agent.start()
    host.want(wanted)
    await host.until(lambda: host.status().restarts == 1)
    assert (memory / "conf" / "a.conf").read_text() == "x = 1\n"
    assert len(host.in_memory) == 2


async def test_what_a_killed_agent_left_is_swept(host: Any) -> None:
    left = host.log_dir.with_name("volumes") / "v0000000000000000-g1-r0" / "disk" / "x"
    left.mkdir(parents=True)
    said = host.log_dir / "v0000000000000000-g1-r0" / "main"
    said.mkdir(parents=True)
    wanted = with_volumes(host, {"name": "disk", "emptyDir": {}})
    await asyncio.sleep(60)
    assert left.exists(), "nothing is removed before the first desired state"
    host.want(wanted)
    await host.until(lambda: not left.parent.parent.exists() and not said.exists(), 60)
    assert (host.log_dir.with_name("volumes") / host.key().text / "disk" / "disk").is_dir()


@pytest.mark.parametrize(
    "volume",
    [
        {"name": "../x", "emptyDir": {}},
        {"name": "a", "config": {"files": {"../../x": "y"}}},
        {"name": "a"},
        {"name": "a", "emptyDir": {}, "hostPath": {"path": "/etc"}},
    ],
)
async def test_volumes_that_cannot_be(host: Any, volume: dict[str, Any]) -> None:
    host.want(with_volumes(host, volume))
    await host.until(lambda: host.status().reason == "InvalidTemplate")

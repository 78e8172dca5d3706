"""The agent on a real, private containerd."""

import asyncio
import os
import re
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from containerd_machine import Machine, desired
from image_registry import LOGIN, Registry, auths

from veil.agent import evictions
from veil.errors import NotFound, RuntimeUnavailable
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.mounts import mounts as mounts_of_machine
from veil.wire.objects import ContainerResources, Resources

pytestmark = pytest.mark.runtime


async def test_a_killed_container_is_started_again_at_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's part of the 0.3 s that the bench promises on an idle machine; the rest is the runtime's own start."""
    asked_s: list[float] = []
    start = machine.runtime.start

    async def timed(id: str) -> Any:
        asked_s.append(time.monotonic())
        return await start(id)

    machine.agent.set_desired(desired(1, 2, 3, 4, 5))
    await machine.until(lambda pids: len(pids) == 5)
    await asyncio.sleep(0.5)
    monkeypatch.setattr(machine.runtime, "start", timed)
    killed_s, took_s = [], []
    for id, pid in (await machine.pids()).items():
        killed_s.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)
        took_s.append(await machine.until(lambda pids, id=id, pid=pid: pids.get(id, pid) != pid))
    waits_s = sorted(asked - killed for asked, killed in zip(asked_s, killed_s, strict=True))
    print(
        "killed → asked to start:", [round(each, 3) for each in waits_s], "→ runs:", [round(each, 3) for each in sorted(took_s)]
    )
    assert statistics.median(waits_s) <= 0.1
    assert max(took_s) <= 5


async def test_probes_and_init_containers(machine: Machine) -> None:
    """A server without a network, made ready by its init container, is probed over HTTP and restarted when it fails a command."""
    image = {"image": BUSYBOX_IMAGE}
    first = {"name": "first", **image, "command": ["sh", "-c", "echo prepared; sleep 0.2"]}
    serve = "mkdir -p /www; rm -f /www/sick; echo well > /www/health; exec httpd -f -p 127.0.0.1:8080 -h /www"
    figures = {"periodSeconds": 1, "failureThreshold": 1}
    main = {
        "name": "main",
        **image,
        "command": ["sh", "-c", serve],
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30},
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/health"}, "timeoutSeconds": 5, **figures},
        "livenessProbe": {"exec": {"command": ["test", "!", "-e", "/www/sick"]}, "timeoutSeconds": 5, **figures},
    }
    (wanted,) = desired(1).values()
    template = {"initContainers": [first], "containers": [main], "terminationGracePeriodSeconds": 0}
    machine.agent.set_desired({wanted.key: replace(wanted, spec=template)})
    id, status = f"{wanted.key.text}-main", machine.agent.statuses

    async def until(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)

    await until(lambda: status().get(wanted.key) and status()[wanted.key].ready)
    assert b"prepared\n" in b"".join([piece async for piece in machine.agent.logs(wanted.key, "first")])
    await machine.runtime.exec(id, ["mv", "/www/health", "/www/away"])
    await until(lambda: status()[wanted.key].reason == "NotReady")
    assert status()[wanted.key].restarts == 0
    await machine.runtime.exec(id, ["touch", "/www/sick"])
    await until(lambda: status()[wanted.key].restarts == 1)
    await until(lambda: status()[wanted.key].ready)


async def test_volumes_are_shared_kept_through_restarts_and_gone_with_their_instance(machine: Machine) -> None:
    mounts = [{"name": name, "mountPath": f"/v/{name}"} for name in ("disk", "fast", "key", "shared")]
    first = "echo from first > /v/disk/a; echo from first > /v/fast/a"
    check = "cat /v/disk/a /v/fast/a /v/key/token /v/shared/there; echo more >> /v/disk/a; echo x > /v/key/token"
    image, shell = {"image": BUSYBOX_IMAGE, "volumeMounts": mounts}, ["sh", "-c"]
    shared = machine.directory / "shared"
    shared.mkdir()
    (shared / "there").write_text("of the node\n")
    template = {
        "terminationGracePeriodSeconds": 0,
        "volumes": [
            {"name": "disk", "emptyDir": {"medium": "Disk"}},
            {"name": "fast", "emptyDir": {"medium": "Memory"}},
            {"name": "key", "secret": {"files": {"token": "s3cret\n"}}},
            {"name": "shared", "hostPath": {"path": str(shared)}},
        ],
        "initContainers": [{"name": "first", **image, "command": [*shell, first]}],
        "containers": [{"name": "main", **image, "command": [*shell, f"{check}; exec sleep 1000"]}],
    }
    (wanted,) = desired(1).values()
    key, id = wanted.key, f"{wanted.key.text}-main"
    machine.agent.set_desired({key: replace(wanted, spec=template)})
    await machine.until(lambda pids: id in pids)
    refused = "sh: can't create /v/key/token: Read-only file system"
    assert await machine.said(key, 5) == ["from first", "from first", "s3cret", "of the node", refused]

    def in_memory() -> list[tuple[Path, str]]:
        return [found for found in mounts_of_machine() if found[0].is_relative_to(machine.directory)]

    assert in_memory() == [(machine.directory / "volumes" / key.text / "memory", "tmpfs")]
    before = await machine.pids()
    os.kill(before[id], signal.SIGKILL)
    await machine.until(lambda pids: pids.get(id, 0) not in (0, before[id]))
    assert await machine.said(key, 6) == ["from first", "more", "from first", "s3cret", "of the node", refused]
    machine.agent.set_desired({})
    async with asyncio.timeout(30):
        while (machine.directory / "volumes" / key.text).exists():
            await asyncio.sleep(0.02)
    assert in_memory() == []
    assert (shared / "there").read_text() == "of the node\n"


async def test_an_instances_own_registry_login_is_its_own(machine: Machine, registry: Registry, caplog: Any) -> None:
    """Two Instances of one private image: who brings the login runs, who does not waits, though the image is there."""
    registry.wants_basic = LOGIN
    container = {"name": "main", "image": f"{registry.address}/a/b:1", "command": ["sleep", "1000"]}
    template = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    own = {
        **template,
        "volumes": [{"name": "login", "secret": {"files": {"config.json": auths(registry)}}}],
        "imagePullSecrets": [{"name": "login"}],
    }
    first, second = desired(1, 2).values()
    wanted = {first.key: replace(first, spec=own)}
    machine.agent.set_desired(wanted)
    await machine.until(lambda pids: f"{first.key.text}-main" in pids)
    machine.agent.set_desired({**wanted, second.key: replace(second, spec=template)})
    async with asyncio.timeout(30):
        while (status := machine.agent.statuses().get(second.key)) is None or status.reason != "ImagePullBackOff":
            await asyncio.sleep(0.02)
    assert set(await machine.pids()) == {f"{first.key.text}-main"}
    secret = re.compile("open sesame|" + re.escape(LOGIN.removeprefix("Basic ")))
    assert not secret.search(caplog.text + repr(machine.agent.statuses()))
    kept = [
        path for path in machine.directory.rglob("*") if path.is_file() and secret.search(path.read_bytes().decode("latin-1"))
    ]
    assert kept == [], "a login that no container mounts is in no file"


@pytest.mark.parametrize("where", ["root", "volume", "log"])
async def test_who_holds_too_much_of_the_disk_is_evicted(machine: Machine, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """The real figures of containerd's snapshots, of directories and of log files; a neighbour that may hold as much goes on."""
    monkeypatch.setattr(evictions, "PERIOD_S", 0.2)
    target = {"root": "/big", "volume": "/v/big", "log": "/dev/stdout"}[where]
    write = f"head -c 6000000 /dev/zero > {target}; sync; exec sleep 1000"
    mounts = [{"name": "v", "mountPath": "/v"}]
    container = {"name": "main", "image": BUSYBOX_IMAGE, "command": ["sh", "-c", write], "volumeMounts": mounts}
    template = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }
    first, second = (
        replace(one, spec=template, resources=Resources(containers={"main": ContainerResources(disk_bytes=size)}))
        for one, size in zip(desired(1, 2).values(), (4_000_000, 9_000_000), strict=True)
    )
    machine.agent.set_desired({one.key: one for one in (first, second)})
    async with asyncio.timeout(30):
        while (status := machine.agent.statuses().get(first.key)) is None or status.reason != "Evicted":
            await asyncio.sleep(0.02)
    assert set(await machine.pids()) == {f"{second.key.text}-main"}
    with pytest.raises(NotFound):
        await machine.runtime.written(f"{first.key.text}-main")
    assert await machine.runtime._snapshots.usage(f"{first.key.text}-main") == 0
    assert list(machine.directory.rglob(f"*{first.key.text}*")) == [], "nothing of it is left"
    await asyncio.sleep(0.5)
    assert 6_000_000 <= machine.agent.disk_within_requests_bytes < 9_000_000
    assert machine.agent.statuses()[second.key].restarts == 0


async def test_a_new_agent_adopts_and_restarts_what_ended_meanwhile(machine: Machine) -> None:
    wanted = desired(1, 2, 3)
    machine.agent.set_desired(wanted)
    await machine.until(lambda pids: len(pids) == 3)
    for key in wanted:
        await machine.said(key, 1)
    before = await machine.pids()
    await machine.agent.close()
    victim = min(before)
    os.kill(before[victim], signal.SIGKILL)
    await machine.until(lambda pids: victim not in pids)

    machine.agent = machine.new_agent()
    await machine.agent.start()
    machine.agent.set_desired(wanted)
    await machine.until(lambda pids: len(pids) == 3)
    after = await machine.pids()
    assert {id for id in before if after[id] == before[id]} == set(before) - {victim}
    (key,) = [key for key in wanted if victim.startswith(key.text)]
    line = f"here {wanted[key].workload}-1-0"
    assert await machine.said(key, 1) == [line]
    previous = b"".join([piece async for piece in machine.agent.logs(key, previous=True, timestamps=True)])
    assert re.fullmatch(rf"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z {line}\n", previous.decode())


async def test_containerd_dies_with_a_container_and_comes_back(machine: Machine) -> None:
    machine.agent.set_desired(desired(1, 2))
    await machine.until(lambda pids: len(pids) == 2)
    before = await machine.pids()
    victim = min(before)
    containerd = machine.private.process
    assert containerd is not None
    os.kill(containerd.pid, signal.SIGKILL)
    os.kill(before[victim], signal.SIGKILL)
    await asyncio.sleep(0.5)
    await machine.private.start()

    def repaired(pids: dict[str, int]) -> bool:
        return len(pids) == 2 and pids[victim] != before[victim]

    async with asyncio.timeout(30):
        while True:
            try:
                await machine.until(repaired)
                break
            except RuntimeUnavailable:
                await asyncio.sleep(0.1)
    after = await machine.pids()
    assert {id for id in before if after[id] == before[id]} == set(before) - {victim}

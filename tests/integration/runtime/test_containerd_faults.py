"""containerd dies, its shim dies, the container dies in between: nothing runs twice, nothing is forgotten, nothing is left."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from veil.errors import RuntimeUnavailable
from veil.runtime import daemon, leftovers
from veil.runtime.containerd import ContainerdRuntime, driver
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.detached import identify
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.mounts import mount_tmpfs, unmount
from veil.runtime.ports import ContainerSpec, ContainerState, EventKind, RuntimeEvent

pytestmark = pytest.mark.runtime

COUNT = "trap 'exit 143' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"


class Node:
    """A daemon of its own and a driver, for tests that kill the former."""

    def __init__(self, directory: Path, archive: Path) -> None:
        self.directory = directory
        self.archive = archive
        self.daemon = PrivateContainerd(directory / "d", directory / "containerd.log")
        self.runtime = self.driver()

    def driver(self) -> ContainerdRuntime:
        one = self.daemon
        return ContainerdRuntime(
            one.socket,
            namespace="faults",
            snapshotter="overlayfs",
            runc_root=one.runc_root,
            cgroup_parent=one.cgroup_parent,
        )

    async def up(self) -> None:
        await self.daemon.start()
        await self.runtime.start_driver()
        await self.runtime.import_image(BUSYBOX_IMAGE, self.archive)

    async def kill_daemon(self) -> None:
        process = self.daemon.process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await process.wait_gone()

    async def run(self, id: str, script: str = COUNT, **fields: int) -> int:
        await self.runtime.create(
            ContainerSpec(
                id=id,
                image=BUSYBOX_IMAGE,
                command=("sh", "-c", script),
                stdout=self.directory / f"{id}.out",
                stderr=self.directory / f"{id}.err",
                **fields,  # type: ignore[arg-type]
            )
        )
        return (await self.runtime.start(id)).pid

    def said(self, id: str) -> int:
        return len((self.directory / f"{id}.out").read_text().splitlines())


@pytest.fixture
async def node(tmp_path: Path, archive: Path) -> AsyncIterator[Node]:
    if (reason := daemon.available()) is not None:
        pytest.skip(reason)
    one = Node(tmp_path, archive)
    await one.up()
    try:
        yield one
    finally:
        await one.runtime.close()
        await one.daemon.stop()


async def until(check: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.02)


async def test_containers_outlive_containerd(node: Node) -> None:
    pid = await node.run("alive")
    await node.run("dies")
    seen: list[RuntimeEvent] = []

    async def watch() -> None:
        async for event in node.runtime.events():
            seen.append(event)

    async def resyncs(count: int) -> bool:
        return sum(event.kind is EventKind.RESYNC for event in seen) >= count

    watcher = asyncio.create_task(watch())
    try:
        await until(lambda: resyncs(1))
        await node.kill_daemon()
        with pytest.raises(RuntimeUnavailable):
            await node.runtime.list()
        before = node.said("alive")
        psutil.Process(await asyncio.to_thread(_pid_of, node, "dies")).kill()

        async def talked() -> bool:
            return node.said("alive") > before + 2

        await until(talked)
        await node.daemon.start()
        await until(lambda: resyncs(2))
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    found = {view.id: view for view in await node.runtime.list()}
    assert (found["alive"].state, found["alive"].pid) == (ContainerState.RUNNING, pid)
    assert found["dies"].state in (ContainerState.EXITED, ContainerState.UNKNOWN)
    assert found["dies"].exit_code in (137, None)
    assert (await node.runtime.stop("alive", grace_s=5)).exit_code == 143


def _pid_of(node: Node, id: str) -> int:
    """The init of a container, found without containerd: by its cgroup."""
    for root in leftovers.cgroup_roots():
        procs = root / node.daemon.cgroup_parent.lstrip("/") / id / "cgroup.procs"
        if procs.exists() and (pids := procs.read_text().split()):
            return min(int(pid) for pid in pids)
    raise AssertionError(f"no cgroup of {id}")


async def test_a_killed_shim_takes_its_container_along(node: Node) -> None:
    pid = await node.run("orphan")
    (shim,) = node.daemon._shims()
    shim.send(signal.SIGKILL)

    async def ended() -> bool:
        return (await node.runtime.state("orphan")).state is not ContainerState.RUNNING

    await until(ended)

    async def gone() -> bool:
        return identify(pid) is None

    await until(gone)
    assert (await node.runtime.start("orphan")).pid != pid


@pytest.mark.parametrize("end", ["delete", "stop"])
async def test_a_killed_shim_leaves_no_socket(node: Node, end: str) -> None:
    """It cannot clean up after itself, and containerd does not."""
    await node.run("orphan")
    (shim,), (socket,) = node.daemon._shims(), node.daemon._shim_sockets()
    assert socket.exists()
    shim.send(signal.SIGKILL)

    async def forgotten() -> bool:
        return not node.daemon._shim_sockets()

    await until(forgotten)
    assert socket.exists()
    if end == "delete":
        await node.runtime.delete("orphan")
    else:
        await node.daemon.stop()
    assert not socket.exists()


@pytest.mark.parametrize("goes", [False, True], ids=["forgotten", "late"])
async def test_a_task_s_directory_that_is_left_is_not_in_the_way_for_ever(
    node: Node, monkeypatch: pytest.MonkeyPatch, goes: bool
) -> None:
    """containerd was killed with the task half made; or it is still removing what a dead shim left."""
    monkeypatch.setattr(driver, "CLEANUP_DEADLINE_S", 30.0 if goes else 0.3)
    state = node.daemon.directory / "state" / "io.containerd.runtime.v2.task" / "faults" / "left"
    rootfs = state / "rootfs"
    rootfs.mkdir(parents=True)
    mount_tmpfs(rootfs, 1 << 16)
    (rootfs / "file").touch()
    loop = asyncio.get_running_loop()
    if goes:
        loop.call_later(0.5, unmount, rootfs)
        loop.call_later(0.6, shutil.rmtree, state)
    assert await node.run("left") > 0
    assert (await node.runtime.state("left")).state is ContainerState.RUNNING


async def test_an_init_killed_from_outside_is_an_exit(node: Node) -> None:
    pid = await node.run("shot")
    events = node.runtime.events()
    assert (await anext(events)).kind is EventKind.RESYNC
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        assert await anext(events) == RuntimeEvent(kind=EventKind.EXITED, id="shot", exit_code=137)
    await events.aclose()  # type: ignore[attr-defined]


async def test_out_of_memory_is_announced(node: Node) -> None:
    events = node.runtime.events()
    assert (await anext(events)).kind is EventKind.RESYNC
    await node.run("glutton", "x=a; while :; do x=$x$x$x$x; done", memory_bytes=24 << 20)
    kinds: list[EventKind] = []
    async with asyncio.timeout(15):
        while EventKind.EXITED not in kinds or EventKind.OOM not in kinds:
            kinds.append((await anext(events)).kind)
    assert (await node.runtime.state("glutton")).exit_code == 137
    await events.aclose()  # type: ignore[attr-defined]


async def test_restart_in_place_keeps_the_files(node: Node) -> None:
    script = "echo run >> /count; wc -l < /count"
    for _ in range(3):
        await node.run("count", script)

        async def ended() -> bool:
            return (await node.runtime.state("count")).state is ContainerState.EXITED

        await until(ended)
    assert (node.directory / "count.out").read_text().split() == ["1", "2", "3"]


async def test_no_socket_is_a_runtime_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veil.runtime.containerd.driver.CONNECT_DEADLINE_S", 0.3)
    runtime = ContainerdRuntime(tmp_path / "nothing.sock")
    with pytest.raises(RuntimeUnavailable) as caught:
        await runtime.start_driver()
    assert caught.value.hint


def _traces(one: PrivateContainerd, pids: set[int]) -> dict[str, list[str]]:
    """What can be seen of a daemon from outside, without asking its own code."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(bytes(one.directory) in word for word in words) and b"containerd" in words[0]:
            commands.append(str(words))
    return {
        "processes": commands + [str(pid) for pid in pids if identify(pid)],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(one.directory) in line],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").rglob(one.cgroup_parent.lstrip("/"))],
        "sockets": [str(path) for path in Path("/run/containerd/s").glob("*") if path in one_sockets.get(one.directory, ())],
    }


one_sockets: dict[Path, list[Path]] = {}


@pytest.mark.parametrize("dead", [False, True], ids=["running", "killed"])
async def test_stop_leaves_no_trace(node: Node, dead: bool) -> None:
    pids = {await node.run(f"trace-{i}") for i in range(2)}
    pids.add(await node.run("family", "sleep 600 & sleep 600 & trap '' TERM; while :; do sleep 0.1; done"))
    one_sockets[node.daemon.directory] = node.daemon._shim_sockets()
    before = _traces(node.daemon, pids)
    assert all(before.values()), before
    assert len(before["sockets"]) == 3
    if dead:
        await node.kill_daemon()
    await node.daemon.stop()
    assert _traces(node.daemon, pids) == {"processes": [], "mounts": [], "cgroups": [], "sockets": []}
    await node.daemon.stop()


async def test_start_again_adopts_the_running_daemon(node: Node) -> None:
    first = node.daemon.process
    assert first is not None
    again = PrivateContainerd(node.daemon.directory, node.daemon.log_file)
    assert await again.start() == first.pid

"""Plain processes outlive whoever started them, and are known again; a killed shim is an end nobody saw."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from veil.errors import ContainerFailed
from veil.runtime.detached import ProcessId, identify, read_record
from veil.runtime.ports import ContainerSpec, ContainerState
from veil.runtime.process import ProcessRuntime

pytestmark = pytest.mark.runtime

LOOP = "trap 'exit 7' TERM; while :; do echo tick; sleep 0.05; done"


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    one = ProcessRuntime(tmp_path / "run")
    await one.start_driver()
    yield one
    for container in await one.list():
        await one.delete(container.id)
    await one.close()


def spec(tmp_path: Path, script: str = LOOP) -> ContainerSpec:
    return ContainerSpec(
        id="a", image="ignored", command=("/bin/sh", "-c", script), stdout=tmp_path / "out", stderr=tmp_path / "err"
    )


async def until(check: Callable[[], Awaitable[bool]], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.01)


async def test_kill_of_the_node_is_no_event_for_its_containers(runtime: ProcessRuntime, tmp_path: Path) -> None:
    program = f"""
        import asyncio, os, signal
        from pathlib import Path
        from veil.runtime.ports import ContainerSpec
        from veil.runtime.process import ProcessRuntime

        async def main():
            home = Path({str(tmp_path)!r})
            runtime = ProcessRuntime(home / "run")
            await runtime.start_driver()
            await runtime.create(ContainerSpec(id="a", image="i", command=("/bin/sh", "-c", {LOOP!r}),
                                               stdout=home / "out", stderr=home / "err"))
            await runtime.start("a")
            os.killpg(0, signal.SIGKILL)

        asyncio.run(main())
    """
    parent = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], start_new_session=True, timeout=20)
    assert parent.returncode == -signal.SIGKILL
    (found,) = await runtime.list()
    assert found.state is ContainerState.RUNNING
    before = (tmp_path / "out").stat().st_size

    async def grows() -> bool:
        return (tmp_path / "out").stat().st_size > before

    await until(grows)
    assert (await runtime.stop("a", grace_s=5)).exit_code == 7


async def test_a_killed_shim_is_an_unseen_end(runtime: ProcessRuntime, tmp_path: Path) -> None:
    await runtime.create(spec(tmp_path))
    first = await runtime.start("a")
    shim = read_record(tmp_path / "run" / "a" / "shim")
    assert shim is not None
    os.kill(shim.pid, signal.SIGKILL)
    await shim.wait_gone()
    assert (await runtime.state("a")).state is ContainerState.RUNNING
    os.kill(first.pid, signal.SIGKILL)

    async def unknown() -> bool:
        return (await runtime.state("a")).state is ContainerState.UNKNOWN

    await until(unknown)
    assert (await runtime.start("a")).state is ContainerState.RUNNING


async def test_delete_takes_the_children_along(runtime: ProcessRuntime, tmp_path: Path) -> None:
    await runtime.create(spec(tmp_path, "sleep 600 & echo $!; wait"))
    await runtime.start("a")

    async def said() -> bool:
        return bool((tmp_path / "out").read_text().strip())

    await until(said)
    child = identify(int((tmp_path / "out").read_text()))
    assert child is not None
    shim = read_record(tmp_path / "run" / "a" / "shim")
    assert shim is not None
    os.kill(shim.pid, signal.SIGKILL)  # the one that would have killed the rest
    await shim.wait_gone()
    await runtime.delete("a")

    async def gone() -> bool:
        return not child.alive()

    await until(gone)
    assert not (tmp_path / "run" / "a").exists()


async def test_another_process_with_the_same_pid_is_a_stranger(runtime: ProcessRuntime, tmp_path: Path) -> None:
    await runtime.create(spec(tmp_path))
    await runtime.start("a")
    home = tmp_path / "run" / "a"
    for name in ("main", "shim"):
        (home / name).rename(home / f"{name}.real")
        own = Path("/proc/self/stat").read_text().rpartition(") ")
        fields = own[2].split()
        fields[19] = "1"  # this very process, said to have started with the machine
        (home / name).write_text(f"{own[0]}) {' '.join(fields)}\n")
    assert (await runtime.state("a")).state is ContainerState.UNKNOWN
    await runtime.stop("a", grace_s=0.1)  # must not signal this process
    for name in ("main", "shim"):
        (home / f"{name}.real").rename(home / name)


async def test_a_command_is_needed(runtime: ProcessRuntime, tmp_path: Path) -> None:
    with pytest.raises(ContainerFailed) as caught:
        await runtime.create(ContainerSpec(id="a", image="busybox", stdout=tmp_path / "o", stderr=tmp_path / "e"))
    assert "command" in caught.value.hint


def test_a_process_is_its_pid_and_start() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert me.alive()
    assert not ProcessId(me.pid, me.start_ticks + 1).alive()
    assert not ProcessId(me.pid, me.start_ticks + 1).send(signal.SIGKILL)

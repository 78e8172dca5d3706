"""The agent on real processes: what is killed runs again, and an agent that was killed finds its containers again."""

import asyncio
import importlib.util
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from veil.agent.agent import Agent
from veil.runtime.ports import Container, ContainerState
from veil.runtime.process import ProcessRuntime
from veil.store.journal import Journal
from veil.types import SystemClock

SCRIPT = Path(__file__).parent / "agent_process.py"
spec = importlib.util.spec_from_file_location("agent_process", SCRIPT)
assert spec is not None
assert spec.loader is not None
agent_process = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agent_process)

FOREVER = "echo here; exec sleep 1000"


class Machine:
    """A directory with containers, journal and logs, and an agent in this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = ProcessRuntime(directory / "containers")
        self.statuses: list[Any] = []
        self.agent: Agent | None = None

    async def start(self) -> Agent:
        await self.runtime.start_driver()
        self.journal = Journal(self.directory / "journal.db")
        self.agent = Agent(
            self.runtime,
            self.journal,
            SystemClock(),
            self.directory / "logs",
            lambda key, status: self.statuses.append(status),
            node="n1",
        )
        await self.agent.start()
        return self.agent

    async def close(self) -> None:
        if self.agent is not None:
            self.agent.set_desired({})
            await self.until(lambda views: not views, 15)
            await self.agent.close()
            self.journal.close()
        await self.runtime.close()

    async def running(self) -> dict[str, int]:
        return {view.id: view.pid for view in await self.runtime.list() if view.state is ContainerState.RUNNING}

    async def started(self) -> dict[str, float]:
        """When each run began: another time is another run (a pid can be the shim's for a moment)."""
        return {view.id: view.started_s for view in await self.runtime.list() if view.state is ContainerState.RUNNING}

    async def until(self, condition: Callable[[list[Container]], Any], timeout_s: float = 10.0) -> float:
        began_s = time.monotonic()
        while not condition(views := await self.runtime.list()):
            assert time.monotonic() - began_s < timeout_s, views
            await asyncio.sleep(0.005)
        return time.monotonic() - began_s


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    yield made
    await made.close()


def runs(count: int) -> Callable[[list[Container]], bool]:
    return lambda views: [view.state for view in views] == [ContainerState.RUNNING] * count


async def test_a_killed_container_runs_again_within_0_3_s(machine: Machine) -> None:
    agent = await machine.start()
    wanted = {one.key: one for one in (agent_process.desired(number, FOREVER) for number in range(5))}
    agent.set_desired(wanted)
    await machine.until(runs(5))
    await asyncio.sleep(0.3)
    took_s = []
    for id, pid in (await machine.running()).items():
        os.kill(pid, signal.SIGKILL)
        took_s.append(await machine.until(lambda views, id=id, pid=pid: back(views, id, pid), 5))
    assert statistics.median(took_s) <= 0.3, took_s


def back(views: list[Container], id: str, pid: int) -> bool:
    return any(view.id == id and view.state is ContainerState.RUNNING and view.pid != pid for view in views)


async def test_a_killed_agent_finds_its_containers_again(machine: Machine) -> None:
    former = await asyncio.create_subprocess_exec(sys.executable, str(SCRIPT), str(machine.directory), "4")
    try:
        await machine.until(runs(4), 30)
    finally:
        former.kill()
        await former.wait()
    before = await machine.started()
    assert len(before) == 4
    victim, pid = min((await machine.running()).items())
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid):
        await asyncio.sleep(0.01)

    agent = await machine.start()
    agent.set_desired({one.key: one for one in (agent_process.desired(number, FOREVER) for number in range(4))})
    await machine.until(runs(4))
    await asyncio.sleep(0.5)
    after = await machine.started()
    assert {id for id in before if after[id] == before[id]} == set(before) - {victim}, "adopted, not restarted"
    while len(agent.statuses()) < 4:
        await asyncio.sleep(0.01)
    assert sorted(status.restarts for status in agent.statuses().values()) == [0, 0, 0, 1]


async def test_removal_and_logs(machine: Machine) -> None:
    agent = await machine.start()
    one = agent_process.desired(1, "echo out; echo err >&2; trap 'exit 0' TERM; while :; do sleep 0.05; done")
    agent.set_desired({one.key: one})
    await machine.until(runs(1))
    pieces = b""
    async with asyncio.timeout(5):
        while pieces != b"out\nerr\n":
            pieces = b"".join([piece async for piece in agent.logs(one.key)])
            await asyncio.sleep(0.01)
    (pid,) = (await machine.running()).values()
    agent.set_desired({})
    await machine.until(lambda views: not views)
    assert not psutil.pid_exists(pid)
    async with asyncio.timeout(5):
        while list((machine.directory / "logs").iterdir()):
            await asyncio.sleep(0.01)


async def test_a_crash_loop_backs_off(machine: Machine) -> None:
    agent = await machine.start()
    one = agent_process.desired(1, "exit 3")
    agent.set_desired({one.key: one})
    async with asyncio.timeout(10):
        while not machine.statuses or machine.statuses[-1].reason != "CrashLoopBackOff":
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    status = machine.statuses[-1]
    assert (status.phase, status.exit_code, status.restarts) == ("Creating", 3, 1)

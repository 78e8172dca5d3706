"""Agents of HashiCorp's serf on this machine, to measure beside: ``apt-get install serf`` (Debian's 0.9)."""

import asyncio
import contextlib
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator

import psutil

from bench.mesh_wires import Wire, Wires
from veil.errors import ConfigInvalid

EVENT = re.compile(rb"serf: EventMember(Join|Failed): (\S+)")
JOIN_TIMEOUT_S = 60.0


class Agent:
    """One serf process; what its log says of others, with the time it was read."""

    def __init__(self, number: int, wire: Wire) -> None:
        self.name = f"bench-{number}"
        self.wire = wire
        self.events: dict[tuple[str, str], float] = {}
        self.process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, join: "Agent | None") -> None:
        command = ["serf", "agent", f"-node={self.name}", f"-bind={self.wire.address}", "-log-level=info", "-profile=lan"]
        if join is not None:
            command += [f"-retry-join={join.wire.address}", "-retry-interval=1s"]
        with self.wire.inside():
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
        self._reader = asyncio.create_task(self._read(self.process))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            found = EVENT.search(line)
            if found is not None:
                self.events[(found.group(1).decode(), found.group(2).decode())] = time.monotonic()


class SerfCluster:
    """Agents that know each other."""

    def __init__(self, wires: Wires) -> None:
        self.agents: list[Agent] = []
        self._wires = wires

    async def add(self) -> Agent:
        agent = Agent(len(self.agents), self._wires.add())
        first = self.agents[0] if self.agents else None
        self.agents.append(agent)
        await agent.start(first)
        return agent

    async def all_saw(self, event: str, subject: Agent, others: list[Agent], timeout_s: float = 120.0) -> float:
        """When the last of ``others`` saw it (monotonic seconds). Raises TimeoutError."""
        key = (event, subject.name)
        async with asyncio.timeout(timeout_s):
            while not all(key in agent.events for agent in others):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return max(agent.events[key] for agent in others)

    def cpu_s(self, agents: list[Agent]) -> float:
        return sum(sum(psutil.Process(agent.process.pid).cpu_times()[:2]) for agent in agents if agent.process is not None)


@contextlib.asynccontextmanager
async def serf_cluster(count: int, wires: Wires) -> AsyncIterator[SerfCluster]:
    """``count`` agents that have all seen each other. Raises ConfigInvalid where there is no serf."""
    if shutil.which("serf") is None:
        raise ConfigInvalid("serf is not installed", hint="run `make bench-mesh`, which installs Debian's package `serf`")
    made = SerfCluster(wires)
    try:
        for _ in range(count):
            await made.add()
        for agent in made.agents:
            await made.all_saw("Join", agent, [other for other in made.agents if other is not agent], JOIN_TIMEOUT_S)
        yield made
    finally:
        await asyncio.gather(*(agent.close() for agent in made.agents))

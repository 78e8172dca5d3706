"""Instances wanted and not wanted at random while containers, shims, containerd and the agent are killed; nothing runs twice.

What runs is counted in /proc. In the end exactly what is wanted runs, and when nothing is wanted nothing is left. The seed is
printed: SOAK_RUNTIME_SEED repeats it, SOAK_RUNTIME_S and SOAK_RUNTIME_INSTANCES make it longer (``make soak-runtime``).
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from containerd_machine import Machine, desired

from veil.agent.keys import InstanceKey, container_id
from veil.errors import VeilError
from veil.runtime.detached import ProcessId

pytestmark = [pytest.mark.runtime, pytest.mark.timeout(900)]

SECONDS = float(os.environ.get("SOAK_RUNTIME_S", "30"))
INSTANCES = int(os.environ.get("SOAK_RUNTIME_INSTANCES", "50"))
SEED = int(os.environ.get("SOAK_RUNTIME_SEED", "0")) or random.randrange(1, 2**32)
SETTLE_S = 240.0


def main_processes(node: str) -> Counter[str]:
    """How often each Instance's command runs on this machine, by the environment of its processes."""
    found: Counter[str] = Counter()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.joinpath("comm").read_text() == "sleep\n":
                variables = path.joinpath("environ").read_bytes().split(b"\0")
                if f"VEIL_NODE={node}".encode() in variables:
                    found.update(one.decode() for one in variables if one.startswith(b"VEIL_INSTANCE="))
    return found


class Soak:
    """One run of it."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self.machine = machine
        self.random = random.Random(seed)
        self.every = desired(*range(1, INSTANCES + 1))
        self.wanted: set[InstanceKey] = set()
        self.shot: set[InstanceKey] = set()
        """Those of now that were killed: not twice, or they would rightly wait for their back-off."""
        self.did: Counter[str] = Counter()

    def want(self) -> None:
        for key in self.random.sample(sorted(self.every), self.random.randint(1, max(1, INSTANCES // 8))):
            self.wanted ^= {key}
            self.shot.discard(key)
        self.machine.agent.set_desired({key: self.every[key] for key in self.wanted})

    async def kill_main(self) -> None:
        if victims := sorted(self.wanted - self.shot):
            key = self.random.choice(victims)
            self.shot.add(key)
            with contextlib.suppress(VeilError):
                if pid := (await self.machine.runtime.state(container_id(key, "main"))).pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    async def kill_shim(self) -> None:
        by_id = {command[4]: shim for shim, command in self.shims() if len(command) > 4}
        victims = [key for key in sorted(self.wanted - self.shot) if container_id(key, "main") in by_id]
        if victims:
            key = self.random.choice(victims)
            self.shot.add(key)
            by_id[container_id(key, "main")].send(signal.SIGKILL)

    async def kill_containerd(self) -> None:
        daemon = self.machine.private.process
        assert daemon is not None
        daemon.send(signal.SIGKILL)
        await daemon.wait_gone()
        await asyncio.sleep(self.random.random())
        await self.machine.private.start()

    async def replace_agent(self) -> None:
        await self.machine.agent.close()
        await asyncio.sleep(self.random.random() / 2)
        self.machine.agent = self.machine.new_agent()
        await self.machine.agent.start()
        self.machine.agent.set_desired({key: self.every[key] for key in self.wanted})

    async def step(self) -> None:
        kills: list[Callable[[], Awaitable[None]]] = [self.kill_main, self.kill_shim, self.replace_agent, self.kill_containerd]
        if self.random.random() < 0.7:
            self.want()
            self.did["want"] += 1
        else:
            (act,) = self.random.choices(kills, [4, 2, 2, 1])
            await act()
            self.did[act.__name__] += 1
        await asyncio.sleep(self.random.random() * 0.4)

    async def no_shim_is_left(self) -> None:
        """They end a moment after their container."""
        end_s = time.monotonic() + 30
        while left := self.shims():
            assert time.monotonic() < end_s, [command[4:5] for _, command in left]
            await asyncio.sleep(0.1)

    def shims(self) -> list[tuple[ProcessId, list[str]]]:
        """With their command lines."""
        found = []
        for shim in self.machine.private._shims():
            with contextlib.suppress(psutil.Error):
                found.append((shim, psutil.Process(shim.pid).cmdline()))
        return found

    def found(self) -> Counter[str]:
        return main_processes(self.machine.node)

    def names(self) -> Counter[str]:
        return Counter(f"VEIL_INSTANCE={self.every[key].workload}-1-0" for key in self.wanted)

    async def settle(self) -> float:
        """Seconds until exactly the wanted ones run, for a second on end."""
        began_s = time.monotonic()
        right_s = 0.0
        while right_s < 1.0:
            assert time.monotonic() - began_s < SETTLE_S, (self.found() - self.names(), self.names() - self.found())
            await asyncio.sleep(0.2)
            found = self.found()
            assert not twice(found)
            right_s = right_s + 0.2 if found == self.names() else 0.0
        return time.monotonic() - began_s


def twice(found: Counter[str]) -> list[str]:
    return [name for name, count in found.items() if count > 1]


async def test_what_is_wanted_runs_once_whatever_dies(machine: Machine) -> None:
    print(f"SOAK_RUNTIME_SEED={SEED}")
    soak = Soak(machine, SEED)
    end_s = time.monotonic() + SECONDS
    while time.monotonic() < end_s:
        await soak.step()
        assert not twice(soak.found()), f"seed {SEED}"
    took_s = await soak.settle()
    print(f"{dict(soak.did)}, then right after {took_s:.1f} s: {len(soak.wanted)} instances")
    soak.wanted.clear()
    machine.agent.set_desired({})
    await soak.settle()
    async with asyncio.timeout(SETTLE_S):
        while await machine.runtime.list() or machine.agent.statuses() or any((machine.directory / "logs").iterdir()):
            await asyncio.sleep(0.1)
    await soak.no_shim_is_left()

"""kill -9 of the agent, containerd, a container's shim and another's first process, one after the other: what is wanted runs
once in the end, and what nobody killed was not touched. All are signalled from outside, and what runs is counted in /proc.

Six of the 24 orders are tried, drawn from a seed that is printed (SOAK_RUNTIME_SEED repeats it); with SOAK_RUNTIME_ORDERS=24 all.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from containerd_machine import connect, desired, node_of

from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE

pytestmark = [pytest.mark.runtime, pytest.mark.timeout(900)]

SEED = int(os.environ.get("SOAK_RUNTIME_SEED", "0")) or random.randrange(1, 2**32)
ORDERS = int(os.environ.get("SOAK_RUNTIME_ORDERS", "6"))
COUNT = 4
SETTLE_S = 60.0
HERE = Path(__file__).parent


class Killed:
    """A machine whose agent is a process; Instance 1 loses its first process, Instance 2 its shim."""

    def __init__(self, private: PrivateContainerd, directory: Path, seed: int) -> None:
        self.private = private
        self.directory = directory
        self.random = random.Random(seed)
        self.names = {number: f"w{number}-1-0" for number in range(1, COUNT + 1)}
        self.node = node_of(directory)

    def start_agent(self) -> None:
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        command = [
            sys.executable,
            str(HERE / "containerd_agent_process.py"),
            str(self.private.directory),
            str(self.directory),
            str(COUNT),
        ]
        with (self.directory / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path})

    def running(self) -> dict[str, list[int]]:
        """By Instance, the pids of its command, by the environment of this machine's processes."""
        found: dict[str, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if path.joinpath("comm").read_text() == "sleep\n":
                    variables = path.joinpath("environ").read_bytes().split(b"\0")
                    if f"VEIL_NODE={self.node}".encode() in variables:
                        (name,) = [one.decode() for one in variables if one.startswith(b"VEIL_INSTANCE=")]
                        found.setdefault(name.removeprefix("VEIL_INSTANCE="), []).append(int(path.name))
        assert not any(len(pids) > 1 for pids in found.values()), f"something runs twice: {found}"
        return found

    async def kill(self, what: str) -> None:
        if what == "agent":
            self.agent.kill()
            self.agent.wait()
        elif what == "containerd":
            daemon = self.private.process
            assert daemon is not None
            daemon.send(signal.SIGKILL)
            await daemon.wait_gone()
        elif what == "init":
            for pid in self.running().get(self.names[1], ()):
                os.kill(pid, signal.SIGKILL)
        else:
            number_2 = next(iter(desired(2))).text
            for shim in self.private._shims():
                with contextlib.suppress(psutil.Error):
                    if any(number_2 in word for word in psutil.Process(shim.pid).cmdline()):
                        shim.send(signal.SIGKILL)

    async def settled(self) -> dict[str, list[int]]:
        """Once everything wanted runs, and has for a second."""
        deadline_s, right_s = time.monotonic() + SETTLE_S, 0.0
        while right_s < 1.0:
            assert time.monotonic() < deadline_s, (self.running(), (self.directory / "agent.log").read_text()[-3000:])
            await asyncio.sleep(0.1)
            found = self.running()
            right_s = right_s + 0.1 if set(found) == set(self.names.values()) else 0.0
        return found

    async def run(self, order: tuple[str, ...]) -> Counter[str]:
        """Kill in that order, with a moment or none between, and start again what is started by hand."""
        before = await self.settled()
        for what in order:
            await self.kill(what)
            await asyncio.sleep(self.random.choice([0.0, 0.05, 0.4]))
            self.running()
        for what in self.random.sample(("agent", "containerd"), 2):
            if what == "agent":
                self.start_agent()
            else:
                await self.private.start()
        after = await self.settled()
        same = Counter(name for name, pids in after.items() if pids == before[name])
        assert set(same) >= {self.names[number] for number in range(3, COUNT + 1)}, "what nobody killed was started again"
        assert not same & Counter({self.names[1]: 1}), "its first process was killed"
        return same


@pytest.fixture
def killed(private: PrivateContainerd, tmp_path: Path) -> Killed:
    return Killed(private, tmp_path, SEED)


async def test_whatever_is_killed_in_whatever_order(killed: Killed, archive: Path) -> None:
    print(f"SOAK_RUNTIME_SEED={SEED}")
    runtime = connect(killed.private)
    await runtime.start_driver()
    await runtime.import_image(BUSYBOX_IMAGE, archive)
    orders = list(itertools.permutations(("agent", "containerd", "shim", "init")))
    killed.start_agent()
    try:
        for order in killed.random.sample(orders, ORDERS):
            print(" → ".join(order))
            await killed.run(order)
            killed.agent.kill()
            killed.agent.wait()
            forget_restarts(killed.directory / "journal.db")
            killed.start_agent()
    finally:
        killed.agent.kill()
        killed.agent.wait()
        await killed.private.start()
        for view in await runtime.list():
            await runtime.delete(view.id)
        await runtime.close()


def forget_restarts(journal: Path) -> None:
    """Or the third order would rightly wait for a back-off."""
    with contextlib.closing(sqlite3.connect(journal)) as database, database:
        database.execute("DELETE FROM restarts")

"""An agent on a private containerd, for the tests of this directory."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from veil.agent.agent import Agent
from veil.agent.keys import DesiredInstance, InstanceKey
from veil.agent.networks import networks_in
from veil.agent.volumes import Volumes
from veil.runtime.containerd import ContainerdRuntime
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.ports import ContainerState
from veil.store.journal import Journal
from veil.types import Generation, ObjectId, SystemClock
from veil.wire.objects import ContainerResources, Resources

PLUGINS = Path("/usr/lib/cni")


def node_of(directory: Path) -> str:
    """The name of the node of one test alone, however many run on the machine."""
    return "n-" + hashlib.sha256(bytes(directory)).hexdigest()[:16]


def connect(private: PrivateContainerd) -> ContainerdRuntime:
    return ContainerdRuntime(
        private.socket,
        namespace="agent",
        snapshotter=private.snapshotter,
        runc_root=private.runc_root,
        cgroup_parent=private.cgroup_parent,
    )


class Machine:
    """An agent on a namespace of its own."""

    def __init__(self, private: PrivateContainerd, directory: Path) -> None:
        self.private = private
        self.directory = directory
        self.node = node_of(directory)
        self.subnet = IPv4Network(f"10.63.{int(self.node[2:4], 16)}.0/24")
        self.runtime = connect(private)
        self.networks = networks_in(directory / "networks", subnet=self.subnet, plugins=PLUGINS)
        self.journal = Journal(directory / "journal.db")
        self.agent = self.new_agent()

    def new_agent(self) -> Agent:
        return Agent(
            self.runtime,
            self.journal,
            SystemClock(),
            self.directory / "logs",
            lambda key, status: None,
            node=self.node,
            volumes=Volumes(self.directory / "volumes", host_paths=[self.directory / "shared"]),
            networks=self.networks,
        )

    async def pids(self) -> dict[str, int]:
        return {view.id: view.pid for view in await self.runtime.list() if view.state is ContainerState.RUNNING}

    async def said(self, key: InstanceKey, lines: int) -> list[str]:
        """What the Instance said, once it is so many lines: its output takes a moment to get into the file."""
        async with asyncio.timeout(10):
            while True:
                text = b"".join([piece async for piece in self.agent.logs(key)])
                if text.count(b"\n") >= lines:
                    return text.decode().splitlines()
                await asyncio.sleep(0.02)

    async def until(self, condition: Callable[[dict[str, int]], Any], timeout_s: float = 30.0) -> float:
        began_s = time.monotonic()
        while not condition(pids := await self.pids()):
            assert time.monotonic() - began_s < timeout_s, (pids, self.agent.statuses())
            await asyncio.sleep(0.01)
        return time.monotonic() - began_s


def desired(*numbers: int) -> dict[InstanceKey, DesiredInstance]:
    container = {"name": "main", "image": BUSYBOX_IMAGE, "command": ["sh", "-c", "echo here $VEIL_INSTANCE; exec sleep 1000"]}
    instances = [
        DesiredInstance(
            key=InstanceKey(ObjectId(number.to_bytes(32, "big")), Generation(1), 0),
            namespace="shop",
            workload=f"w{number}",
            spec={"containers": [container], "terminationGracePeriodSeconds": 0},
            resources=Resources(containers={"main": ContainerResources(cpu_milli=50, memory_bytes=32 << 20)}),
        )
        for number in numbers
    ]
    return {one.key: one for one in instances}

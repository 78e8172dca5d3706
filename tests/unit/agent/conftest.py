"""An agent on the fake runtime, in virtual time."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from veil.agent.agent import Agent
from veil.agent.keys import DesiredInstance, InstanceKey, container_id
from veil.agent.networks import Networks
from veil.agent.volumes import Volumes
from veil.errors import VeilError
from veil.runtime.cni import Attachment, Bridge
from veil.runtime.fake import FakeMachine, FakeRuntime
from veil.runtime.ports import Container, ContainerSpec, ContainerState, PortMapping
from veil.store.journal import RestartRow
from veil.types import Generation, ObjectId
from veil.wire.objects import ContainerResources, Resources
from veil.wire.rounds import InstanceStatus

EPOCH_S = 1_700_000_000.0


class LoopClock:
    """The event loop's time, which looptime moves."""

    jump_s = 0.0
    """By how much the wall clock was set forward; back, when it is negative."""

    def now_s(self) -> float:
        return EPOCH_S + self.jump_s + asyncio.get_running_loop().time()

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


class SeededRandom:
    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class SlowRuntime(FakeRuntime):
    """Every change takes a moment, so that two at once can meet; those that do, on one container, are counted."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(machine)
        self.overlaps: list[str] = []
        self.needless_starts: list[str] = []
        self._busy: set[str] = set()

    async def create(self, spec: ContainerSpec) -> Container:
        with self._alone(spec.id):
            await asyncio.sleep(0.005)
            return await super().create(spec)

    async def start(self, id: str) -> Container:
        with self._alone(id):
            record = self.machine.records.get(id)
            if record is not None and record.view.state is ContainerState.RUNNING:
                self.needless_starts.append(id)
            await asyncio.sleep(0.005)
            return await super().start(id)

    async def stop(self, id: str, *, grace_s: float = 30.0) -> Container:
        with self._alone(id):
            return await super().stop(id, grace_s=grace_s)

    async def delete(self, id: str) -> None:
        with self._alone(id):
            await asyncio.sleep(0.005)
            await super().delete(id)

    @contextlib.contextmanager
    def _alone(self, id: str) -> Iterator[None]:
        if id in self._busy:
            self.overlaps.append(id)
        self._busy.add(id)
        try:
            yield
        finally:
            self._busy.discard(id)


class MemoryRestarts:
    """The journal's table, in memory: outlives an agent, as the journal does."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], RestartRow] = {}

    def get(self, instance: str, container: str) -> RestartRow:
        return self.rows.get((instance, container), RestartRow())

    def put(self, instance: str, container: str, row: RestartRow) -> None:
        self.rows[instance, container] = row

    def forget(self, instance: str) -> None:
        self.rows = {key: row for key, row in self.rows.items() if key[0] != instance}


class MemoryJournal:
    def __init__(self) -> None:
        self.restarts = MemoryRestarts()


def instance_key(number: int, generation: int = 1, replica: int = 0) -> InstanceKey:
    return InstanceKey(ObjectId(number.to_bytes(32, "big")), Generation(generation), replica)


def instance(number: int = 1, *, command: Iterable[str] = ("serve",), generation: int = 1, **template: Any) -> DesiredInstance:
    """A desired Instance with one container, ``main``."""
    container = {"name": "main", "image": "app:1", "command": list(command)}
    return DesiredInstance(
        key=instance_key(number, generation),
        namespace="shop",
        workload=f"w{number}",
        spec={"containers": [container], **template},
        resources=Resources(containers={"main": ContainerResources(cpu_milli=50, memory_bytes=1 << 20)}),
        public=True,
    )


class FakeBridge:
    """What the plugins keep: one address for each that is attached. Attaching twice is refused, as theirs is."""

    def __init__(self) -> None:
        self.attached: dict[str, Sequence[PortMapping]] = {}
        self.fails: VeilError | None = None

    async def attach(self, id: str, namespace: Path, ports: Sequence[PortMapping]) -> Attachment:
        assert namespace.exists()
        assert id not in self.attached
        if self.fails is not None:
            raise self.fails
        self.attached[id] = ports
        return Attachment(address=f"10.0.0.{len(self.attached) + 1}", result={})

    async def detach(self, id: str, namespace: Path | None, ports: Sequence[PortMapping], result: Any) -> None:
        self.attached.pop(id, None)

    async def remove(self) -> None:
        assert not self.attached


class Host:
    """One machine: what survives an agent, and the agent of now."""

    def __init__(self, log_dir: Path) -> None:
        self.machine = FakeMachine(LoopClock())
        self.journal = MemoryJournal()
        self.log_dir = log_dir
        self.heard: list[tuple[InstanceKey, InstanceStatus]] = []
        self.gone: list[InstanceKey] = []
        self.in_memory: list[tuple[Path, int]] = []
        self.unmounted: list[Path] = []
        self.bridge = FakeBridge()
        self.runtime = SlowRuntime(self.machine)
        self.agent = self.new_agent()

    def new_agent(self, node: str = "n1") -> Agent:
        return Agent(
            self.runtime,
            self.journal,
            LoopClock(),
            self.log_dir,
            lambda key, status: self.heard.append((key, status)),
            node=node,
            on_gone=self.gone.append,
            volumes=Volumes(
                self.log_dir.with_name("volumes"),
                host_paths=[self.log_dir.with_name("shared")],
                make_memory=lambda point, size: self.in_memory.append((point, size)),
                unmake_memory=lambda home: self.unmounted.append(home),
            ),
            networks=Networks(
                self.log_dir.with_name("networks"),
                cast(Bridge, self.bridge),
                make_namespace=Path.touch,
                is_made=Path.exists,
                unmake_below=lambda home: None,
            ),
            random=SeededRandom(),
        )

    async def restart_agent(self, node: str = "n1") -> None:
        """As after kill -9: nothing of the old agent is left but the journal and the machine."""
        await self.agent.close()
        self.agent = self.new_agent(node)
        await self.agent.start()

    @staticmethod
    def instance(number: int = 1, **options: Any) -> DesiredInstance:
        return instance(number, **options)

    @staticmethod
    def key(number: int = 1, generation: int = 1) -> InstanceKey:
        return instance_key(number, generation)

    def want(self, *instances: DesiredInstance) -> None:
        self.agent.set_desired({one.key: one for one in instances})

    def status(self, number: int = 1, generation: int = 1) -> InstanceStatus:
        """What was last said; an empty Pending before anything was."""
        return self.agent.statuses().get(instance_key(number, generation), InstanceStatus(phase="Pending"))

    def id(self, number: int = 1, generation: int = 1, container: str = "main") -> str:
        return container_id(instance_key(number, generation), container)

    def running(self) -> set[str]:
        return {id for id, record in self.machine.records.items() if record.view.state is ContainerState.RUNNING}

    def count(self, operation: str, id: str | None = None) -> int:
        return sum(1 for name, of in self.machine.calls if name == operation and id in (None, of))

    async def until(self, condition: Callable[[], bool], timeout_s: float = 1.0) -> float:
        """Wait in virtual time; gives back how long it took."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while not condition():
            if loop.time() - began_s > timeout_s:
                raise AssertionError(f"not within {timeout_s} s of virtual time; {self.agent.statuses()}")
            await asyncio.sleep(max(0.01, timeout_s / 1000))
        return loop.time() - began_s


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path / "logs")
    await made.agent.start()
    yield made
    await made.agent.close()

"""A runtime in memory: for faults and virtual time, which no real runtime gives on demand.

Two objects, as in life: ``FakeMachine`` is what survives (containers, images, event subscribers, the faults a test asks for),
``FakeRuntime`` is a driver that talks to it. A second driver on the same machine adopts the first one's containers. What a
container does is a ``Behaviour`` looked up by its command, so that the one conformance suite runs here too: log files are
really appended to, signals are really ignored, exits are really announced.
"""

import asyncio
import hashlib
import socket
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from veil.errors import ContainerFailed, DeadlineExceeded, ImageUnavailable, NotFound, RuntimeUnavailable, VeilError
from veil.runtime.credentials import Login
from veil.runtime.ids import check_id
from veil.runtime.netns import tcp_socket
from veil.runtime.ports import (
    Container,
    ContainerSpec,
    ContainerState,
    Disk,
    EventKind,
    ExecResult,
    ExecSession,
    Image,
    RuntimeEvent,
    Stats,
)
from veil.runtime.reference import parse_reference
from veil.types import Clock

SIGKILL_CODE = 137
SIGTERM_CODE = 143


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a command does. The default runs until it is told to end."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    """Ends at once with this code; None = goes on."""
    on_sigterm: int | None = SIGTERM_CODE
    """Its exit code on SIGTERM; None = ignores the signal."""
    written_bytes: int = 0
    """What it writes to its root when it starts."""
    fails_to_start: str = ""
    """Not empty: start raises ContainerFailed with this text."""


@dataclass(slots=True)
class _Record:
    spec: ContainerSpec
    view: Container
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class FakeMachine:
    """Everything that outlives a driver, and the levers of a test.

    Levers: ``fail_next``, ``away``/``back``, ``losing_events``, ``finish`` (a process ends by itself), ``forget_end`` (its end
    was not seen), ``oom``, ``behaviours``, ``execs``, ``usage``, ``missing_images``. ``calls`` and ``signals`` say what was
    asked for, in order.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.records: dict[str, _Record] = {}
        self.images: dict[str, str] = {}
        self.missing_images: set[str] = set()
        self.private_images: dict[str, Login] = {}
        """Those that a registry gives to this login alone, whether they are here or not."""
        self.pulled: set[str] = set()
        self.disk_total_bytes, self.disk_used_bytes, self.image_bytes = 100 << 30, 10 << 30, 5 << 30
        self.behaviours: dict[tuple[str, ...], Behaviour] = {}
        self.execs: dict[tuple[str, ...], ExecResult] = {}
        self.sessions: list[tuple[str, tuple[str, ...], bool, FakeSession]] = []
        """What was opened by ``open_exec``: container, command, terminal or not."""
        """Results of exec by command. Others give exit code 0 and no output; a code below 0 never ends."""
        self.usage: dict[str, Stats] = {}
        self.written: dict[str, int] = {}
        """What containers take on the disk."""
        self.losing_events = False
        self.calls: list[tuple[str, str]] = []
        self.signals: list[tuple[str, str]] = []
        self._faults: defaultdict[str, deque[VeilError]] = defaultdict(deque)
        self._away = False
        self._subscribers: list[asyncio.Queue[RuntimeEvent]] = []
        self._next_pid = 1000

    def fail_next(self, operation: str, error: VeilError, *, times: int = 1) -> None:
        """The next ``times`` calls of that method of the driver raise ``error`` and change nothing."""
        self._faults[operation].extend([error] * times)

    def away(self) -> None:
        """The runtime dies: every call raises RuntimeUnavailable, events are lost, containers go on."""
        self._away = True

    def back(self) -> None:
        """The runtime answers again: subscribers are told to list again."""
        self._away = False
        self._publish(RuntimeEvent(kind=EventKind.RESYNC), even_if_losing=True)

    def finish(self, id: str, exit_code: int) -> None:
        """The container's process ends by itself (also while the runtime is away)."""
        record = self.records[id]
        if record.view.state is not ContainerState.RUNNING:
            return
        record.view = replace(record.view, state=ContainerState.EXITED, pid=0, exit_code=exit_code, finished_s=self.clock.now_s())
        record.ended.set()
        self._publish(RuntimeEvent(kind=EventKind.EXITED, id=id, exit_code=exit_code))

    def forget_end(self, id: str) -> None:
        """The process is gone and nobody saw how (its supervisor died): state UNKNOWN, no event."""
        record = self.records[id]
        record.view = replace(record.view, state=ContainerState.UNKNOWN, pid=0)
        record.ended.set()

    def oom(self, id: str) -> None:
        """The kernel kills the container for its memory."""
        self._publish(RuntimeEvent(kind=EventKind.OOM, id=id))
        self.finish(id, SIGKILL_CODE)

    def write(self, id: str, *, stdout: bytes = b"", stderr: bytes = b"") -> None:
        """The container says something."""
        spec = self.records[id].spec
        _append(spec.stdout, stdout)
        _append(spec.stderr, stderr)

    def enter(self, operation: str, id: str = "") -> None:
        """Called by the driver first in each operation: counts it and raises the faults asked for."""
        self.calls.append((operation, id))
        if self._away:
            raise RuntimeUnavailable("the fake runtime is away", hint="call back()")
        if self._faults[operation]:
            raise self._faults[operation].popleft()

    def begin(self, record: _Record, behaviour: Behaviour) -> None:
        self._next_pid += 1
        record.ended = asyncio.Event()
        record.view = replace(
            record.view,
            state=ContainerState.RUNNING,
            pid=self._next_pid,
            exit_code=None,
            started_s=self.clock.now_s(),
            finished_s=0.0,
        )
        if behaviour.written_bytes:
            self.written[record.spec.id] = self.written.get(record.spec.id, 0) + behaviour.written_bytes
            self.disk_used_bytes += behaviour.written_bytes
        self.write(record.spec.id, stdout=behaviour.stdout, stderr=behaviour.stderr)
        self._publish(RuntimeEvent(kind=EventKind.STARTED, id=record.spec.id))
        if behaviour.exit_code is not None:
            self.finish(record.spec.id, behaviour.exit_code)

    def behaviour(self, spec: ContainerSpec) -> Behaviour:
        return self.behaviours.get((*spec.command, *spec.args), Behaviour())

    def subscribe(self) -> asyncio.Queue[RuntimeEvent]:
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._subscribers.append(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[RuntimeEvent]) -> None:
        self._subscribers.remove(queue)

    def _publish(self, event: RuntimeEvent, *, even_if_losing: bool = False) -> None:
        if (self.losing_events or self._away) and not even_if_losing:
            return
        for queue in self._subscribers:
            queue.put_nowait(event)


class FakeRuntime:
    """A driver of a ``FakeMachine``. ``sleep`` is where the grace of stop passes: virtual under a virtual event loop."""

    name = "fake"

    def __init__(self, machine: FakeMachine, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.machine = machine
        self._sleep = sleep

    async def start_driver(self) -> None:
        self.machine.enter("start_driver")

    async def close(self) -> None:
        """Nothing to let go of."""

    async def version(self) -> str:
        self.machine.enter("version")
        return "fake 1"

    async def pull(self, image: str, login: Login | None = None) -> str:
        self.machine.enter("pull", image)
        if image in self.machine.private_images and login != self.machine.private_images[image]:
            raise ImageUnavailable(f"image {image}: wants a login", hint="check it")
        if image in self.machine.missing_images:
            raise ImageUnavailable(f"image {image}: not found", hint="check its name")
        self.machine.pulled.add(image)
        return self.machine.images.setdefault(image, _digest(image.encode()))

    async def images(self) -> list[Image]:
        self.machine.enter("images")
        return [Image(name=str(parse_reference(name)), pulled=name in self.machine.pulled) for name in self.machine.images]

    async def remove_image(self, name: str) -> None:
        self.machine.enter("remove_image", name)
        for known in [known for known in self.machine.images if str(parse_reference(known)) == str(parse_reference(name))]:
            del self.machine.images[known]
            self.machine.pulled.discard(known)
            self.machine.disk_used_bytes -= self.machine.image_bytes

    async def disk(self) -> Disk:
        self.machine.enter("disk")
        return Disk(total_bytes=self.machine.disk_total_bytes, used_bytes=self.machine.disk_used_bytes)

    async def import_image(self, name: str, archive: Path) -> str:
        self.machine.enter("import_image", name)
        self.machine.images[name] = _digest(await asyncio.to_thread(archive.read_bytes))
        return self.machine.images[name]

    async def create(self, spec: ContainerSpec) -> Container:
        self.machine.enter("create", check_id(spec.id))
        if spec.id in self.machine.records:
            return self.machine.records[spec.id].view
        if spec.image not in self.machine.images:
            raise ImageUnavailable(f"container {spec.id}: image {spec.image} is not here", hint="pull it first")
        view = Container(id=spec.id, state=ContainerState.CREATED, image=spec.image, labels=dict(spec.labels))
        self.machine.records[spec.id] = _Record(spec, view)
        return view

    async def start(self, id: str) -> Container:
        self.machine.enter("start", id)
        record = self._record(id)
        if record.view.state is ContainerState.RUNNING:
            return record.view
        behaviour = self.machine.behaviour(record.spec)
        if behaviour.fails_to_start:
            raise ContainerFailed(f"container {id}: {behaviour.fails_to_start}", hint="check the command")
        self.machine.begin(record, behaviour)
        return record.view

    async def stop(self, id: str, *, grace_s: float = 30.0) -> Container:
        self.machine.enter("stop", id)
        record = self._record(id)
        if record.view.state is not ContainerState.RUNNING:
            return record.view
        self.machine.signals.append((id, "TERM"))
        code = self.machine.behaviour(record.spec).on_sigterm
        if code is not None:
            self.machine.finish(id, code)
            return record.view
        grace = asyncio.ensure_future(self._sleep(grace_s))
        ended = asyncio.ensure_future(record.ended.wait())
        await asyncio.wait((grace, ended), return_when=asyncio.FIRST_COMPLETED)
        grace.cancel()
        ended.cancel()
        if record.view.state is ContainerState.RUNNING:
            self._kill(id)
        return record.view

    async def delete(self, id: str) -> None:
        self.machine.enter("delete", id)
        record = self.machine.records.get(id)
        if record is None:
            return
        if record.view.state is ContainerState.RUNNING:
            self._kill(id)
        del self.machine.records[id]
        self.machine.disk_used_bytes -= self.machine.written.pop(id, 0)

    async def exec(
        self, id: str, command: Sequence[str], *, timeout_s: float = 60.0, max_output_bytes: int = 1 << 20
    ) -> ExecResult:
        self.machine.enter("exec", id)
        if self._record(id).view.state is not ContainerState.RUNNING:
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        result = self.machine.execs.get(tuple(command), ExecResult(exit_code=0, output=b""))
        if result.exit_code < 0:
            await self._sleep(timeout_s)
            raise DeadlineExceeded(f"container {id}: {command[0]} did not end within {timeout_s} s")
        return ExecResult(exit_code=result.exit_code, output=result.output[:max_output_bytes])

    async def open_exec(self, id: str, command: Sequence[str], *, tty: bool = False) -> ExecSession:
        """A command that gives its input back, upper case, and ends with 7 when the input ends."""
        self.machine.enter("open_exec", id)
        if self._record(id).view.state is not ContainerState.RUNNING:
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        session = FakeSession()
        self.machine.sessions.append((id, tuple(command), tty, session))
        return session

    async def open_socket(self, id: str) -> socket.socket:
        """A fake container has no network: the socket is in the machine's."""
        self.machine.enter("open_socket", id)
        if self._record(id).view.state is not ContainerState.RUNNING:
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        return tcp_socket()

    async def state(self, id: str) -> Container:
        self.machine.enter("state", id)
        return self._record(id).view

    async def list(self) -> list[Container]:
        self.machine.enter("list")
        return [record.view for record in self.machine.records.values()]

    async def stats(self, id: str) -> Stats:
        self.machine.enter("stats", id)
        if self._record(id).view.state is not ContainerState.RUNNING:
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        return self.machine.usage.get(id, Stats(cpu_seconds=0.01, memory_bytes=1 << 20, pids=1))

    async def written(self, id: str) -> int:
        self.machine.enter("written", id)
        self._record(id)
        return self.machine.written.get(id, 0)

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        queue = self.machine.subscribe()
        try:
            yield RuntimeEvent(kind=EventKind.RESYNC)
            while True:
                yield await queue.get()
        finally:
            self.machine.unsubscribe(queue)

    async def update(self, id: str, *, cpu_milli: int = 0, memory_bytes: int = 0, pids: int = 0) -> None:
        self.machine.enter("update", id)
        record = self._record(id)
        old = record.spec
        record.spec = replace(
            old,
            cpu_milli=cpu_milli or old.cpu_milli,
            memory_bytes=memory_bytes or old.memory_bytes,
            pids=pids or old.pids,
        )

    def _record(self, id: str) -> _Record:
        record = self.machine.records.get(id)
        if record is None:
            raise NotFound(f"no container {id}", hint="create it first")
        return record

    def _kill(self, id: str) -> None:
        self.machine.signals.append((id, "KILL"))
        self.machine.finish(id, SIGKILL_CODE)


class FakeSession:
    """Implements ExecSession: gives its input back in upper case, and ends with 7 when the input ends."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.closed = False
        self._pieces: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def write(self, data: bytes) -> None:
        if not self._code.done():
            self._pieces.put_nowait((1, data.upper()))

    async def end_input(self) -> None:
        self._end(7)

    async def read(self) -> tuple[int, bytes] | None:
        piece = await self._pieces.get()
        if piece is None:
            self._pieces.put_nowait(None)
        return piece

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    async def close(self) -> None:
        self.closed = True
        self._end(SIGKILL_CODE)

    def _end(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)
            self._pieces.put_nowait(None)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()

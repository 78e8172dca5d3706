"""One suite for every driver: what the port promises, none may do otherwise. Skips say why a driver cannot run here."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from veil.errors import ContainerFailed, DeadlineExceeded, ImageUnavailable, LimitExceeded, NotFound, VeilError
from veil.runtime.fake import Behaviour, FakeMachine, FakeRuntime
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.ports import Container, ContainerSpec, ContainerState, EventKind, ExecResult, Runtime, RuntimeEvent
from veil.runtime.process import ProcessRuntime
from veil.types import SystemClock

pytestmark = pytest.mark.runtime

T = TypeVar("T")
TERM_LOOP = "while :; do sleep 0.05; done"
SCRIPTS: dict[str, Behaviour] = {
    f"trap 'exit 143' TERM; {TERM_LOOP}": Behaviour(),
    "exit 0": Behaviour(exit_code=0),
    "head -c 3000000 /dev/zero > big; sync": Behaviour(exit_code=0, written_bytes=3_000_000),
    "exit 3": Behaviour(exit_code=3),
    "sh -c 'kill -9 $$'; exit $?": Behaviour(exit_code=137),
    "echo out; echo err >&2": Behaviour(stdout=b"out\n", stderr=b"err\n", exit_code=0),
    f"trap 'exit 7' TERM; echo up; {TERM_LOOP}": Behaviour(stdout=b"up\n", on_sigterm=7),
    f"trap '' TERM; echo up; {TERM_LOOP}": Behaviour(stdout=b"up\n", on_sigterm=None),
}
FOREVER, OK, WRITE, THREE, KILLED, TALK, POLITE, DEAF = SCRIPTS
EXECS = {
    ("sh", "-c", "echo in; echo err >&2; exit 4"): ExecResult(exit_code=4, output=b"in\nerr\n"),
    ("sh", "-c", "head -c 100000 /dev/zero"): ExecResult(exit_code=0, output=bytes(100000)),
    ("sleep", "600"): ExecResult(exit_code=-1, output=b""),
}
TALKING_EXEC, LOUD_EXEC, ENDLESS_EXEC = EXECS


@dataclass(frozen=True)
class Bench:
    """A driver under test: ``connect`` gives a new driver object on the same machine."""

    connect: Callable[[], Runtime]
    runtime: Runtime
    directory: Path

    def spec(self, id: str, script: str = FOREVER, **changes: object) -> ContainerSpec:
        plain = ContainerSpec(
            id=id,
            image=BUSYBOX_IMAGE,
            command=("sh", "-c", script),
            stdout=self.directory / f"{id}.out",
            stderr=self.directory / f"{id}.err",
        )
        return replace(plain, **changes)  # type: ignore[arg-type]

    async def run(self, id: str, script: str = FOREVER, **changes: object) -> Container:
        await self.runtime.create(self.spec(id, script, **changes))
        return await self.runtime.start(id)

    async def ended(self, id: str) -> Container:
        async def check() -> Container | None:
            view = await self.runtime.state(id)
            return view if view.state is not ContainerState.RUNNING else None

        return await eventually(check)

    async def said(self, id: str, line: str) -> None:
        async def check() -> bool:
            return line in (self.directory / f"{id}.out").read_text()

        await eventually(check)


async def eventually(check: Callable[[], Awaitable[T | None]], timeout_s: float = 10.0) -> T:
    async with asyncio.timeout(timeout_s):
        while not (found := await check()):
            await asyncio.sleep(0.01)
    return found


def _fake() -> Callable[[], Runtime]:
    machine = FakeMachine(SystemClock())
    machine.behaviours = {("sh", "-c", script): behaviour for script, behaviour in SCRIPTS.items()}
    machine.behaviours["no-such-program",] = Behaviour(fails_to_start="not found")
    machine.execs = dict(EXECS)
    machine.missing_images.add("127.0.0.1:1/none:1")
    return lambda: FakeRuntime(machine)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(params=["fake", "process", "containerd", "docker"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Runtime]:
    if request.param == "fake":
        return _fake()
    if request.param == "process":
        return lambda: ProcessRuntime(tmp_path / "process")
    found: Callable[[], Runtime] = request.getfixturevalue(f"connect_{request.param}")
    return found


@pytest.fixture
async def bench(connect: Callable[[], Runtime], tmp_path: Path, archive: Path) -> AsyncIterator[Bench]:
    runtime = connect()
    await runtime.start_driver()
    await runtime.import_image(BUSYBOX_IMAGE, archive)
    try:
        yield Bench(connect, runtime, tmp_path)
    finally:
        for container in await runtime.list():
            await runtime.delete(container.id)
        await runtime.close()


async def collect(runtime: Runtime, into: list[RuntimeEvent], subscribed: asyncio.Event) -> None:
    async for event in runtime.events():
        into.append(event)
        subscribed.set()


@contextlib.asynccontextmanager
async def watching(runtime: Runtime) -> AsyncIterator[list[RuntimeEvent]]:
    seen: list[RuntimeEvent] = []
    subscribed = asyncio.Event()
    task = asyncio.create_task(collect(runtime, seen, subscribed))
    async with asyncio.timeout(5):
        await subscribed.wait()
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_life_cycle(bench: Bench) -> None:
    runtime = bench.runtime
    created = await runtime.create(bench.spec("life"))
    assert (created.state, created.pid, created.exit_code) == (ContainerState.CREATED, 0, None)
    started = await runtime.start("life")
    assert started.state is ContainerState.RUNNING
    assert started.pid > 0
    assert started.started_s > 1e9
    stopped = await runtime.stop("life", grace_s=5)
    assert (stopped.state, stopped.exit_code, stopped.pid) == (ContainerState.EXITED, 143, 0)
    assert stopped.finished_s >= started.started_s - 0.02
    await runtime.delete("life")
    with pytest.raises(NotFound):
        await runtime.state("life")


async def test_repeating_changes_nothing(bench: Bench) -> None:
    runtime = bench.runtime
    first = await bench.run("again")
    assert (await runtime.create(bench.spec("again", OK))).state is ContainerState.RUNNING
    assert (await runtime.start("again")).pid == first.pid
    stopped = await runtime.stop("again", grace_s=5)
    assert await runtime.stop("again", grace_s=5) == stopped
    await runtime.delete("again")
    await runtime.delete("again")
    await runtime.delete("never-was")


@pytest.mark.parametrize(("script", "code"), [(OK, 0), (THREE, 3), (KILLED, 137)])
async def test_exit_codes(bench: Bench, script: str, code: int) -> None:
    await bench.run("code", script)
    view = await bench.ended("code")
    assert (view.state, view.exit_code) == (ContainerState.EXITED, code)
    assert view.finished_s > 1e9


async def test_logs_are_separate_and_appended(bench: Bench) -> None:
    spec = bench.spec("logs", TALK)
    spec.stdout.write_text("before\n")
    for _ in range(2):
        await bench.run("logs", TALK)
        await bench.ended("logs")
    assert spec.stdout.read_text() == "before\nout\nout\n"
    assert spec.stderr.read_text() == "err\nerr\n"


async def test_exec(bench: Bench) -> None:
    await bench.run("exec")
    result = await bench.runtime.exec("exec", TALKING_EXEC)
    assert result.exit_code == 4
    assert sorted(result.output.splitlines()) == [b"err", b"in"]


async def test_exec_output_is_bounded(bench: Bench) -> None:
    await bench.run("loud")
    result = await bench.runtime.exec("loud", LOUD_EXEC, max_output_bytes=1000)
    assert (result.exit_code, len(result.output)) == (0, 1000)


async def test_exec_has_a_deadline(bench: Bench) -> None:
    await bench.run("slow")
    with pytest.raises(DeadlineExceeded):
        await bench.runtime.exec("slow", ENDLESS_EXEC, timeout_s=0.3)
    assert (await bench.runtime.state("slow")).state is ContainerState.RUNNING


async def test_exec_needs_a_running_container(bench: Bench) -> None:
    await bench.runtime.create(bench.spec("idle"))
    with pytest.raises(ContainerFailed):
        await bench.runtime.exec("idle", TALKING_EXEC)


async def test_a_command_to_speak_with(bench: Bench) -> None:
    await bench.run("talk")
    if bench.runtime.name == "process":
        with pytest.raises(ContainerFailed):
            await bench.runtime.open_exec("talk", ["cat"])
        pytest.skip(f"{bench.runtime.name} has no commands to speak with")
    session = await bench.runtime.open_exec("talk", ["sh", "-c", "tr a-z A-Z; exit 7"])
    for word in (b"one\n", b"two\n" * 50_000):
        await session.write(word)
    await session.end_input()
    said = b""
    while (piece := await session.read()) is not None:
        assert piece[0] == 1
        said += piece[1]
    assert said == b"ONE\n" + b"TWO\n" * 50_000
    assert await session.wait() == 7
    await session.write(b"too late")
    await session.close()
    with pytest.raises(NotFound):
        await bench.runtime.open_exec("never-was", ["cat"])


async def test_a_socket_is_in_the_containers_network(bench: Bench, unused_port: int) -> None:
    if bench.runtime.name == "fake":
        pytest.skip("a fake container listens to nothing")
    await bench.run("a", f"busybox nc -l -p {unused_port} -e true; exit 9")

    async def connected() -> bool:
        made = await bench.runtime.open_socket("a")
        with made, contextlib.suppress(ConnectionRefusedError):
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", unused_port))
            return True
        return False

    await eventually(connected)
    assert (await bench.ended("a")).exit_code == 9
    with socket.socket() as ours, pytest.raises(ConnectionRefusedError):
        ours.connect(("127.0.0.1", unused_port))


async def test_a_socket_needs_a_running_container(bench: Bench) -> None:
    await bench.runtime.create(bench.spec("a"))
    with pytest.raises(ContainerFailed):
        await bench.runtime.open_socket("a")
    with pytest.raises(NotFound):
        await bench.runtime.open_socket("none")


async def test_stop_gives_the_time_to_say_goodbye(bench: Bench) -> None:
    await bench.run("polite", POLITE)
    await bench.said("polite", "up")
    assert (await bench.runtime.stop("polite", grace_s=5)).exit_code == 7


async def test_stop_kills_who_ignores_sigterm(bench: Bench) -> None:
    await bench.run("deaf", DEAF)
    await bench.said("deaf", "up")
    before = asyncio.get_running_loop().time()
    assert (await bench.runtime.stop("deaf", grace_s=0.4)).exit_code == 137
    assert asyncio.get_running_loop().time() - before >= 0.4


async def test_restart_in_place(bench: Bench) -> None:
    runtime = bench.runtime
    first = await bench.run("restart")
    await runtime.stop("restart", grace_s=5)
    second = await runtime.start("restart")
    assert second.state is ContainerState.RUNNING
    assert second.pid != first.pid
    assert second.exit_code is None
    assert (await runtime.state("restart")).started_s >= first.started_s


async def test_delete_kills(bench: Bench) -> None:
    await bench.run("doomed", DEAF)
    await bench.runtime.delete("doomed")
    assert await bench.runtime.list() == []


async def test_list_gives_labels_back(bench: Bench) -> None:
    await bench.runtime.create(bench.spec("one", labels={"veil.dev/instance": "a", "empty": ""}))
    await bench.run("two", THREE, labels={"x": "y"})
    await bench.ended("two")
    found = {view.id: view for view in await bench.runtime.list()}
    assert set(found) == {"one", "two"}
    assert dict(found["one"].labels) == {"veil.dev/instance": "a", "empty": ""}
    assert dict(found["two"].labels) == {"x": "y"}
    assert (found["two"].state, found["two"].exit_code) == (ContainerState.EXITED, 3)


async def test_events_begin_with_a_resync(bench: Bench) -> None:
    async with watching(bench.runtime) as seen:
        await bench.run("event", THREE)
        await bench.ended("event")

        async def check() -> bool:
            return len(seen) >= 3

        await eventually(check)
    assert seen[0] == RuntimeEvent(kind=EventKind.RESYNC)
    assert set(seen[1:]) == {
        RuntimeEvent(kind=EventKind.STARTED, id="event"),
        RuntimeEvent(kind=EventKind.EXITED, id="event", exit_code=3),
    }


async def test_an_exec_is_no_event(bench: Bench) -> None:
    await bench.run("quiet")
    async with watching(bench.runtime) as seen:
        await bench.runtime.exec("quiet", TALKING_EXEC)
        await bench.runtime.stop("quiet", grace_s=5)

        async def check() -> bool:
            return len(seen) >= 2

        await eventually(check)
    assert seen[1:] == [RuntimeEvent(kind=EventKind.EXITED, id="quiet", exit_code=143)]


async def test_a_second_driver_adopts(bench: Bench) -> None:
    first = await bench.run("heir", POLITE, labels={"k": "v"})
    await bench.said("heir", "up")
    await bench.runtime.close()
    second = bench.connect()
    await second.start_driver()
    try:
        (found,) = await second.list()
        assert (found.id, found.pid, found.state, dict(found.labels)) == ("heir", first.pid, first.state, {"k": "v"})
        assert abs(found.started_s - first.started_s) < 0.05
        async with watching(second) as seen:
            assert (await second.stop("heir", grace_s=5)).exit_code == 7

            async def check() -> bool:
                return len(seen) >= 2

            await eventually(check)
        assert seen[1] == RuntimeEvent(kind=EventKind.EXITED, id="heir", exit_code=7)
        await second.delete("heir")
    finally:
        await second.close()
        await bench.runtime.start_driver()


async def test_stats(bench: Bench) -> None:
    await bench.run("usage", "while :; do :; done" if bench.runtime.name != "fake" else FOREVER)

    async def check() -> bool:
        return (await bench.runtime.stats("usage")).cpu_seconds > 0

    await eventually(check)
    stats = await bench.runtime.stats("usage")
    assert 0 < stats.memory_bytes < 1 << 28
    assert stats.pids >= 1
    await bench.runtime.stop("usage", grace_s=0)
    with pytest.raises(ContainerFailed):
        await bench.runtime.stats("usage")


async def test_update_of_a_running_container(bench: Bench) -> None:
    await bench.run("limits", memory_bytes=64 << 20, cpu_milli=100)
    try:
        await bench.runtime.update("limits", memory_bytes=128 << 20)
    except ContainerFailed as error:
        if "podman 4" not in error.message:
            raise
        pytest.skip("podman 4 changes no limits of containers")
    assert (await bench.runtime.state("limits")).state is ContainerState.RUNNING


async def test_what_is_not_there(bench: Bench) -> None:
    runtime = bench.runtime
    for operation in (runtime.start("gone"), runtime.stop("gone"), runtime.stats("gone"), runtime.exec("gone", ["true"])):
        with pytest.raises(NotFound):
            await operation


async def test_a_command_that_is_no_program(bench: Bench) -> None:
    await bench.runtime.create(bench.spec("typo", command=("no-such-program",)))
    with pytest.raises(ContainerFailed) as caught:
        await bench.runtime.start("typo")
    assert caught.value.hint
    assert (await bench.runtime.state("typo")).state is ContainerState.CREATED


async def test_ids_are_checked(bench: Bench) -> None:
    for id in ("../escape", "", "a" * 77, "a b"):
        with pytest.raises(LimitExceeded):
            await bench.runtime.create(bench.spec(id))


async def test_image_that_is_not_here(bench: Bench) -> None:
    if bench.runtime.name == "process":
        pytest.skip("plain processes ignore images")
    with pytest.raises(ImageUnavailable):
        await bench.runtime.pull("127.0.0.1:1/none:1")
    with pytest.raises(ImageUnavailable):
        await bench.runtime.create(bench.spec("no-image", image="veil.dev/other:1"))


async def test_what_a_container_writes_is_measured(bench: Bench) -> None:
    await bench.runtime.create(bench.spec("writes", WRITE))
    before = await bench.runtime.written("writes")
    assert before < 1 << 20
    await bench.runtime.start("writes")
    assert (await bench.ended("writes")).exit_code == 0
    assert 3_000_000 <= await bench.runtime.written("writes") < 4_000_000
    await bench.runtime.delete("writes")
    with pytest.raises(NotFound):
        await bench.runtime.written("writes")


async def test_many_at_once(bench: Bench) -> None:
    ids = [f"many-{i}" for i in range(6)]
    await asyncio.gather(*(bench.run(id) for id in ids))
    assert {view.id for view in await bench.runtime.list() if view.state is ContainerState.RUNNING} == set(ids)
    await asyncio.gather(*(bench.runtime.delete(id) for id in ids))
    assert await bench.runtime.list() == []


async def test_version(bench: Bench) -> None:
    assert (await bench.runtime.version()).startswith(bench.runtime.name)


def test_errors_of_the_port_are_the_houses() -> None:
    for error in (NotFound, ContainerFailed, ImageUnavailable, DeadlineExceeded):
        assert issubclass(error, VeilError)

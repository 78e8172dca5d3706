"""Commands with a terminal in a real container: sizes, signals, the end."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from veil.errors import ContainerFailed
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.ports import ContainerSpec, ContainerState, ExecSession, Runtime

pytestmark = [pytest.mark.runtime, pytest.mark.timeout(60)]


@pytest.fixture(params=["containerd", "docker"])
def connect(request: pytest.FixtureRequest) -> Callable[[], Runtime]:
    found: Callable[[], Runtime] = request.getfixturevalue(f"connect_{request.param}")
    return found


@pytest.fixture
async def runtime(connect: Callable[[], Runtime], archive: Path, tmp_path: Path) -> AsyncIterator[Runtime]:
    one = connect()
    await one.start_driver()
    await one.import_image(BUSYBOX_IMAGE, archive)
    logs = {"stdout": tmp_path / "out", "stderr": tmp_path / "err"}
    await one.create(ContainerSpec(id="there", image=BUSYBOX_IMAGE, command=("sleep", "600"), **logs))
    await one.start("there")
    yield one
    await one.delete("there")
    await one.close()


async def until(session: ExecSession, wanted: bytes) -> bytes:
    said = b""
    async with asyncio.timeout(15):
        while wanted not in said:
            piece = await session.read()
            assert piece is not None, said
            said += piece[1]
    return said


async def rest(session: ExecSession) -> list[tuple[int, bytes]]:
    pieces = []
    async with asyncio.timeout(15):
        while (piece := await session.read()) is not None:
            pieces.append(piece)
    return pieces


async def test_a_terminal_has_a_size_and_an_echo(runtime: Runtime) -> None:
    session = await runtime.open_exec("there", ["sh"], tty=True)
    await session.resize(101, 37)
    await session.write(b"stty size; test -t 0 && echo is a $((6 * 7)) terminal $TERM\n")
    said = await until(session, b"is a 42 terminal xterm")
    assert b"37 101" in said
    await session.resize(80, 24)
    await session.write(b"stty size\n")
    await until(session, b"24 80")
    await session.write(b"sleep 60\n")
    await until(session, b"sleep 60")
    await asyncio.sleep(0.2)
    await session.write(b"\x03")
    await session.write(b"exit 5\n")
    await rest(session)
    assert await session.wait() == 5
    await session.close()


async def test_without_a_terminal_streams_are_apart(runtime: Runtime) -> None:
    session = await runtime.open_exec("there", ["sh", "-c", "echo out; echo err >&2; exit 3"])
    pieces = await rest(session)
    assert (
        b"".join(data for stream, data in pieces if stream == 1),
        b"".join(data for stream, data in pieces if stream == 2),
    ) == (
        b"out\n",
        b"err\n",
    )
    assert await session.wait() == 3
    await session.close()


async def test_closing_kills_the_command_and_leaves_nothing(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    session = await runtime.open_exec("there", ["sleep", "611"], tty=True)
    await session.close()
    assert await session.wait() == 137
    assert (await runtime.state("there")).state is ContainerState.RUNNING
    found = await runtime.exec("there", ["sh", "-c", "ps | grep -c '[s]leep 611'"])
    assert found.output.strip() == b"0"
    assert not list(tmp_path.glob("exec-*"))


async def test_what_is_no_program_is_said(runtime: Runtime) -> None:
    with pytest.raises(ContainerFailed, match="no-such-program"):
        await runtime.open_exec("there", ["no-such-program"], tty=True)


async def test_output_that_nobody_reads_waits(runtime: Runtime) -> None:
    """A flood does not fill this process's memory; it goes on when somebody reads."""
    session = await runtime.open_exec("there", ["sh", "-c", "head -c 3000000 /dev/zero"])
    await asyncio.sleep(0.5)
    assert sum(len(data) for _, data in await rest(session)) == 3_000_000
    assert await session.wait() == 0
    await session.close()

"""Log files: the end of them, following them, rotating them."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from veil.agent import logs as module
from veil.agent.logs import LOG_FILES_MAX, LOG_MAX_BYTES, Logs, rotate
from veil.errors import InvalidInput, NotFound

NOW = 1_700_000_000.0


class StillClock:
    def now_s(self) -> float:
        return NOW

    def monotonic_s(self) -> float:
        return 0.0


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    made = Logs(tmp_path, StillClock())
    made.prepare("i", "web")
    return made


def write(logs: Logs, data: bytes, stream: str = "stdout") -> Path:
    path = logs.paths.stream("i", "web", stream)
    with path.open("ab") as file:
        file.write(data)
    return path


async def read(logs: Logs, **options: Any) -> bytes:
    return b"".join([piece async for piece in logs.read("i", "web", **options)])


async def test_both_streams_whole(logs: Logs) -> None:
    write(logs, b"one\ntwo\nhalf")
    write(logs, b"oops\n", "stderr")
    assert await read(logs) == b"one\ntwo\nhalfoops\n"


@pytest.mark.parametrize(
    ("lines", "expected"), [(0, b""), (1, b"c"), (2, b"b\nc"), (3, b"a\nb\nc"), (99, b"a\nb\nc"), (None, b"a\nb\nc")]
)
@pytest.mark.parametrize("ending", [b"", b"\n"])
async def test_the_last_lines(logs: Logs, lines: int | None, expected: bytes, ending: bytes) -> None:
    write(logs, b"a\nb\nc" + ending)
    assert await read(logs, tail_lines=lines) == (expected + ending if expected else b"")


async def test_the_last_lines_of_a_large_file(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKWARD_BYTES", 7)
    text = b"".join(b"line %d\n" % number for number in range(1000))
    write(logs, text)
    assert await read(logs, tail_lines=12) == b"".join(b"line %d\n" % number for number in range(988, 1000))
    assert await read(logs, tail_lines=1000) == text


async def test_since_leaves_out_what_has_been_silent(logs: Logs) -> None:
    old = write(logs, b"old\n")
    os.utime(old, (NOW - 100, NOW - 100))
    fresh = write(logs, b"fresh\n", "stderr")
    os.utime(fresh, (NOW - 5, NOW - 5))
    assert await read(logs, since_s=60) == b"fresh\n"
    assert await read(logs, since_s=200) == b"old\nfresh\n"


async def test_follow_gives_whole_lines_as_they_come_and_the_rest_at_the_end(logs: Logs) -> None:
    alive = True
    write(logs, b"one\ntw")
    pieces = logs.read("i", "web", follow=True, alive=lambda: alive)
    assert await anext(pieces) == b"one\n"
    write(logs, b"o\n")
    began = asyncio.get_running_loop().time()
    assert await anext(pieces) == b"two\n"
    assert asyncio.get_running_loop().time() - began < 0.5
    write(logs, b"err\n", "stderr")
    assert await anext(pieces) == b"err\n"
    write(logs, b"last words")
    alive = False
    assert [piece async for piece in pieces] == [b"last words"]


async def test_follow_goes_on_after_a_rotation(logs: Logs) -> None:
    alive = True
    path = write(logs, b"before\n")
    pieces = logs.read("i", "web", follow=True, alive=lambda: alive)
    assert await anext(pieces) == b"before\n"
    rotate(path)
    write(logs, b"x\n")
    assert await anext(pieces) == b"x\n"
    alive = False
    assert [piece async for piece in pieces] == []


def test_a_writer_goes_on_through_rotations_and_five_files_are_kept(logs: Logs) -> None:
    path = logs.paths.stream("i", "web", "stdout")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(8):
        os.write(descriptor, b"%d\n" % number)
        rotate(path)
    os.write(descriptor, b"8\n")
    os.close(descriptor)
    kept = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    expected = {"stdout.log": b"8\n"} | {f"stdout.log.{number}": b"%d\n" % (8 - number) for number in range(1, LOG_FILES_MAX)}
    assert kept == expected


def test_only_large_files_are_rotated(logs: Logs) -> None:
    large, small = write(logs, b""), write(logs, b"x", "stderr")
    os.truncate(large, LOG_MAX_BYTES)
    assert logs.rotate() == 0
    os.truncate(large, LOG_MAX_BYTES + 1)
    assert logs.rotate() == 1
    assert (large.stat().st_size, small.stat().st_size) == (0, 1)


def test_which_container(logs: Logs) -> None:
    assert logs.choose("i", "") == logs.choose("i", "web") == "web"
    for wrong in ("other", "../i/web", ".."):
        with pytest.raises(NotFound):
            logs.choose("i", wrong)
    with pytest.raises(NotFound):
        logs.choose("none", "")
    logs.prepare("i", "side")
    with pytest.raises(InvalidInput, match="side, web"):
        logs.choose("i", "")


def test_removal_leaves_nothing(logs: Logs, tmp_path: Path) -> None:
    write(logs, b"x")
    logs.remove("i")
    logs.remove("i")
    assert list(tmp_path.iterdir()) == []

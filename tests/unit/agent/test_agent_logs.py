"""Log files: the end of them, following them, rotating them."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from veil.agent import log_reader as module
from veil.agent import logs as rotating
from veil.agent.log_files import LOG_FILES_MAX
from veil.agent.log_index import index_path, load
from veil.agent.logs import LOG_MAX_BYTES, Logs, rotate
from veil.errors import InvalidInput, NotFound

NOW = 1_700_000_000.0


class HandClock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.s = NOW

    def now_s(self) -> float:
        return self.s

    def monotonic_s(self) -> float:
        return self.s


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def logs(tmp_path: Path, clock: HandClock) -> Logs:
    made = Logs(tmp_path, clock)
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
    monkeypatch.setattr(module, "BACKWARD_BYTES", 7)
    text = b"".join(b"line %d\n" % number for number in range(1000))
    write(logs, text)
    assert await read(logs, tail_lines=12) == b"".join(b"line %d\n" % number for number in range(988, 1000))
    assert await read(logs, tail_lines=1000) == text


def write_at(logs: Logs, clock: HandClock, after_s: float, data: bytes, stream: str = "stdout") -> None:
    """As if it was written then, and the agent looked at once."""
    clock.s = NOW + after_s
    write(logs, data, stream)
    logs.observe(clock.s)


async def test_since_goes_by_line(logs: Logs, clock: HandClock) -> None:
    for after_s in range(0, 100, 10):
        write_at(logs, clock, after_s, b"%d\n" % after_s)
        write_at(logs, clock, after_s, b"e%d\n" % after_s, "stderr")
    assert await read(logs, since_s=25) == b"70\n80\n90\ne70\ne80\ne90\n"
    assert await read(logs, since_s=25, tail_lines=1) == b"90\ne90\n"
    assert await read(logs, since_s=0) == b"90\ne90\n"
    assert (await read(logs, since_s=1000)).count(b"\n") == 20
    clock.s += 60
    assert await read(logs, since_s=25) == b""
    write(logs, b"not noted yet\n")
    assert await read(logs, since_s=25) == b"not noted yet\n"


async def test_since_begins_with_a_whole_line(logs: Logs, clock: HandClock) -> None:
    write_at(logs, clock, 0, b"one\nbegun early ")
    write_at(logs, clock, 50, b"ended late\nthree\n")
    assert await read(logs, since_s=10) == b"three\n"


async def test_a_clock_that_was_set_back_loses_nothing_new(logs: Logs, clock: HandClock) -> None:
    write_at(logs, clock, 0, b"one\n")
    write_at(logs, clock, -3600, b"two\n")
    assert (await read(logs, since_s=60)).endswith(b"two\n")


async def test_timestamps_are_the_times_of_arrival(logs: Logs, clock: HandClock) -> None:
    write_at(logs, clock, 0, b"one\ntwo\nha")
    write_at(logs, clock, 1.5, b"lf\nfour")
    expected = [
        b"2023-11-14T22:13:20.000000Z one\n",
        b"2023-11-14T22:13:20.000000Z two\n",
        b"2023-11-14T22:13:20.000000Z half\n",
        b"2023-11-14T22:13:21.500000Z four",
    ]
    assert await read(logs, timestamps=True) == b"".join(expected)
    assert await read(logs, timestamps=True, tail_lines=2) == b"".join(expected[2:])


async def test_a_line_longer_than_a_piece_has_one_time(logs: Logs, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 7)
    write_at(logs, clock, 0, b"a" * 20 + b"\r" + b"b" * 20 + b"\nnext\n")
    stamp = b"2023-11-14T22:13:20.000000Z "
    assert await read(logs, timestamps=True) == stamp + b"a" * 20 + b"\r" + b"b" * 20 + b"\n" + stamp + b"next\n"


async def test_what_was_written_without_an_agent_has_the_time_of_the_next_ones_look(logs: Logs, clock: HandClock) -> None:
    write_at(logs, clock, 0, b"one\n")
    write(logs, b"two\n")
    clock.s = NOW + 100
    later = Logs(logs.paths.root, clock)
    later.adopt()
    later.observe(clock.s)
    clock.s = NOW + 200
    later.observe(clock.s)
    expected = b"2023-11-14T22:13:20.000000Z one\n2023-11-14T22:15:00.000000Z two\n"
    assert await read(later, timestamps=True) == expected


async def test_an_index_with_half_a_record_is_mended(logs: Logs, clock: HandClock) -> None:
    write_at(logs, clock, 0, b"one\n")
    index = index_path(logs.paths.stream("i", "web", "stdout"))
    index.write_bytes(index.read_bytes() + b"half")
    later = Logs(logs.paths.root, clock)
    later.prepare("i", "web")
    write_at(later, clock, 5, b"two\n")
    assert [arrival.end for arrival in load(logs.paths.stream("i", "web", "stdout"))] == [4, 8]


async def test_times_go_on_after_a_rotation(logs: Logs, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotating, "LOG_MAX_BYTES", 3)
    write_at(logs, clock, 0, b"before\n")
    assert logs.rotate() == 1
    write_at(logs, clock, 10, b"ab\n")
    before, after = b"2023-11-14T22:13:20.000000Z before\n", b"2023-11-14T22:13:30.000000Z ab\n"
    assert await read(logs, timestamps=True) == before + after
    assert await read(logs, timestamps=True, since_s=5) == after
    clock.s += 1
    assert logs.rotate() == 0
    monkeypatch.setattr(rotating, "LOG_MAX_BYTES", 2)
    assert logs.rotate() == 1
    assert await read(logs, timestamps=True) == before + after


async def test_previous_is_the_run_before(logs: Logs, clock: HandClock) -> None:
    with pytest.raises(NotFound, match="was not started again"):
        await read(logs, previous=True)
    for run in (b"first\n", b"second\n", b"third\n"):
        write_at(logs, clock, 0, run)
        if run != b"third\n":
            logs.put_aside("i", "web")
    assert await read(logs) == b"third\n"
    assert await read(logs, previous=True, follow=True) == b"second\n"
    assert await read(logs, previous=True, timestamps=True) == b"2023-11-14T22:13:20.000000Z second\n"


async def test_a_run_that_said_nothing_has_an_empty_log(logs: Logs) -> None:
    write(logs, b"first\n")
    logs.put_aside("i", "web")
    write(logs, b"")
    logs.put_aside("i", "web")
    assert await read(logs, previous=True) == b""


async def test_a_follower_reads_the_last_words_of_a_run_and_goes_on_with_the_next(logs: Logs) -> None:
    alive = True
    write(logs, b"one\n")
    pieces = logs.read("i", "web", follow=True, alive=lambda: alive)
    assert await anext(pieces) == b"one\n"
    write(logs, b"two\nhalf")
    logs.put_aside("i", "web")
    write(logs, b"three\n")
    assert [await anext(pieces) for _ in range(3)] == [b"two\n", b"half", b"three\n"]
    alive = False
    assert [piece async for piece in pieces] == []


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


def rotated(logs: Logs, clock: HandClock, monkeypatch: pytest.MonkeyPatch, *pieces: bytes) -> None:
    """Each piece in a file of its own, written 10 s after the one before."""
    monkeypatch.setattr(rotating, "LOG_MAX_BYTES", 0)
    for number, piece in enumerate(pieces):
        if number:
            assert logs.rotate() == 1
        write_at(logs, clock, 10 * number, piece)


async def test_rotated_files_are_read_as_one(logs: Logs, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    rotated(logs, clock, monkeypatch, b"a\nb\n", b"c\nd half", b" d\ne\n", b"")
    assert await read(logs) == b"a\nb\nc\nd half d\ne\n"
    expected = [b"", b"e\n", b"d half d\ne\n", b"c\nd half d\ne\n", b"b\nc\nd half d\ne\n", b"a\nb\nc\nd half d\ne\n"]
    assert [await read(logs, tail_lines=lines) for lines in range(6)] == expected
    assert await read(logs, tail_lines=99) == expected[-1]


async def test_since_and_timestamps_reach_into_rotated_files(
    logs: Logs, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated(logs, clock, monkeypatch, b"a\nb\n", b"c\nd half", b" d\ne\n", b"f\n")
    stamps = [b"2023-11-14T22:13:%d.000000Z " % (20 + 10 * number) for number in range(4)]
    whole = [stamps[0] + b"a\n", stamps[0] + b"b\n", stamps[1] + b"c\n", stamps[1] + b"d half d\n"]
    whole += [stamps[2] + b"e\n", stamps[3] + b"f\n"]
    assert await read(logs, timestamps=True) == b"".join(whole)
    assert await read(logs, timestamps=True, since_s=25) == b"".join(whole[2:])
    assert await read(logs, timestamps=True, since_s=15) == b"".join(whole[4:]), "a line counts from its beginning"
    assert await read(logs, since_s=5) == b"f\n"
    assert await read(logs, since_s=25, tail_lines=2) == b"e\nf\n"
    assert await read(logs, since_s=5, tail_lines=4) == b"f\n"
    clock.s += 60
    assert await read(logs, since_s=5) == b""


async def test_the_run_before_has_its_rotated_files(logs: Logs, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    rotated(logs, clock, monkeypatch, b"first a\n", b"first b\n", b"first c\n")
    logs.put_aside("i", "web")
    rotated(logs, clock, monkeypatch, b"second a\n", b"second b\n")
    assert await read(logs) == b"second a\nsecond b\n"
    assert await read(logs, previous=True) == b"first a\nfirst b\nfirst c\n"
    assert await read(logs, previous=True, tail_lines=2) == b"first b\nfirst c\n"
    logs.put_aside("i", "web")
    write(logs, b"third\n")
    assert await read(logs) == b"third\n"
    assert await read(logs, previous=True) == b"second a\nsecond b\n", "nothing of the first is left"


@pytest.mark.parametrize("rotations", [1, 2, 4])
async def test_a_slow_follower_misses_nothing_that_is_kept(
    logs: Logs, clock: HandClock, monkeypatch: pytest.MonkeyPatch, rotations: int
) -> None:
    """However large the file has become again: what it had not read yet is in a file by another name."""
    monkeypatch.setattr(rotating, "LOG_MAX_BYTES", 0)
    alive = True
    write(logs, b"before\n")
    pieces = logs.read("i", "web", follow=True, alive=lambda: alive)
    assert await anext(pieces) == b"before\n"
    said = b""
    for number in range(rotations):
        said += b"%d unread\n" % number
        write(logs, b"%d unread\n" % number)
        assert logs.rotate() == 1
    write(logs, b"x" * 100 + b"\n")
    alive = False
    assert b"".join([piece async for piece in pieces]) == said + b"x" * 100 + b"\n"


async def test_a_follower_that_is_too_slow_goes_on_with_the_oldest_that_is_kept(
    logs: Logs, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating, "LOG_MAX_BYTES", 0)
    alive = True
    write(logs, b"before\n")
    pieces = logs.read("i", "web", follow=True, alive=lambda: alive)
    assert await anext(pieces) == b"before\n"
    for number in range(6):
        write(logs, b"%d\n" % number)
        assert logs.rotate() == 1
    alive = False
    assert b"".join([piece async for piece in pieces]) == b"2\n3\n4\n5\n"


def test_a_writer_goes_on_through_rotations_and_five_files_are_kept(logs: Logs) -> None:
    path = logs.paths.stream("i", "web", "stdout")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(8):
        os.write(descriptor, b"%d\n" % number)
        rotate(path, NOW)
    os.write(descriptor, b"8\n")
    os.close(descriptor)
    kept = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".times"}
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

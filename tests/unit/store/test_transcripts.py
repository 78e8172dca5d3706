"""Transcripts on disk: they come back after a restart, go when their time or room is over, and damaged ones are named."""

import random
import stat
from pathlib import Path

import pytest

from veil.errors import DigestMismatch, LimitExceeded, StorageUnavailable
from veil.store.transcripts import BLOCK_BYTES, TRANSCRIPT_RETENTION_S, TRANSCRIPTS_MAX_BYTES, Transcripts
from veil.types import Digest, RoundId
from veil.wire.rounds import Transcript
from veil.wire.signed import Signed


class Clock:
    def __init__(self) -> None:
        self.s = 1_700_000_000.0

    def now_s(self) -> float:
        return self.s

    def monotonic_s(self) -> float:
        return self.s


def a_round(number: int) -> RoundId:
    return RoundId(number.to_bytes(16, "big"))


def a_transcript(seed: int, size_bytes: int = 100) -> Transcript:
    dice = random.Random(seed)
    signed = Signed(signer=dice.randbytes(32), body=dice.randbytes(20), signature=dice.randbytes(64))
    return Transcript(
        open=signed,
        inputs=signed,
        exclusions=signed,
        evaluation=dice.randbytes(32),
        partials=(signed,),
        result=dice.randbytes(size_bytes),
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> Transcripts:
    return Transcripts(tmp_path / "transcripts", clock)


def test_a_transcript_comes_back_also_after_a_restart(kept: Transcripts, tmp_path: Path, clock: Clock) -> None:
    mine, theirs = a_transcript(1), a_transcript(2)
    kept.keep(a_round(1), "member", mine)
    kept.keep(a_round(1), "coordinator", theirs)
    again = Transcripts(tmp_path / "transcripts", clock)
    for store in (kept, again):
        assert store.find(a_round(1), "member") == mine
        assert store.find(a_round(1), "coordinator") == theirs
        assert store.find(a_round(2), "member") is None
        assert store.find_leaf(Digest(b"l" * 32)) is None
    assert again.total_bytes == kept.total_bytes == 2 * BLOCK_BYTES


def test_files_are_the_owners_alone(kept: Transcripts, tmp_path: Path) -> None:
    kept.keep(a_round(1), "member", a_transcript(1))
    (file,) = (tmp_path / "transcripts").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "transcripts").stat().st_mode) == 0o700


def test_what_is_older_than_the_retention_goes_also_what_was_kept_before_a_restart(
    kept: Transcripts, tmp_path: Path, clock: Clock
) -> None:
    kept.keep(a_round(1), "member", a_transcript(1))
    clock.s += TRANSCRIPT_RETENTION_S - 1
    kept.keep(a_round(2), "member", a_transcript(2))
    kept.prune()
    assert kept.find(a_round(1), "member") is not None
    clock.s += 2
    again = Transcripts(tmp_path / "transcripts", clock)
    again.prune()
    assert again.find(a_round(1), "member") is None
    assert again.find(a_round(2), "member") is not None
    assert len(list((tmp_path / "transcripts").iterdir())) == 1


def test_the_retention_is_that_of_the_policy_of_the_moment(tmp_path: Path, clock: Clock) -> None:
    retention_s = 100.0
    kept = Transcripts(tmp_path, clock, retention_s=lambda: retention_s)
    kept.keep(a_round(1), "member", a_transcript(1))
    clock.s += 50
    kept.prune()
    assert kept.find(a_round(1), "member") is not None
    retention_s = 10.0
    kept.prune()
    assert kept.find(a_round(1), "member") is None


def test_the_oldest_go_when_there_is_no_room(tmp_path: Path, clock: Clock) -> None:
    kept = Transcripts(tmp_path, clock, max_bytes=3 * BLOCK_BYTES)
    for number in range(5):
        clock.s += 1
        kept.keep(a_round(number), "member", a_transcript(number))
        assert kept.total_bytes <= 3 * BLOCK_BYTES
    assert [number for number in range(5) if kept.find(a_round(number), "member")] == [2, 3, 4]
    kept.keep(a_round(9), "member", a_transcript(9, 2 * BLOCK_BYTES))
    assert [number for number in range(10) if kept.find(a_round(number), "member")] == [9]
    with pytest.raises(LimitExceeded, match="TRANSCRIPTS_MAX_BYTES"):
        kept.keep(a_round(10), "member", a_transcript(10, 3 * BLOCK_BYTES))
    assert kept.find(a_round(9), "member") is not None
    assert TRANSCRIPTS_MAX_BYTES == 512 << 20


def test_a_transcript_of_the_same_round_replaces_the_one_before(kept: Transcripts) -> None:
    kept.keep(a_round(1), "coordinator", a_transcript(1))
    kept.keep(a_round(1), "coordinator", a_transcript(2))
    assert kept.find(a_round(1), "coordinator") == a_transcript(2)
    assert kept.total_bytes == BLOCK_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_file_is_named_and_not_used(kept: Transcripts, tmp_path: Path, clock: Clock, seed: int) -> None:
    kept.keep(a_round(1), "member", a_transcript(1))
    (file,) = (tmp_path / "transcripts").iterdir()
    content = bytearray(file.read_bytes())
    dice = random.Random(seed)
    if seed % 2:
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    else:
        content = content[: dice.randrange(len(content))]
    file.write_bytes(content)
    for store in (kept, Transcripts(tmp_path / "transcripts", clock)):
        with pytest.raises(DigestMismatch, match=f"{a_round(1).hex()}.member is damaged") as caught:
            store.find(a_round(1), "member")
        assert caught.value.hint


def test_what_a_crash_left_half_written_is_gone_after_a_restart(kept: Transcripts, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "transcripts" / "abc.member.new").write_bytes(b"half")
    (tmp_path / "transcripts" / "notes.txt").write_text("somebody's")
    again = Transcripts(tmp_path / "transcripts", clock)
    assert again.total_bytes == 0
    assert [path.name for path in (tmp_path / "transcripts").iterdir()] == ["notes.txt"]


def test_a_disk_that_takes_nothing_is_an_error_with_a_name(kept: Transcripts, tmp_path: Path) -> None:
    for path in (tmp_path / "transcripts").iterdir():
        path.unlink()
    (tmp_path / "transcripts").rmdir()
    with pytest.raises(StorageUnavailable):
        kept.keep(a_round(1), "member", a_transcript(1))
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StorageUnavailable):
        Transcripts(tmp_path / "file", Clock())

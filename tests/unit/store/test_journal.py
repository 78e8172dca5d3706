"""The journal: what it said is so stays so, whatever ends the process."""

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from veil.errors import ConfigInvalid, StorageUnavailable
from veil.store.database import open_durable
from veil.store.journal import Binding, Journal, PendingTransaction, RestartRow
from veil.store.journal.schema import MIGRATIONS
from veil.types import Digest, Epoch, Generation, ObjectId, PeerId, RoundId, Secret

OBJECT = ObjectId(b"o" * 32)
REQUEST: dict[str, Any] = {
    "epoch": Epoch(1),
    "round": RoundId(b"r" * 16),
    "owner": "0xOwner",
    "object_id": OBJECT,
    "replicas": (0, 1),
    "circuit": "digc7-n4-r4",
    "quorum": (1, 2),
    "evaluation": b"e" * 32,
    "at_s": 100,
    "telemetry": {PeerId(b"a" * 32): Digest(b"1" * 32), PeerId(b"b" * 32): Digest(b"2" * 32)},
}
BINDING = Binding(
    object_id=OBJECT, generation=Generation(1), replica=0, state="reserved", expires_s=7, workload="hello", namespace="default"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_counters(path: Path) -> None:
    journal = Journal(path)
    assert [journal.counters.next("a"), journal.counters.next("a"), journal.counters.next("b")] == [1, 2, 1]
    assert journal.counters.reserve("a", 10) == 3
    journal.counters.raise_to("a", 5)
    assert journal.counters.next("a") == 13
    journal.counters.raise_to("a", 20)
    journal.close()
    journal = Journal(path)
    assert journal.counters.next("a") == 21
    assert journal.counters.value("none") == 0
    journal.close()


def test_a_spent_round_stays_spent(path: Path) -> None:
    journal = Journal(path)
    assert journal.rounds.spend(**REQUEST)
    journal.close()
    journal = Journal(path)
    assert journal.rounds.spend(**REQUEST), "the identical request may be repeated"
    assert journal.rounds.spend(**REQUEST | {"at_s": 999}), "at another time too"
    assert journal.rounds.count(Epoch(1)) == 1
    journal.close()


@pytest.mark.parametrize(
    "other",
    [
        {"epoch": 2},
        {"owner": "0xOther"},
        {"object_id": b"p" * 32},
        {"replicas": (0,)},
        {"circuit": "digc7-n16-r4"},
        {"quorum": (1, 3)},
        {"quorum": (2,)},
        {"quorum": (1, 2, 3, 4)},
        {"quorum": (1, 2, 3), "evaluation": b"f" * 32},
        {"evaluation": b"f" * 32},
    ],
)
def test_a_round_serves_one_purpose(path: Path, other: dict[str, Any]) -> None:
    journal = Journal(path)
    assert journal.rounds.spend(**REQUEST)
    assert not journal.rounds.spend(**REQUEST | other)
    assert journal.rounds.spend(**REQUEST), "the refusal changed nothing"
    assert journal.rounds.count(Epoch(1)) == 1
    assert journal.rounds.count(Epoch(2)) == 0
    journal.close()


def test_a_quorum_is_enlarged_once_by_one_member(path: Path) -> None:
    journal = Journal(path)
    assert journal.rounds.spend(**REQUEST)
    assert journal.rounds.spend(**REQUEST | {"quorum": (1, 2, 3)})
    assert journal.rounds.spend(**REQUEST | {"quorum": (1, 2, 3)}), "a lost answer may be asked for anew"
    assert not journal.rounds.spend(**REQUEST | {"quorum": (1, 2, 3, 4)})
    assert not journal.rounds.spend(**REQUEST | {"quorum": (1, 2, 4)})
    assert not journal.rounds.spend(**REQUEST), "the first quorum is over"
    assert journal.rounds.count(Epoch(1)) == 1
    journal.close()


def test_rounds_are_counted_by_epoch_and_owner(path: Path) -> None:
    journal = Journal(path)
    for number in range(5):
        owner = "0xA" if number < 3 else "0xB"
        journal.rounds.spend(**REQUEST | {"round": RoundId(bytes([number]) * 16), "owner": owner})
    assert [journal.rounds.count(Epoch(1), owner) for owner in (None, "0xA", "0xB", "0xC")] == [5, 3, 2, 0]
    journal.close()


def test_decisions_are_counted_by_candidate_and_epoch_once_a_round(path: Path) -> None:
    first, second = REQUEST["telemetry"]
    journal = Journal(path)
    assert not journal.rounds.is_spent(REQUEST["round"])
    journal.rounds.spend(**REQUEST)
    journal.rounds.spend(**REQUEST)
    journal.rounds.spend(**REQUEST | {"quorum": (1, 2, 3)})
    journal.rounds.spend(**REQUEST | {"evaluation": b"f" * 32})
    journal.rounds.spend(**REQUEST | {"round": RoundId(b"s" * 16), "telemetry": {second: Digest(b"1" * 32)}})
    journal.rounds.spend(**REQUEST | {"round": RoundId(b"t" * 16), "epoch": Epoch(2)})
    journal.close()
    journal = Journal(path)
    assert journal.rounds.is_spent(REQUEST["round"])
    assert [journal.rounds.decisions(Epoch(1), peer) for peer in (first, second, PeerId(b"c" * 32))] == [1, 2, 0]
    assert journal.rounds.decisions(Epoch(2), second) == 1
    assert journal.rounds.used_by(Digest(b"1" * 32)) == (first, REQUEST["round"]), "the first one's, whoever sent it again"
    assert journal.rounds.used_by(Digest(b"3" * 32)) is None
    journal.close()


def test_bindings(path: Path) -> None:
    journal = Journal(path)
    journal.bindings.put(BINDING)
    journal.bindings.put(replace(BINDING, replica=1))
    journal.bindings.put(bound := replace(BINDING, state="bound", bound=b"B", leaf=b"L", resources=b"R", template=b"T"))
    journal.close()
    journal = Journal(path)
    assert journal.bindings.get(OBJECT, 1, 0) == bound
    assert journal.bindings.all() == [bound, replace(BINDING, replica=1)]
    journal.bindings.remove(OBJECT, 1, 0)
    journal.bindings.remove(OBJECT, 1, 0)
    assert journal.bindings.get(OBJECT, 1, 0) is None
    assert len(journal.bindings.all()) == 1
    journal.close()


def test_restarts(path: Path) -> None:
    journal = Journal(path)
    assert journal.restarts.get("i", "c") == RestartRow()
    journal.restarts.put("i", "c", RestartRow(3, 10.5, 40.0))
    journal.restarts.put("i", "d", RestartRow(1, 1.0, 10.0))
    journal.restarts.put("j", "c", RestartRow(1, 1.0, 10.0))
    assert journal.restarts.get("i", "c") == RestartRow(3, 10.5, 40.0)
    journal.restarts.forget("i")
    assert journal.restarts.get("i", "c") == journal.restarts.get("i", "d") == RestartRow()
    assert journal.restarts.get("j", "c").count == 1
    journal.close()


def test_shares(path: Path) -> None:
    journal = Journal(path)
    journal.shares.put(Epoch(2), Secret(b"two"))
    journal.shares.put(Epoch(1), Secret(b"one"))
    assert journal.shares.get(Epoch(1)) == Secret(b"one")
    assert journal.shares.epochs() == [1, 2]
    journal.shares.remove(Epoch(1))
    assert journal.shares.get(Epoch(1)) is None
    journal.close()


def test_pending(path: Path) -> None:
    journal = Journal(path)
    journal.pending.put(PendingTransaction("0x1", "append to shard 3", b"raw"))
    assert journal.pending.all() == [PendingTransaction("0x1", "append to shard 3", b"raw")]
    journal.pending.remove("0x1")
    assert journal.pending.all() == []
    journal.close()


def test_only_its_owner_reads_it(path: Path) -> None:
    old = os.umask(0)
    try:
        journal = Journal(path)
        journal.counters.next("a")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        journal.close()
    finally:
        os.umask(old)


def test_every_commit_is_on_disk(path: Path) -> None:
    journal = Journal(path)
    assert journal._database.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert journal._database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    journal.close()


def test_a_damaged_journal_stops_the_node(path: Path) -> None:
    path.write_bytes(b"this was a journal once" * 1000)
    with pytest.raises(ConfigInvalid) as error:
        Journal(path)
    assert str(path) in error.value.message
    assert path.read_bytes().startswith(b"this was"), "it is left as it is"


def test_a_newer_journal_is_left_alone(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(ConfigInvalid, match="newer"):
        Journal(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        Journal(tmp_path / "missing" / "journal.db")


def test_a_full_disk_refuses_and_keeps_what_was(path: Path) -> None:
    journal = Journal(path)
    journal.counters.next("a")
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageUnavailable) as error:
        journal.pending.put(PendingTransaction("0x1", "too large", bytes(100_000)))
    assert error.value.hint
    assert journal.pending.all() == []
    assert journal.counters.next("a") == 2, "what fits still works"
    journal.close()


WRITER = """
import sys
from pathlib import Path
from veil.store.journal import Journal
from veil.store.journal.schema import MIGRATIONS
from veil.types import Epoch, ObjectId, RoundId
journal = Journal(Path(sys.argv[1]))
while True:
    number = journal.counters.next("n")
    spent = journal.rounds.spend(
        Epoch(1), RoundId(number.to_bytes(16, "big")), "0x", ObjectId(bytes(32)), (0,), "c", (1, 2),
        number.to_bytes(32, "big"), 0, {})
    sys.stdout.write(f"{number} {spent}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("round_trip", range(2))
def test_a_killed_writer_loses_nothing_it_acknowledged(path: Path, round_trip: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    lines_wanted = random.Random(seed).randrange(5, 60)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline() for _ in range(lines_wanted)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += writer.stdout.readlines()
    writer.stdout.close()
    writer.wait()
    numbers = [int(line.split()[0]) for line in acknowledged if line.endswith(" True\n")]
    assert len(numbers) >= lines_wanted
    assert numbers == sorted(set(numbers))

    journal = Journal(path)
    assert journal.counters.next("n") > numbers[-1]
    assert len(numbers) <= journal.rounds.count(Epoch(1)) <= len(numbers) + 1
    for number in numbers:
        round_id = RoundId(number.to_bytes(16, "big"))
        other = (Epoch(1), round_id, "0x", OBJECT, (0,), "c", (1, 2), b"x" * 32, 0, {})
        assert not journal.rounds.spend(*other), "spent before the kill, spent after it"
    journal.close()


def test_an_older_journal_is_migrated_and_its_rounds_stay_spent(path: Path) -> None:
    old = open_durable(path, MIGRATIONS[:1])
    row = (REQUEST["round"], 1, "0xOwner", OBJECT, 0, "digc7-n4-r4", b"\x92\x01\x02", b"e" * 32, 100)
    old.execute("INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    old.commit()
    old.close()
    journal = Journal(path)
    assert journal.rounds.count(Epoch(1)) == 1
    assert not journal.rounds.spend(**REQUEST)
    assert journal.rounds.decisions(Epoch(1), PeerId(b"a" * 32)) == 1, "whose rounds they were was not kept: everybody's"
    journal.close()

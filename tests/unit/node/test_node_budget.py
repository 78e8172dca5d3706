"""A member says in time that its key epoch runs out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from veil.node.budget import DecryptionBudget
from veil.store.journal import Journal
from veil.types import Digest, Epoch, ObjectId, PeerId, RoundId
from veil.wire.nodes import KeyEpoch

ALICE, BOB = PeerId(b"a" * 32), PeerId(b"b" * 32)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


def spend(journal: Journal, number: int, *candidates: PeerId, epoch: int = 1) -> None:
    telemetry = {peer: Digest(peer[:1] + bytes([number]) * 31) for peer in candidates}
    round = RoundId(bytes([number]) * 16)
    assert journal.rounds.spend(Epoch(epoch), round, "0x", ObjectId(bytes(32)), (0,), "c", (1, 2), bytes(32), 0, telemetry)


def epoch_with(most: int) -> KeyEpoch:
    return KeyEpoch(
        epoch=1,
        mode="threshold",
        parameters="plain",
        threshold=2,
        committee=(ALICE, BOB, bytes(32)),
        public_key=bytes(32),
        evaluation_keys=bytes(32),
        circuits=(),
        encoding=bytes(32),
        classes=(),
        known_input=bytes(32),
        max_decryptions=most,
        flooding_bits=7,
        shares=(),
    )


def test_it_is_told_from_four_fifths_on(journal: Journal) -> None:
    budget = DecryptionBudget(journal.rounds, lambda: epoch_with(5), lambda: 100)
    for number in range(3):
        spend(journal, number, ALICE)
    spend(journal, 9, ALICE, epoch=2)
    assert budget.problem == ""
    spend(journal, 3, BOB)
    assert budget.problem == "4 of 5 decryptions that epoch 1 allows are used"


def test_the_candidate_with_most_decisions_counts(journal: Journal) -> None:
    budget = DecryptionBudget(journal.rounds, lambda: epoch_with(100), lambda: 4)
    for number in range(3):
        spend(journal, number, ALICE)
        spend(journal, number + 10, BOB)
    assert budget.problem == ""
    spend(journal, 4, ALICE, BOB)
    assert budget.problem == "4 of 4 decisions with one candidate that epoch 1 allows are used"


def test_without_an_epoch_nothing_is_missing(journal: Journal) -> None:
    assert DecryptionBudget(journal.rounds, lambda: None, lambda: 1).problem == ""

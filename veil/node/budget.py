"""How much of what a key epoch may decrypt this committee member has used: told before placement stops because of it."""

from collections.abc import Callable

from veil.store.journal.rounds import Rounds
from veil.types import Epoch
from veil.wire.nodes import KeyEpoch

WARN_PART = 0.8
"""From here on it is time to rotate: a ceremony takes minutes, but people have to be found for it."""


class DecryptionBudget:
    """Of the epoch that this node works with, by its own journal."""

    def __init__(
        self, rounds: Rounds, key_epoch: Callable[[], KeyEpoch | None], decisions_per_candidate: Callable[[], int]
    ) -> None:
        self._rounds = rounds
        self._key_epoch = key_epoch
        self._decisions_per_candidate = decisions_per_candidate

    @property
    def problem(self) -> str:
        """Which limit is nearly reached or reached; empty for none."""
        epoch = self._key_epoch()
        if epoch is None:
            return ""
        number = Epoch(epoch.epoch)
        used = (
            (self._rounds.count(number), epoch.max_decryptions, "decryptions"),
            (self._rounds.most_decisions(number), self._decisions_per_candidate(), "decisions with one candidate"),
        )
        return "; ".join(
            f"{count} of {most} {what} that epoch {number} allows are used"
            for count, most, what in used
            if count >= WARN_PART * most
        )

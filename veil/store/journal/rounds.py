"""What this node has decrypted its part of: each round at most once, for one purpose.

Nothing is ever removed: the count is what bounds how much repeated decisions can leak, and a round that was forgotten could be
used again.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from veil.store.database import transaction
from veil.types import Epoch, ObjectId, RoundId


class Rounds:
    """Written before a partial decryption leaves the process."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def spend(
        self,
        epoch: Epoch,
        round: RoundId,
        owner: str,
        object_id: ObjectId,
        replica: int,
        circuit: str,
        members: Sequence[int],
        evaluation: bytes,
        at_s: int,
    ) -> bool:
        """Take ``round`` for exactly this. False when it was spent on anything else: then nothing may be released.

        True again for the identical request (``at_s`` aside), so that a lost answer can be asked for anew.
        """
        purpose = (epoch, owner, object_id, replica, circuit, msgspec.msgpack.encode(tuple(members)), evaluation)
        with transaction(self._database) as database:
            spent = database.execute(
                "SELECT epoch, owner, object_id, replica, circuit, members, evaluation FROM rounds WHERE round=?", (round,)
            ).fetchone()
            if spent is None:
                database.execute("INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (round, *purpose, at_s))
        return spent is None or spent == purpose

    def count(self, epoch: Epoch, owner: str | None = None) -> int:
        """How many rounds were spent in ``epoch``, of all owners or of one."""
        query = "SELECT count(*) FROM rounds WHERE epoch=? AND (? IS NULL OR owner=?)"
        count: int = self._database.execute(query, (epoch, owner, owner)).fetchone()[0]
        return count

"""A coordinator's own appends: a restart between the transaction and its answer must still tell the winners their proofs."""

import sqlite3
from dataclasses import dataclass

from veil.store.database import transaction
from veil.types import Shard


@dataclass(frozen=True, slots=True)
class Append:
    """``batch``: what the coordinator needs to go on, for it alone to read (leaves with salts, in order)."""

    shard: Shard
    sequence: int
    batch: bytes


class Appends:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def put(self, append: Append) -> None:
        """Written before the transaction is sent."""
        with transaction(self._database) as database:
            database.execute("INSERT OR REPLACE INTO appends VALUES (?, ?, ?)", (append.shard, append.sequence, append.batch))

    def get(self, shard: Shard, sequence: int) -> Append | None:
        row = self._database.execute("SELECT * FROM appends WHERE shard=? AND sequence=?", (shard, sequence)).fetchone()
        return Append(*row) if row else None

    def all(self) -> list[Append]:
        """By shard and sequence."""
        return [Append(*row) for row in self._database.execute("SELECT * FROM appends ORDER BY shard, sequence")]

    def remove(self, shard: Shard, sequence: int) -> None:
        """Not there = done."""
        with transaction(self._database) as database:
            database.execute("DELETE FROM appends WHERE shard=? AND sequence=?", (shard, sequence))

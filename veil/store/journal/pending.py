"""Transactions that were signed and are not known to be in a block: sent again, byte for byte, after a restart."""

import sqlite3
from dataclasses import dataclass

from veil.store.database import transaction


@dataclass(frozen=True, slots=True)
class PendingTransaction:
    """``id`` is its hash in hexadecimal; ``description`` is for people; ``raw`` is what is sent."""

    id: str
    description: str
    raw: bytes


class Pending:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def put(self, transaction_: PendingTransaction) -> None:
        """Written before it is sent."""
        row = (transaction_.id, transaction_.description, transaction_.raw)
        with transaction(self._database) as database:
            database.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?)", row)

    def all(self) -> list[PendingTransaction]:
        return [PendingTransaction(*row) for row in self._database.execute("SELECT * FROM pending ORDER BY id")]

    def remove(self, id: str) -> None:
        """Not there = done."""
        with transaction(self._database) as database:
            database.execute("DELETE FROM pending WHERE id=?", (id,))

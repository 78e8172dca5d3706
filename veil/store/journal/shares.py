"""This node's shares of the epochs' secret keys. Without its share, and so without its journal, a member does not decrypt."""

import sqlite3

from veil.store.database import transaction
from veil.types import Epoch, Secret


class Shares:
    """The bytes as the caller has them: sealed to this node, or bare (the file is readable by its owner only)."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def put(self, epoch: Epoch, share: Secret) -> None:
        with transaction(self._database) as database:
            database.execute("INSERT OR REPLACE INTO shares VALUES (?, ?)", (epoch, share.reveal()))

    def get(self, epoch: Epoch) -> Secret | None:
        row = self._database.execute("SELECT share FROM shares WHERE epoch=?", (epoch,)).fetchone()
        return Secret(row[0]) if row else None

    def epochs(self) -> list[Epoch]:
        return [Epoch(row[0]) for row in self._database.execute("SELECT epoch FROM shares ORDER BY epoch")]

    def remove(self, epoch: Epoch) -> None:
        with transaction(self._database) as database:
            database.execute("DELETE FROM shares WHERE epoch=?", (epoch,))

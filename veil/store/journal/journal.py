"""The journal as a whole: one file, one small class for each table.

A crash at any moment, power loss included, leaves it as of the last call that returned. A single call costs one sync of the
disk (about a millisecond on flash), so that hot paths reserve counters in blocks.
"""

import os
import sqlite3
from pathlib import Path

from veil.store.database import open_durable, transaction
from veil.store.journal.bindings import Bindings
from veil.store.journal.counters import Counters
from veil.store.journal.pending import Pending
from veil.store.journal.restarts import Restarts
from veil.store.journal.rounds import Rounds
from veil.store.journal.schema import MIGRATIONS
from veil.store.journal.shares import Shares


class Journal:
    """One node's journal. Used from one thread. Its calls raise StorageUnavailable when the disk takes no writes.

    Raises StorageUnavailable, or ConfigInvalid when the file is damaged or newer than this program.
    """

    def __init__(self, path: Path) -> None:
        self._database: sqlite3.Connection = open_durable(path, MIGRATIONS)
        self.counters = Counters(self._database)
        self.rounds = Rounds(self._database)
        self.bindings = Bindings(self._database)
        self.restarts = Restarts(self._database)
        self.shares = Shares(self._database)
        self.pending = Pending(self._database)
        self.id = self._identify()
        """16 random bytes, made with the file: a journal that was lost and begun anew has another."""

    def _identify(self) -> bytes:
        with transaction(self._database) as database:
            row = database.execute("SELECT id FROM identity").fetchone()
            if row is None:
                row = (os.urandom(16),)
                database.execute("INSERT INTO identity VALUES (?)", row)
        return bytes(row[0])

    def close(self) -> None:
        self._database.close()

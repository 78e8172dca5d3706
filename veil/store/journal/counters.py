"""Numbers that are never given out twice: resourceVersions, telemetry sequences, SWIM incarnations."""

import sqlite3

from veil.store.database import transaction


class Counters:
    """Named counters, each beginning at 0; a name is made by its first use."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def next(self, name: str) -> int:
        """The next number, 1 the first time."""
        return self.reserve(name, 1)

    def reserve(self, name: str, count: int) -> int:
        """The first of ``count`` numbers in a row that are the caller's."""
        assert count > 0, "nothing to reserve"
        with transaction(self._database) as database:
            value = self.value(name)
            database.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, value + count))
        return value + 1

    def raise_to(self, name: str, value: int) -> None:
        """Have the next number be over ``value``; changes nothing when it is already."""
        with transaction(self._database) as database:
            if value > self.value(name):
                database.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, value))

    def value(self, name: str) -> int:
        """The highest number given out or reserved; 0 for none."""
        row = self._database.execute("SELECT value FROM counters WHERE name=?", (name,)).fetchone()
        return row[0] if row else 0

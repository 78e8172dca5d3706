"""How often each container was restarted: a node that restarts itself must not forget its back-offs."""

import sqlite3
from dataclasses import dataclass

from veil.store.database import transaction


@dataclass(frozen=True, slots=True)
class RestartRow:
    """``last_s`` is in Unix seconds, ``backoff_s`` the wait before the next restart."""

    count: int = 0
    last_s: float = 0.0
    backoff_s: float = 0.0


class Restarts:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def get(self, instance: str, container: str) -> RestartRow:
        """All zero when it never was restarted."""
        query = "SELECT count, last_s, backoff_s FROM restarts WHERE instance=? AND container=?"
        row = self._database.execute(query, (instance, container)).fetchone()
        return RestartRow(*row) if row else RestartRow()

    def put(self, instance: str, container: str, row: RestartRow) -> None:
        with transaction(self._database) as database:
            database.execute(
                "INSERT OR REPLACE INTO restarts VALUES (?, ?, ?, ?, ?)",
                (instance, container, row.count, row.last_s, row.backoff_s),
            )

    def forget(self, instance: str) -> None:
        with transaction(self._database) as database:
            database.execute("DELETE FROM restarts WHERE instance=?", (instance,))

"""Tables whose every change can be taken back, block by block.

Before a row changes, what was there is written to ``undo`` together with the block that changes it. A reorg plays that back,
newest first. Records older than UNDO_BLOCKS are dropped.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

UNDO_BLOCKS = 256
"""How deep a reorg can be undone."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of ``store.db``: its columns in their order, the first ``key`` of them its primary key."""

    name: str
    columns: tuple[str, ...]
    key: int

    @property
    def where(self) -> str:
        return " AND ".join(f"{column}=?" for column in self.columns[: self.key])


BLOCKS = Table("blocks", ("number", "hash", "timestamp_s", "rv", "accumulator"), 1)
_OBJECT = ("kind", "object_id", "generation", "owner", "envelope", "deleting", "block", "block_hash")
_TEMPLATE = ("template_generation", "template_block", "template_block_hash")
OBJECTS = Table("objects", _OBJECT + _TEMPLATE, 2)
_NODE = ("peer", "operator", "status", "proven", "info", "down_incarnation", "registered_rv")
NODES = Table("nodes", (*_NODE, "vouched", "vouched_by"), 1)
NAMESPACES = Table("namespaces", ("namespace", "homes", "decision_limit"), 1)
RIGHTS = Table("rights", ("namespace", "owner", "account", "rights"), 3)
ROLES = Table("roles", ("role", "account", "held"), 2)
IMAGES = Table("images", ("one", "root", "images"), 1)
MANIFESTS = Table("manifests", ("name", "manifest"), 1)
EPOCHS = Table("epochs", ("epoch", "digest", "active"), 1)
POLICY = Table("policy", ("one", "policy"), 1)
LOG = Table("log", ("shard", "sequence", "root", "count", "data", "sender", "block"), 2)
TERMS = Table("terms", ("term", "accumulator", "members"), 1)

_ALL = (BLOCKS, OBJECTS, NODES, NAMESPACES, RIGHTS, ROLES, IMAGES, MANIFESTS, EPOCHS, POLICY, LOG, TERMS)
TABLES = {table.name: table for table in _ALL}

_SELECT = {t.name: f"SELECT {', '.join(t.columns)} FROM {t.name}" for t in TABLES.values()}  # noqa: S608
_FIND = {t.name: f"{_SELECT[t.name]} WHERE {t.where}" for t in TABLES.values()}
_REPLACE = {
    t.name: f"INSERT OR REPLACE INTO {t.name} VALUES ({', '.join('?' * len(t.columns))})"  # noqa: S608
    for t in TABLES.values()
}
_DELETE = {t.name: f"DELETE FROM {t.name} WHERE {t.where}" for t in TABLES.values()}  # noqa: S608

Row = tuple[Any, ...]


class Tables:
    """Reads and undoable writes over one connection. Transactions are the caller's; one that writes ends with :meth:`keep`.

    What is written waits here, where reads find it, until a scan of its table or the end: what changes twice is written once,
    and many rows go in one statement, which takes less CPU.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._undo: list[tuple[int, str, Row, Row | None]] = []
        self._waiting: dict[str, dict[Row, Row | None]] = {name: {} for name in TABLES}
        """By table and key: the row, None for one that is erased."""

    def read(self, table: Table, *key: Any) -> Row | None:
        waiting = self._waiting[table.name]
        if key in waiting:
            return waiting[key]
        row: Row | None = self._connection.execute(_FIND[table.name], key).fetchone()
        return row

    def scan(self, table: Table, condition: str = "1", *values: Any) -> list[Row]:
        """Rows by primary key. ``condition`` is SQL written in this package, never made of data."""
        self._flush(table.name)
        order = ", ".join(table.columns[: table.key])
        return self._connection.execute(f"{_SELECT[table.name]} WHERE {condition} ORDER BY {order}", values).fetchall()

    def write(self, table: Table, row: Row, *, block: int, new: bool = False) -> None:
        """Insert or replace ``row`` as something that ``block`` did. ``new``: the caller knows that there was none."""
        key = row[: table.key]
        self._undo.append((block, table.name, key, None if new else self.read(table, *key)))
        self._waiting[table.name][key] = row

    def erase(self, table: Table, *key: Any, block: int) -> None:
        self._undo.append((block, table.name, key, self.read(table, *key)))
        self._waiting[table.name][key] = None

    def _flush(self, name: str) -> None:
        waiting = self._waiting[name]
        if not waiting:
            return
        self._connection.executemany(_REPLACE[name], (row for row in waiting.values() if row is not None))
        self._connection.executemany(_DELETE[name], (key for key, row in waiting.items() if row is None))
        waiting.clear()

    def keep(self, after_block: int) -> None:
        """Write what waits, and how to undo what blocks above ``after_block`` did.

        During a long catching-up most of it never has to be.
        """
        for name in TABLES:
            self._flush(name)
        wanted = [
            (block, name, msgspec.msgpack.encode(key), None if before is None else msgspec.msgpack.encode(before))
            for block, name, key, before in self._undo
            if block > after_block
        ]
        self._connection.executemany("INSERT INTO undo (block, tab, key, before) VALUES (?, ?, ?, ?)", wanted)
        self._undo.clear()

    def undo(self, to_block: int) -> None:
        """Make every table what it was after ``to_block``."""
        self.keep(-1)
        records: Iterable[Row] = self._connection.execute(
            "SELECT tab, key, before FROM undo WHERE block > ? ORDER BY n DESC", (to_block,)
        ).fetchall()
        for name, key, before in records:
            if before is None:
                self._connection.execute(_DELETE[name], msgspec.msgpack.decode(key))
            else:
                self._connection.execute(_REPLACE[name], msgspec.msgpack.decode(before))
        self._connection.execute("DELETE FROM undo WHERE block > ?", (to_block,))

    def forget(self, up_to_block: int) -> None:
        """Drop what is needed only to undo blocks up to ``up_to_block``. One block row at or below it stays: the cursor."""
        self._connection.execute("DELETE FROM undo WHERE block <= ?", (up_to_block,))
        self._connection.execute(
            "DELETE FROM blocks WHERE number < (SELECT max(number) FROM blocks WHERE number <= ?)", (up_to_block,)
        )

"""How this node's two SQLite files are opened.

``store.db`` is a cache of what the chain and the other nodes say: whatever is wrong with it, it is deleted and rebuilt, so it
is not synced to disk at each commit. ``journal.db`` holds facts that nobody else has: each commit is on disk before it
returns, its schema is migrated, and a damaged one stops the node.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from veil.errors import ConfigInvalid, StorageUnavailable

BUSY_TIMEOUT_S = 5.0
"""How long a writer waits for another connection of this node."""

logger = logging.getLogger(__name__)


def open_cache(path: Path | None, schema: str, version: int) -> sqlite3.Connection:
    """A cache with ``schema``; a file that is damaged or of another version is replaced by an empty one.

    None keeps it in memory. Raises StorageUnavailable when the place cannot be written.
    """
    try:
        return _open_cache(path, schema, version)
    except (sqlite3.DatabaseError, _OtherVersion) as error:
        if path is None or (isinstance(error, sqlite3.OperationalError) and not _damaged(error)):
            raise StorageUnavailable(f"{path}: {error}", hint="free or mount the disk") from error
        logger.warning("%s is rebuilt: %s", path, error)
        for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            file.unlink(missing_ok=True)
        return _open_cache(path, schema, version)


class _OtherVersion(Exception):
    pass


def _damaged(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _open_cache(path: Path | None, schema: str, version: int) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        connection.execute("PRAGMA synchronous=NORMAL")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, version):
            raise _OtherVersion(f"its schema is version {found}, this program's is {version}")
        connection.executescript(f"BEGIN IMMEDIATE; {schema} PRAGMA user_version={version}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except BaseException:
        connection.close()
        raise
    return connection


def open_durable(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """A database whose commits survive power loss, readable by its owner only, brought up to ``migrations``.

    Raises StorageUnavailable, or ConfigInvalid when the file is damaged or was written by a newer program.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        connection = _connect(path)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        raise StorageUnavailable(f"{path}: {error}", hint="free or mount the disk, check the owner of the file") from error
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"{path}: {error}", hint="free or mount the disk, check the owner of the file") from error
    except sqlite3.DatabaseError as error:
        raise ConfigInvalid(
            f"{path}: {error}", hint="this file holds the node's own facts: restore it, or set the node up anew with a new key"
        ) from error
    return connection


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise ConfigInvalid(f"{path} was written by a newer Veil (schema {version})", hint="install that version again")
    for number in range(version, len(migrations)):
        connection.executescript(f"BEGIN IMMEDIATE; {migrations[number]} PRAGMA user_version={number + 1}; COMMIT;")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the block's statements or none. Raises StorageUnavailable when the disk does not take them."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"a write to the node's database failed: {error}", hint="free the disk") from error

"""What the chain says, as of the last block that this node has seen: read by everybody, written by one follower.

The truth is the registry; this is a copy that is deleted and rebuilt at will. It is written block by block and can take back
UNDO_BLOCKS of them. Readers see whole batches only: subscribers are called after the commit. Objects and nodes are kept in
memory besides, because they are read far more often than they change.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from veil.errors import DeadlineExceeded
from veil.store.collector import collector_paused
from veil.store.database import open_cache, transaction
from veil.store.rows import BlockRow, Cursor, EpochRow, ImagesRow, LogRow, NamespaceRow, NodeRow, ObjectRow
from veil.store.schema import STORE_SCHEMA, STORE_VERSION
from veil.store.tables import (
    BLOCKS,
    EPOCHS,
    IMAGES,
    LOG,
    MANIFESTS,
    NAMESPACES,
    NODES,
    OBJECTS,
    POLICY,
    RIGHTS,
    ROLES,
    TABLES,
    TERMS,
    Row,
    Tables,
)
from veil.store.writer import Writer, block_from, namespace_from, node_from, object_from
from veil.types import TERM_BLOCKS, Address, ClusterId, Digest, ObjectId, PeerId

LATEST = "latest"

EMPTY_ACCUMULATOR = bytes(24)
"""The registry's hash chain before its first event."""

EVERY_NAMESPACE = bytes(16)
"""What the limit of decisions is kept under that counts where there is no other."""

logger = logging.getLogger(__name__)


class Projection:
    """The registry's state in ``store.db`` (``path`` None: in memory).

    A file of another ``cluster`` is emptied: open the projection before the object store that shares its file.
    Used from one thread.
    """

    def __init__(self, path: Path | None, cluster: ClusterId) -> None:
        self.cluster = cluster
        self._database = open_cache(path, STORE_SCHEMA, STORE_VERSION)
        self._tables = Tables(self._database)
        self._subscribers: list[Callable[[], None]] = []
        self._objects: dict[tuple[int, ObjectId], ObjectRow] = {}
        self._nodes: list[NodeRow] | None = None
        self._claim()
        self._load()

    def _claim(self) -> None:
        row = self._database.execute("SELECT value FROM meta WHERE name='cluster'").fetchone()
        if row is not None and row[0] == self.cluster:
            return
        with transaction(self._database) as database:
            if row is not None:
                logger.warning("store.db belongs to another cluster: emptied")
                for name in ("meta", "finality", "undo", "api_objects", *TABLES):
                    database.execute(f"DELETE FROM {name}")  # noqa: S608
            database.execute("INSERT INTO meta VALUES ('cluster', ?)", (self.cluster,))

    def _load(self) -> None:
        self._objects = {(row[0], row[1]): object_from(row) for row in self._tables.scan(OBJECTS)}
        self._nodes = None

    def close(self) -> None:
        self._database.close()

    # writing

    @contextmanager
    def batch(self) -> Iterator[Writer]:
        """One transaction of any number of blocks. Subscribers are called after it. Nothing of it stays when it fails.

        Raises StorageUnavailable when the disk does not take it.
        """
        try:
            with collector_paused(), transaction(self._database):
                writer = Writer(self._database, self._objects)
                yield writer
                writer.finish()
        except BaseException:
            self._load()
            raise
        self._nodes = None
        for callback in tuple(self._subscribers):
            callback()

    # being told

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` (quick, raises nothing) after every batch of blocks, rollbacks and finality changes.

        Gives back how to end it.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def wait_until(self, predicate: Callable[[], bool], timeout_s: float) -> None:
        """Return once ``predicate`` holds; it is asked now and after every batch. Raises DeadlineExceeded."""
        if predicate():
            return
        done = asyncio.Event()
        end = self.subscribe(lambda: done.set() if predicate() else None)
        try:
            async with asyncio.timeout(timeout_s):
                await done.wait()
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the chain did not say so within {timeout_s:g} s",
                hint="see whether the RPC endpoint answers and its blocks advance (`veil doctor`)",
            ) from error
        finally:
            end()

    # objects

    def object(self, kind: int, object_id: ObjectId) -> ObjectRow | None:
        return self._objects.get((kind, object_id))

    def objects(self, kind: int | None = None) -> list[ObjectRow]:
        return [row for key, row in self._objects.items() if kind is None or key[0] == kind]

    # namespaces

    def namespace(self, namespace: bytes) -> NamespaceRow:
        """What the registry says of ``namespace`` (16 bytes) beside its object, whether that is there or not."""
        row = self._tables.read(NAMESPACES, namespace)
        return namespace_from(row) if row else NamespaceRow(namespace=namespace)

    def decision_limit(self, namespace: bytes) -> int:
        """Decisions of one key epoch that ``namespace`` may use: its own limit, else everybody's; 0 for none."""
        return self.namespace(namespace).decision_limit or self.namespace(EVERY_NAMESPACE).decision_limit

    def rights(self, namespace: bytes, owner: Address, account: Address) -> int:
        """What ``owner`` lets ``account`` do, a :class:`veil.chain.records.Right`."""
        row = self._tables.read(RIGHTS, namespace, owner, account)
        return row[3] if row else 0

    def rights_given(self, namespace: bytes, owner: Address) -> dict[Address, int]:
        """What ``owner`` lets whom do, those without any left out."""
        rows = self._tables.scan(RIGHTS, "namespace = ? AND owner = ? AND rights != 0", namespace, owner)
        return {row[2]: row[3] for row in rows}

    def roles(self) -> dict[bytes, list[Address]]:
        """Who holds each role (32 bytes) of the registry that anybody holds."""
        found: dict[bytes, list[Address]] = {}
        for role, account, _ in self._tables.scan(ROLES, "held"):
            found.setdefault(role, []).append(account)
        return found

    # images

    def images(self) -> ImagesRow | None:
        """None when every image is allowed."""
        row = self._tables.read(IMAGES, 1)
        return ImagesRow(root=row[1], images=row[2]) if row and any(row[1]) else None

    def manifest(self, name: Digest) -> Digest | None:
        """The manifest that was committed to for an image's name (Keccak-256 of the reference without a digest)."""
        row = self._tables.read(MANIFESTS, name)
        return row[1] if row and any(row[1]) else None

    def commits_images(self) -> bool:
        """Whether there is any commitment to a manifest."""
        return bool(self._tables.scan(MANIFESTS, "manifest != zeroblob(32)"))

    # nodes, epochs, policy

    def nodes(self) -> list[NodeRow]:
        """Every peer ever registered, in the order of registration. Only proven ones are eligible for anything."""
        if self._nodes is None:
            rows = [node_from(row) for row in self._tables.scan(NODES)]
            self._nodes = _with_unique_names(sorted(rows, key=lambda row: row.registered_rv))
        return list(self._nodes)

    def node(self, peer: PeerId) -> NodeRow | None:
        return next((row for row in self.nodes() if row.peer == peer), None)

    def epochs(self) -> list[EpochRow]:
        return [EpochRow(epoch=e, digest=d, active=bool(a)) for e, d, a in self._tables.scan(EPOCHS)]

    def active_epoch(self) -> EpochRow | None:
        """The one that rounds use: the oldest that is not retired."""
        return next((row for row in self.epochs() if row.active), None)

    def next_epoch(self) -> EpochRow | None:
        """The one that takes its place when it is retired, and is prepared until then."""
        return next((row for row in self.epochs()[1:] if row.active and row != self.active_epoch()), None)

    def policy(self) -> bytes:
        row = self._tables.read(POLICY, 1)
        return row[1] if row else b""

    def term_members(self, term: int) -> tuple[PeerId, ...]:
        """The peers, sorted, that were Active and proven when the last block before ``term`` was applied.

        Empty when that block is not reached yet, or was before the first event.
        """
        row = self._term(term)
        members: bytes = row[2] if row else b""
        return tuple(PeerId(members[i : i + 32]) for i in range(0, len(members), 32))

    def term_seed(self, term: int) -> bytes:
        """The registry's hash chain at the last block before ``term``: the same for every reader. Empty as for members."""
        row = self._term(term)
        return row[1] if row else b""

    def _term(self, term: int) -> Row | None:
        if term * TERM_BLOCKS > self.finality(LATEST):
            return None
        rows = self._tables.scan(TERMS, "term = (SELECT max(term) FROM terms WHERE term <= ?)", term)
        return rows[0] if rows else None

    # the placement log

    def log(self, shard: int) -> list[LogRow]:
        """Every append of ``shard``, by sequence."""
        return [_log_from(row) for row in self._tables.scan(LOG, "shard = ?", shard)]

    def log_at(self, shard: int, sequence: int) -> LogRow | None:
        row = self._tables.read(LOG, shard, sequence)
        return _log_from(row) if row else None

    # where it stands

    def head(self) -> tuple[int, bytes]:
        """The registry's head as of the last block: how many events there were, and the hash chain over them."""
        row = self.tip()
        return (row.rv, row.accumulator) if row else (0, EMPTY_ACCUMULATOR)

    def cursor(self) -> Cursor:
        """Where to go on from. An empty projection starts after block 0."""
        known = tuple(block_from(row) for row in self._tables.scan(BLOCKS))
        if not known:
            return Cursor(block=0, rv=0, accumulator=EMPTY_ACCUMULATOR)
        return Cursor(block=known[-1].number, rv=known[-1].rv, accumulator=known[-1].accumulator, known=known)

    def finality(self, level: str) -> int:
        """The newest block that has reached ``level`` ("latest", "safe", "finalized"); 0 when none has."""
        if level == LATEST:
            row = self.tip()
            return row.number if row else 0
        found = self._database.execute("SELECT block FROM finality WHERE level=?", (level,)).fetchone()
        return found[0] if found else 0

    def tip(self) -> BlockRow | None:
        """The newest block here; None before the first."""
        rows = self._tables.scan(BLOCKS, "number = (SELECT max(number) FROM blocks)")
        return block_from(rows[0]) if rows else None


def _with_unique_names(rows: list[NodeRow]) -> list[NodeRow]:
    taken: set[str] = set()
    named: list[NodeRow] = []
    for row in rows:
        name = row.name if row.name not in taken else f"{row.name[:54]}-{row.peer.hex()[:8]}"
        taken.add(name)
        named.append(replace(row, name=name))
    return named


def _log_from(row: Row) -> LogRow:
    values: dict[str, Any] = dict(zip(LOG.columns, row, strict=True))
    return LogRow(**values)

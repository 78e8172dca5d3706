"""The one way to change the projection: blocks in order, each with what it did, and the way back.

A :class:`Writer` lives for one transaction (:meth:`veil.store.projection.Projection.batch`).
"""

import sqlite3
from typing import Any

from veil.errors import HeadMismatch
from veil.store.rows import BlockRow, EpochRow, ImagesRow, LogRow, NamespaceRow, NodeRow, ObjectRow
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
    TERMS,
    UNDO_BLOCKS,
    Row,
    Tables,
)
from veil.types import TERM_BLOCKS, Address, Digest, ObjectId, PeerId
from veil.wire.codec import decode, encode
from veil.wire.nodes import HOSTNAME_LABEL, NodeInfo, labels_digest

ACTIVE = "Active"


class Writer:
    """``begin_block``, changes, ``end_block``, again and again; or ``rollback``."""

    def __init__(self, database: sqlite3.Connection, objects: dict[tuple[int, ObjectId], ObjectRow]) -> None:
        self._database = database
        self._tables = Tables(database)
        self._objects = objects
        self._block = 0
        self._tip = self._read_tip()

    def _read_tip(self) -> BlockRow | None:
        rows = self._tables.scan(BLOCKS, "number = (SELECT max(number) FROM blocks)")
        return block_from(rows[0]) if rows else None

    # blocks

    def begin_block(self, number: int) -> None:
        """What follows was done by block ``number``. The first block of a term fixes who was a member before it."""
        self._block = number
        tip = self._tip
        # Before the first event there is nothing to fix: followers that saw those blocks and those that did not must agree.
        if tip is not None and tip.rv and number // TERM_BLOCKS > tip.number // TERM_BLOCKS:
            active = sorted(row[0] for row in self._tables.scan(NODES, "status = ? AND proven", ACTIVE))
            # The terms in between had no events, so that the first one's row holds for all of them.
            self._tables.write(TERMS, (tip.number // TERM_BLOCKS + 1, tip.accumulator, b"".join(active)), block=number)

    def end_block(self, row: BlockRow) -> None:
        """Block ``row.number`` is complete; the cursor stands on it."""
        assert row.number == self._block, "a block ends that did not begin"
        values = (row.number, row.hash, row.timestamp_s, row.rv, row.accumulator)
        self._tables.write(BLOCKS, values, block=row.number, new=self._tip is None or row.number > self._tip.number)
        self._tip = row

    def rollback(self, to_block: int) -> None:
        """Undo every block above ``to_block``. Raises HeadMismatch when that is further back than UNDO_BLOCKS."""
        if to_block < self._floor():
            raise HeadMismatch(
                f"the chain replaced blocks after {to_block}, deeper than UNDO_BLOCKS={UNDO_BLOCKS} allows to undo",
                hint="make sure that the RPC endpoint is on the right chain, stop the node, delete its store.db, start it",
            )
        self._tables.undo(to_block)
        self._database.execute("UPDATE finality SET block = ? WHERE block > ?", (to_block, to_block))
        self._objects.clear()
        self._objects.update({(row[0], row[1]): object_from(row) for row in self._tables.scan(OBJECTS)})
        self._tip = self._read_tip()

    def finalize(self, level: str, block: int) -> None:
        """Everything up to ``block`` has reached ``level``."""
        self._database.execute("INSERT OR REPLACE INTO finality VALUES (?, ?)", (level, block))

    def finish(self) -> None:
        """The end of the transaction: forget what is too old to be undone."""
        floor = self._tip.number - UNDO_BLOCKS if self._tip else 0
        self._tables.keep(floor)
        if floor > self._floor():
            self._tables.forget(floor)
            self._database.execute("INSERT OR REPLACE INTO meta VALUES ('floor', ?)", (floor,))

    def _floor(self) -> int:
        row = self._database.execute("SELECT value FROM meta WHERE name='floor'").fetchone()
        return row[0] if row else 0

    # what a block does

    def object(self, kind: int, object_id: ObjectId) -> ObjectRow | None:
        return self._objects.get((kind, object_id))

    def put_object(self, row: ObjectRow) -> None:
        new = (row.kind, row.object_id) not in self._objects
        self._objects[row.kind, row.object_id] = row
        values = (
            row.kind,
            row.object_id,
            row.generation,
            row.owner,
            row.envelope,
            int(row.deleting),
            row.block,
            row.block_hash,
            row.template_generation,
            row.template_block,
            row.template_block_hash,
        )
        self._tables.write(OBJECTS, values, block=self._block, new=new)

    def delete_object(self, kind: int, object_id: ObjectId) -> None:
        self._objects.pop((kind, object_id), None)
        self._tables.erase(OBJECTS, kind, object_id, block=self._block)

    def node(self, peer: PeerId) -> NodeRow | None:
        row = self._tables.read(NODES, peer)
        return node_from(row) if row else None

    def put_node(self, row: NodeRow) -> None:
        """``name``, ``labels`` and ``taints`` are not stored: they follow from ``info``."""
        info = encode(row.info) if row.info else b""
        state = (row.operator, row.status, int(row.proven), info, row.down_incarnation, row.registered_rv)
        self._tables.write(NODES, (row.peer, *state, row.vouched, row.vouched_by), block=self._block)

    def namespace(self, namespace: bytes) -> NamespaceRow:
        row = self._tables.read(NAMESPACES, namespace)
        return namespace_from(row) if row else NamespaceRow(namespace=namespace)

    def put_namespace(self, row: NamespaceRow) -> None:
        self._tables.write(NAMESPACES, (row.namespace, b"".join(row.homes), row.decision_limit), block=self._block)

    def put_rights(self, namespace: bytes, owner: Address, account: Address, rights: int) -> None:
        """What ``owner`` lets ``account`` do, a :class:`veil.chain.records.Right`."""
        self._tables.write(RIGHTS, (namespace, owner, account, rights), block=self._block)

    def put_role(self, role: bytes, account: Address, *, held: bool) -> None:
        """Whether ``account`` holds ``role`` (32 bytes)."""
        self._tables.write(ROLES, (role, account, int(held)), block=self._block)

    def put_images(self, row: ImagesRow) -> None:
        self._tables.write(IMAGES, (1, row.root, row.images), block=self._block)

    def put_manifest(self, name: Digest, manifest: Digest) -> None:
        """What the image ``name`` (a digest of its reference) stands for; zeros for nothing any more."""
        self._tables.write(MANIFESTS, (name, manifest), block=self._block)

    def put_epoch(self, row: EpochRow) -> None:
        self._tables.write(EPOCHS, (row.epoch, row.digest, int(row.active)), block=self._block)

    def epochs(self) -> list[EpochRow]:
        """Oldest first."""
        return [EpochRow(epoch=e, digest=d, active=bool(a)) for e, d, a in self._tables.scan(EPOCHS)]

    def put_policy(self, policy: bytes) -> None:
        self._tables.write(POLICY, (1, policy), block=self._block)

    def append_log(self, row: LogRow) -> None:
        values = (row.shard, row.sequence, row.root, row.count, row.data, row.sender, row.block)
        self._tables.write(LOG, values, block=self._block)


def block_from(row: Row) -> BlockRow:
    """The row of the ``blocks`` table as a value."""
    values: dict[str, Any] = dict(zip(BLOCKS.columns, row, strict=True))
    return BlockRow(**values)


def object_from(row: Row) -> ObjectRow:
    """The row of the ``objects`` table as a value."""
    values: dict[str, Any] = dict(zip(OBJECTS.columns, row, strict=True))
    values["deleting"] = bool(values["deleting"])
    return ObjectRow(**values)


def namespace_from(row: Row) -> NamespaceRow:
    """The row of the ``namespaces`` table as a value."""
    namespace, homes, limit = row
    peers = tuple(PeerId(homes[i : i + 32]) for i in range(0, len(homes), 32))
    return NamespaceRow(namespace=namespace, homes=peers, decision_limit=limit)


def node_from(row: Row) -> NodeRow:
    """The row of the ``nodes`` table as a value, before names are made unique."""
    peer, operator, status, proven, data, down, registered_rv, vouched, vouched_by = row
    info = decode(data, NodeInfo) if data else None
    return NodeRow(
        peer=peer,
        operator=operator,
        status=status,
        proven=bool(proven),
        info=info,
        down_incarnation=down,
        name=info.name if info else f"node-{peer.hex()[:12]}",
        labels=_labels(info, vouched) if info else {},
        taints=dict(info.taints) if info else {},
        registered_rv=registered_rv,
        vouched=vouched,
        vouched_by=vouched_by,
    )


def _labels(info: NodeInfo, vouched: bytes) -> dict[str, str]:
    """What counts of a node's own word: all of it, or where somebody vouches for labels by digest, exactly those."""
    trusted = not vouched or labels_digest(info.labels) == vouched
    return {name: value for name, value in info.labels.items() if trusted or name == HOSTNAME_LABEL}

"""From the chain's events to the projection's rows.

What peers say about themselves in the registry is checked here, once, on the way in: the EVM cannot verify Ed25519, so that
every reader must. A wrong proof or a wrong description is left out and logged, the rest of the block counts.

Reading and writing go in step but apart: while blocks are there without waiting, they are written in one transaction of at
most BATCH_MAX changes; a single new block is written at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

from veil.chain.ports import (
    AccessChanged,
    Block,
    BlockEvents,
    Chain,
    ChainEvent,
    DecisionLimitChanged,
    DisputeClosed,
    DisputeOpened,
    EpochActivated,
    EpochPublished,
    EpochRetired,
    Finalized,
    Head,
    HomePeersChanged,
    ImageCommitted,
    ImageRootChanged,
    NamespaceOwnerChanged,
    NodeInfoPublished,
    NodeLabelsChanged,
    NodeMarkedDown,
    NodeMarkedUp,
    NodeRegistered,
    NodeStatus,
    NodeStatusChanged,
    ObjectApplied,
    ObjectDeleted,
    OtherEvent,
    PlacementsAppended,
    PolicyChanged,
    RoleChanged,
    Rollback,
)
from veil.errors import Untrusted
from veil.identity import peer_id_text
from veil.store.projection import Projection
from veil.store.rows import BlockRow, EpochRow, ImagesRow, LogRow, NodeRow, ObjectRow
from veil.store.writer import Writer
from veil.types import Address, ClusterId, Digest, Epoch, ObjectId, PeerId
from veil.wire.codec import decode
from veil.wire.nodes import NodeInfo, check_possession
from veil.wire.objects import KINDS, same_template
from veil.wire.signed import Signed, open_signed

BATCH_MAX = 1024
"""The most changes in one transaction: bounds memory, and how long other tasks wait during a cold sync."""

Change = BlockEvents | Rollback | Finalized

logger = logging.getLogger(__name__)


async def follow(chain: Chain, projection: Projection) -> None:
    """Keep ``projection`` up to date from its cursor on. Ends only by being cancelled or with an error.

    Raises HeadMismatch (events and the registry's head disagree, or a reorg was too deep), StorageUnavailable (start again:
    nothing of the failed batch was kept).
    """
    cursor = projection.cursor()
    stream = chain.follow(
        from_block=cursor.block,
        from_head=Head(cursor.rv, cursor.accumulator),
        known=[Block(row.number, row.hash, row.timestamp_s, Head(row.rv, row.accumulator)) for row in cursor.known],
    )
    async for changes in _batches(stream):
        with projection.batch() as writer:
            for change in changes:
                apply(change, writer, chain.cluster)


async def _batches(stream: AsyncIterator[Change]) -> AsyncIterator[list[Change]]:
    """What ``stream`` gives, put together for as long as it need not wait. Raises what it raises."""
    ready: deque[Change] = deque()
    filled, drained = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async for change in stream:
                ready.append(change)
                filled.set()
                if len(ready) >= BATCH_MAX:
                    drained.clear()
                    await drained.wait()
        finally:
            filled.set()

    reader = asyncio.create_task(read())
    try:
        while True:
            await filled.wait()
            filled.clear()
            if ready:
                batch = list(ready)
                ready.clear()
                yield batch
            drained.set()
            if reader.done() and not ready:
                reader.result()
                return
    finally:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([reader])


def apply(change: Change, writer: Writer, cluster: ClusterId) -> None:
    """Write one change of the chain."""
    match change:
        case BlockEvents(block=block, events=events, head=head):
            writer.begin_block(block.number)
            for event in events:
                _apply_event(event, block, writer, cluster)
            row = BlockRow(
                number=block.number,
                hash=block.hash,
                timestamp_s=block.timestamp_s,
                rv=head.rv,
                accumulator=head.accumulator,
            )
            writer.end_block(row)
        case Rollback(to_block=to_block):
            writer.rollback(to_block)
        case Finalized(finality=finality, block=number):
            writer.finalize(finality.value, number)


def _apply_event(event: ChainEvent, block: Block, writer: Writer, cluster: ClusterId) -> None:
    match event:
        case ObjectApplied():
            _apply_object(event, block, writer)
        case ObjectDeleted(kind=kind, object_id=object_id):
            writer.delete_object(kind, object_id)
            if kind == KINDS["Namespace"]:
                writer.put_namespace(replace(writer.namespace(object_id[:16]), homes=()))
        case (
            NodeRegistered() | NodeInfoPublished() | NodeStatusChanged() | NodeMarkedDown() | NodeMarkedUp() | NodeLabelsChanged()
        ):
            row = _node_after(event, writer.node(event.peer), cluster)
            if row is not None:
                writer.put_node(row)
        case PlacementsAppended():
            log_row = LogRow(
                shard=event.shard,
                sequence=event.sequence,
                root=event.root,
                count=event.count,
                data=event.data,
                sender=event.sender,
                block=block.number,
            )
            writer.append_log(log_row)
        case PolicyChanged(policy=policy):
            writer.put_policy(policy)
        case NamespaceOwnerChanged(object_id=object_id, owner=owner):
            space = writer.object(KINDS["Namespace"], object_id)
            if space is not None:
                writer.put_object(replace(space, owner=owner))
        case HomePeersChanged(namespace=namespace, peers=peers):
            writer.put_namespace(replace(writer.namespace(namespace), homes=peers))
        case DecisionLimitChanged(namespace=namespace, per_epoch=limit):
            writer.put_namespace(replace(writer.namespace(namespace), decision_limit=limit))
        case AccessChanged(namespace=namespace):
            space = writer.object(KINDS["Namespace"], ObjectId(namespace + bytes(16)))
            if space is not None:
                writer.put_rights(namespace, space.owner, event.account, event.rights)
        case RoleChanged(role=role, account=account, held=held):
            writer.put_role(role, account, held=held)
        case ImageRootChanged(root=root, images=images):
            writer.put_images(ImagesRow(root=root, images=images))
        case ImageCommitted(name=name, manifest=manifest):
            writer.put_manifest(name, manifest)
        case EpochPublished(epoch=epoch, digest=digest):
            writer.put_epoch(EpochRow(epoch=Epoch(epoch), digest=digest, active=True))
        case EpochActivated() | EpochRetired():
            _retire(event, writer)
        case DisputeOpened() | DisputeClosed() | OtherEvent():
            pass


def _retire(event: EpochActivated | EpochRetired, writer: Writer) -> None:
    """The epoch itself, or those before the one that takes over."""
    for row in writer.epochs():
        ends = row.epoch < event.epoch if isinstance(event, EpochActivated) else row.epoch == event.epoch
        if ends and row.active:
            writer.put_epoch(replace(row, active=False))


def _apply_object(event: ObjectApplied, block: Block, writer: Writer) -> None:
    """An object that waits to be deleted keeps the envelope it had. One that is only scaled keeps its template generation."""
    before = writer.object(event.kind, event.object_id)
    envelope = before.envelope if event.deleting and before and not event.envelope else event.envelope
    kept = before if before is not None and same_template(before.envelope, envelope) else None
    row = ObjectRow(
        kind=event.kind,
        object_id=event.object_id,
        generation=event.generation,
        owner=event.owner,
        envelope=envelope,
        deleting=event.deleting,
        block=block.number,
        block_hash=block.hash,
        template_generation=kept.template_generation if kept else event.generation,
        template_block=kept.template_block if kept else block.number,
        template_block_hash=kept.template_block_hash if kept else block.hash,
    )
    writer.put_object(row)


NodeEvent = NodeRegistered | NodeInfoPublished | NodeStatusChanged | NodeMarkedDown | NodeMarkedUp | NodeLabelsChanged


def _node_after(event: NodeEvent, before: NodeRow | None, cluster: ClusterId) -> NodeRow | None:
    """The node's row after ``event``; None when nothing is to be written."""
    if isinstance(event, NodeRegistered):
        return _registered(event, before, cluster)
    if before is None:
        logger.warning("%s for %s, which never registered: ignored", type(event).__name__, peer_id_text(event.peer))
        return None
    match event:
        case NodeInfoPublished(info=data):
            info = _checked_info(data, event.peer, before, cluster)
            return replace(before, info=info) if info else None
        case NodeStatusChanged(status=status):
            if status is NodeStatus.GONE:
                return replace(before, status=status.value, down_incarnation=None, vouched=Digest(b""), vouched_by=Address(""))
            return replace(before, status=status.value)
        case NodeLabelsChanged(labels=labels, by=by):
            if by == before.operator != before.vouched_by and before.vouched:
                return before  # an operator's own word does not take the place of an administrator's
            return replace(before, vouched=labels if any(labels) else Digest(b""), vouched_by=by)
        case NodeMarkedDown(incarnation=incarnation):
            return replace(before, down_incarnation=incarnation)
        case NodeMarkedUp():
            return replace(before, down_incarnation=None)


def _registered(event: NodeRegistered, before: NodeRow | None, cluster: ClusterId) -> NodeRow:
    """A new registration, or the proof of one that is there: only a proof for its own operator counts."""
    proven = _is_proof(event, cluster)
    if before is None or before.status == NodeStatus.GONE or before.operator != event.operator:
        return NodeRow(
            peer=event.peer,
            operator=event.operator,
            status=NodeStatus.PENDING.value,
            proven=proven,
            registered_rv=event.rv,
        )
    return replace(before, proven=before.proven or proven)


def _is_proof(event: NodeRegistered, cluster: ClusterId) -> bool:
    if not event.proof:
        return False
    try:
        check_possession(event.proof, cluster, event.peer, event.operator)
    except Untrusted as error:
        logger.warning("the proof of possession of %s is ignored: %s", peer_id_text(event.peer), error)
        return False
    return True


def _checked_info(data: bytes, peer: PeerId, before: NodeRow, cluster: ClusterId) -> NodeInfo | None:
    try:
        info = open_signed(decode(data, Signed), cluster, NodeInfo, by=peer)
    except Untrusted as error:
        logger.warning("the node info of %s is ignored: %s", peer_id_text(peer), error)
        return None
    if info.peer != peer:
        logger.warning("the node info of %s is ignored: it describes another peer", peer_id_text(peer))
        return None
    if before.info is not None and info.sequence <= before.info.sequence:
        logger.warning("the node info of %s is ignored: an older one than what is known", peer_id_text(peer))
        return None
    return info

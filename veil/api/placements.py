"""The placement log as objects: one Placement for each leaf. A leaf says nothing to those who do not know its salt. Pure."""

from veil.api.assemble import API_VERSION
from veil.store.objects import Obj
from veil.store.rows import LogRow
from veil.wire.rounds import LeafBatch


def placements(row: LogRow, batch: LeafBatch | None) -> list[Obj]:
    """The Placements of one append; one without a leaf when nobody reachable has its ``batch`` (the content of ``row.data``)."""
    leaves: list[bytes] = list(batch.leaves) if batch else [b""]
    return [_placement(row, index, leaf, known=batch is not None) for index, leaf in enumerate(leaves)]


def _placement(row: LogRow, index: int, leaf: bytes, *, known: bool) -> Obj:
    name = f"{row.shard}-{row.sequence}" + (f"-{index}" if known else "")
    spec: Obj = {
        "shard": row.shard,
        "sequence": row.sequence,
        "root": row.root.hex(),
        "count": row.count,
        "sender": row.sender,
        "block": row.block,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "Placement",
        "metadata": {"name": name, "labels": {"veil.dev/shard": str(row.shard)}},
        "spec": spec | ({"index": index, "leaf": leaf.hex()} if known else {}),
    }

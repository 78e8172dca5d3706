"""`veil dispute`: accusing a node over what is in the placement log or was anchored, and what became of it.

No contract can judge a decision on ciphertexts: an arbiter reads the evidence and decides. `veil audit` says first whether
there is anything to accuse anybody of.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.registry import directory_option, keystore_option, output_option, print_fields, registry, registry_read
from veil.cli.values import CONTENT, DIGEST, ETHER, PEER, ether, utc

if TYPE_CHECKING:
    from veil.chain.client import RegistryChain
    from veil.store.projection import Projection
    from veil.types import Digest, PeerId, Shard

LEAF = re.compile(r"([0-9]{1,2})-([0-9]{1,18})-([0-9]{1,4})")
APPEND = re.compile(r"([0-9]{1,2})-([0-9]{1,18})")


@click.group()
def dispute() -> None:
    """Accuse a node over what is on chain; see, decide and close disputes."""


@dispute.command("open")
@click.argument("placement", required=False, default="")
@click.option("--note", type=DIGEST, help="what was given to anchorDeployment, instead of a PLACEMENT")
@click.option("--accused", type=PEER, required=True, help="the node that is to blame")
@click.option("--evidence", type=CONTENT, required=True, help="a file, such as `veil audit … -o json` wrote")
@click.option("--bond", type=ETHER, help="in ether; by default what the registry asks for")
@output_option
@keystore_option
@directory_option
def open_(
    placement: str,
    note: "Digest | None",
    accused: "PeerId",
    evidence: bytes,
    bond: int | None,
    output: str,
    keystore: "Path | str | None",
    directory: Path,
) -> None:
    """Dispute PLACEMENT (SHARD-SEQUENCE-INDEX, as `veil get placements` names leaves), an append as a whole
    (SHARD-SEQUENCE: its sender was not among the first ranks), or a note.

    The bond comes back unless the dispute is rejected. The registry gets the digest of the evidence; the file itself is kept by
    the node in --dir, for whoever decides.
    """
    from veil.errors import ConfigInvalid

    if bool(placement) == (note is not None):
        raise ConfigInvalid("what is disputed?", hint="name a placement, or a note with --note")
    if placement and LEAF.fullmatch(placement) is None and APPEND.fullmatch(placement) is None:
        raise ConfigInvalid(
            f"{placement!r} is neither a leaf nor an append",
            hint="SHARD-SEQUENCE-INDEX, as in `veil get placements`, or SHARD-SEQUENCE",
        )
    _show(asyncio.run(_open(placement, note, accused, evidence, bond, keystore, directory)), output)


async def _open(
    placement: str,
    note: "Digest | None",
    accused: "PeerId",
    evidence: bytes,
    bond_wei: int | None,
    keystore: "Path | str | None",
    directory: Path,
) -> dict[str, Any]:
    from veil.mesh.blobs import BlobStore

    blobs = BlobStore(directory / "blobs")
    async with registry_read(directory, keystore) as (chain, projection):
        bond = (await chain.stake_terms()).dispute_bond_wei if bond_wei is None else bond_wei
        about: dict[str, Any] = {"accused": accused, "evidence": blobs.put(evidence), "bond_wei": bond}
        if note is not None:
            return await _fields(chain, await chain.dispute_deployment(note, **about))
        if APPEND.fullmatch(placement) is not None:
            return await _fields(chain, await chain.dispute_append(*_append(placement, accused, projection), **about))
        shard, sequence, leaf, proof = _leaf(placement, projection, blobs)
        return await _fields(chain, await chain.dispute_placement(shard, sequence, leaf, proof, **about))


def _append(placement: str, accused: "PeerId", projection: "Projection") -> "tuple[Shard, int]":
    """The shard and the sequence. Raises NotFound, and ConfigInvalid where ``accused`` is no node of the append's sender."""
    from veil.errors import ConfigInvalid, NotFound
    from veil.identity import peer_id_text
    from veil.types import Shard

    shard, sequence = map(int, placement.split("-"))
    row = projection.log_at(shard, sequence)
    if row is None:
        raise NotFound(f"there is no append {placement} in the placement log", hint="see `veil get placements`")
    theirs = [node.peer for node in projection.nodes() if node.operator == row.sender]
    if accused not in theirs:
        named = ", ".join(peer_id_text(peer) for peer in theirs) or "it operates no node now: accuse nobody of it"
        raise ConfigInvalid(f"append {placement} was sent by {row.sender}, who does not operate the accused", hint=named)
    return Shard(shard), sequence


def _leaf(placement: str, projection: "Projection", blobs: Any) -> Any:
    """The shard, the sequence, the leaf and its proof. Raises NotFound."""
    from veil.errors import NotFound
    from veil.types import Digest, Shard
    from veil.wire.codec import decode
    from veil.wire.merkle import proof_of
    from veil.wire.rounds import LeafBatch

    found = LEAF.fullmatch(placement)
    assert found is not None
    shard, sequence, index = map(int, found.groups())
    row = projection.log_at(shard, sequence)
    if row is None or index >= row.count:
        raise NotFound(f"there is no leaf {placement} in the placement log", hint="see `veil get placements`")
    try:
        leaves = [Digest(leaf) for leaf in decode(blobs.read(row.data), LeafBatch).leaves]
    except NotFound as error:
        raise NotFound(
            f"the leaves of append {shard}-{sequence} are not in {blobs.directory}",
            hint="use the directory of the node that appended, or of the one that won",
        ) from error
    return Shard(shard), sequence, leaves[index], proof_of(leaves, index)


@dispute.command("list")
@click.option("--all", "every", is_flag=True, help="also those that are closed")
@output_option
@directory_option
def list_(every: bool, output: str, directory: Path) -> None:
    """Show the open disputes, oldest first."""

    async def read() -> list[dict[str, Any]]:
        from veil.chain.disputes import read_disputes
        from veil.chain.records import DisputeStatus

        async with registry(directory, None) as chain:
            disputes = await read_disputes(chain)
            return [await _fields(chain, one) for one, status in disputes.items() if every or status is DisputeStatus.OPEN]

    found = asyncio.run(read())
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("no disputes" if every else "no open disputes", err=True)
    for fields in found:
        click.echo(f"{fields['dispute']}  {fields['status']:<9} {fields['accused']}  until {fields['decideBefore']}")


@dispute.command()
@click.argument("which", metavar="DISPUTE", type=DIGEST)
@output_option
@directory_option
def show(which: "Digest", output: str, directory: Path) -> None:
    """Show one dispute: who accuses whom, with which bond, until when it is decided."""

    async def read() -> dict[str, Any]:
        async with registry(directory, None) as chain:
            return await _fields(chain, which)

    _show(asyncio.run(read()), output)


@dispute.command()
@click.argument("which", metavar="DISPUTE", type=DIGEST)
@click.option("--uphold", "upheld", flag_value=True, type=bool, help="the accuser is right: the bond goes back")
@click.option("--reject", "upheld", flag_value=False, type=bool, help="the accuser is wrong: the bond is forfeited")
@click.option("--slash", type=ETHER, help="with --uphold: of the accused's stake, in ether, at most all of it")
@click.option("--reason", type=CONTENT, required=True, help="a file that says why")
@output_option
@keystore_option
@directory_option
def resolve(
    which: "Digest",
    upheld: bool | None,
    slash: int | None,
    reason: bytes,
    output: str,
    keystore: "Path | str | None",
    directory: Path,
) -> None:
    """Decide DISPUTE, by an arbiter: once, and for good."""
    from veil.errors import ConfigInvalid

    if upheld is None or (slash and not upheld):
        raise ConfigInvalid("who is right?", hint="--uphold (with --slash AMOUNT, if the stake is to suffer) or --reject")

    async def act() -> dict[str, Any]:
        from veil.mesh.blobs import BlobStore

        digest = BlobStore(directory / "blobs").put(reason)
        async with registry(directory, keystore) as chain:
            await chain.resolve_dispute(which, upheld=upheld, slash_wei=slash or 0, reason=digest)
            return await _fields(chain, which)

    _show(asyncio.run(act()), output)


@dispute.command()
@click.argument("which", metavar="DISPUTE", type=DIGEST)
@output_option
@keystore_option
@directory_option
def lapse(which: "Digest", output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Close DISPUTE, which no arbiter decided in time; by anybody. The bond goes back to the accuser."""

    async def act() -> dict[str, Any]:
        async with registry(directory, keystore) as chain:
            await chain.lapse_dispute(which)
            return await _fields(chain, which)

    _show(asyncio.run(act()), output)


async def _fields(chain: "RegistryChain", which: "Digest") -> dict[str, Any]:
    """What the registry has of a dispute. Raises NotFound."""
    from veil.chain.records import DisputeStatus
    from veil.errors import NotFound
    from veil.identity import peer_id_text

    found = await chain.get_dispute(which)
    if found.status is DisputeStatus.NONE:
        raise NotFound(f"there is no dispute {which.hex()}", hint="see `veil dispute list --all`")
    return {
        "dispute": which.hex(),
        "status": found.status.value,
        "accused": peer_id_text(found.accused),
        "by": found.by,
        "bondEther": ether(found.bond_wei),
        "decideBefore": utc(found.deadline_s),
        "stakeEther": ether((await chain.stake_of(found.accused)).amount_wei),
    }


def _show(fields: dict[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        print_fields(fields)

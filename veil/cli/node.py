"""`veil node`: running one node, and its membership: registering, approving, staking, leaving."""

import asyncio
import json
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.cordon import cordon, drain, uncordon
from veil.cli.registry import directory_option, keystore_option, output_option, print_fields, registry, registry_read
from veil.cli.values import ADDRESS, CONTENT, ETHER, PEER, ether, utc

if TYPE_CHECKING:
    from veil.chain.client import RegistryChain
    from veil.types import Address, PeerId


@click.group()
def node() -> None:
    """Run a node; make it a member, and let it leave."""


for command in (cordon, uncordon, drain):
    node.add_command(command)


@node.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True, help="the node's directory")
@click.option("--log-level", default="INFO", show_default=True, type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
def run(directory: Path, log_level: str) -> None:
    """Run the node of a directory until SIGTERM or SIGINT. Its containers go on when it ends."""
    from veil.config import load_settings

    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    settings = load_settings(directory.expanduser().resolve())
    asyncio.run(_run(settings))


async def _run(settings: object) -> None:
    from veil.config import NodeSettings
    from veil.node.node import Node

    assert isinstance(settings, NodeSettings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Node(settings).run(stop)


@node.command()
@output_option
@keystore_option
@directory_option
def register(output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Register the node of --dir, with the proof that its key and the operator's account belong together.

    A node that was registered without a proof (or by an administrator) gives its proof. It works once an administrator has
    approved it.
    """
    _show(asyncio.run(_register(keystore, directory)), output, "an administrator approves it: `veil node approve PEER --dir …`")


async def _register(keystore: "Path | str | None", directory: Path) -> dict[str, Any]:
    from veil.errors import Conflict
    from veil.identity import Identity
    from veil.wire.nodes import prove_possession

    identity = Identity.load(directory / "peer.key")
    async with registry_read(directory, keystore) as (chain, projection):
        row = projection.node(identity.peer_id)
        proof = prove_possession(identity, chain.cluster, chain.operator)
        if row is None or row.status == "Gone":
            await chain.register_node_with_proof(identity.peer_id, chain.operator, proof)
        elif row.operator != chain.operator:
            raise Conflict(
                f"the node is registered with the operator {row.operator}, this account is {chain.operator}",
                hint="sign with that account, or have an administrator remove a squatter",
            )
        elif not row.proven:
            await chain.prove_node(identity.peer_id, proof)
        return await _registered(chain, identity.peer_id)


@node.command()
@click.argument("peer", type=PEER)
@output_option
@keystore_option
@directory_option
def approve(peer: "PeerId", output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Make the node PEER a member; by an administrator. Its proof is verified first, which the chain cannot do."""
    _show(asyncio.run(_approve(peer, keystore, directory)), output, "it is a member")


async def _approve(peer: "PeerId", keystore: "Path | str | None", directory: Path) -> dict[str, Any]:
    from veil.errors import NotFound, SignatureInvalid

    async with registry_read(directory, keystore) as (chain, projection):
        row = projection.node(peer)
        if row is None or row.status == "Gone":
            raise NotFound("no such node is registered", hint="its operator runs `veil node register`")
        if not row.proven:
            raise SignatureInvalid(
                "the node has no valid proof that its key and its operator's account belong together",
                hint="its operator runs `veil node register`; remove it if it is a squatter",
            )
        await chain.approve_node(peer)
        return await _registered(chain, peer)


@node.command()
@click.argument("amount", type=ETHER)
@click.option("--peer", type=PEER, help="another node than that of --dir")
@output_option
@keystore_option
@directory_option
def stake(amount: int, peer: "PeerId | None", output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Add AMOUNT (in ether) to the node's stake. It is liable while the node is a member, and for a time after it left."""

    async def act() -> dict[str, Any]:
        async with registry(directory, keystore) as chain:
            whom = peer or _own_peer(directory)
            await chain.stake(whom, amount)
            return await _registered(chain, whom)

    _show(asyncio.run(act()), output, "")


@node.command()
@output_option
@keystore_option
@directory_option
def leave(output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Take the node of --dir out: first no new work, then, when its stake is free, for good. Run it again for each step.

    A member becomes Leaving: its replicas are placed elsewhere. After the unbonding period the same command makes it Gone and
    pays the stake out to the operator's account. A Pending node is Gone at once.
    """
    _show(asyncio.run(_leave(keystore, directory)), output, "")


async def _leave(keystore: "Path | str | None", directory: Path) -> dict[str, Any]:
    from veil.chain.ports import NodeStatus
    from veil.errors import Conflict, NotFound

    peer = _own_peer(directory)
    async with registry_read(directory, keystore) as (chain, projection):
        row = projection.node(peer)
        if row is None or row.status == "Gone":
            raise NotFound("the node is not registered", hint="there is nothing to leave")
        if row.status in ("Active", "Cordoned"):
            await chain.set_node_status(peer, NodeStatus.LEAVING)
            return await _registered(chain, peer)
        bond = await chain.stake_of(peer)
        if row.status == "Leaving" and bond.disputes:
            raise Conflict(f"{bond.disputes} disputes against the node are open", hint="wait until they are decided or lapse")
        await chain.set_node_status(peer, NodeStatus.GONE)
        paid = await chain.credit_of(chain.operator)
        if paid:
            await chain.withdraw(chain.operator)
        return await _registered(chain, peer) | {"paidOutEther": ether(paid)}


@node.command()
@click.argument("peer", type=PEER)
@click.option("--no-more", is_flag=True, help="take it back: the labels are the node's own word again")
@output_option
@keystore_option
@directory_option
def vouch(peer: "PeerId", no_more: bool, output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Vouch for the labels that the node PEER says it has now; by an administrator, who has looked.

    From then on labels of the node count only while they are exactly these. (Its host name is its own.)
    """
    _show(asyncio.run(_vouch(peer, no_more, keystore, directory)), output, "")


async def _vouch(peer: "PeerId", no_more: bool, keystore: "Path | str | None", directory: Path) -> dict[str, Any]:
    from veil.errors import NotFound
    from veil.types import Digest
    from veil.wire.nodes import HOSTNAME_LABEL, labels_digest

    async with registry_read(directory, keystore) as (chain, projection):
        row = projection.node(peer)
        if row is None or row.info is None or row.status == "Gone":
            raise NotFound("the node has not said anything of itself yet", hint="start it, once it is approved")
        labels = {name: value for name, value in row.info.labels.items() if name != HOSTNAME_LABEL}
        await chain.set_node_labels(peer, Digest(bytes(32)) if no_more else labels_digest(labels))
        said = [f"{name}={value}" for name, value in sorted(labels.items())]
        return await _registered(chain, peer) | {"labels": said, "vouched": not no_more}


@node.command()
@click.argument("peer", type=PEER)
@click.argument("amount", type=ETHER)
@click.option("--reason", type=CONTENT, required=True, help="a file that says why")
@output_option
@keystore_option
@directory_option
def slash(peer: "PeerId", amount: int, reason: bytes, output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Take AMOUNT (in ether, at most all of it) of the stake of PEER for the pool; by an arbiter.

    The registry gets the digest of the file with the reason; the file itself is kept by the node in --dir, for whoever asks.
    """

    async def act() -> dict[str, Any]:
        from veil.mesh.blobs import BlobStore

        digest = BlobStore(directory / "blobs").put(reason)
        async with registry(directory, keystore) as chain:
            await chain.slash(peer, amount, digest)
            return await _registered(chain, peer) | {"reason": digest.hex(), "poolEther": ether(await chain.slashed_pool())}

    _show(asyncio.run(act()), output, "")


@node.command()
@click.option("--to", type=ADDRESS, help="the account that gets it; by default the one that signs")
@output_option
@keystore_option
@directory_option
def withdraw(to: "Address | None", output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Pay out everything that the registry owes the account that signs: stakes that are free, bonds that came back."""

    async def act() -> dict[str, Any]:
        async with registry(directory, keystore) as chain:
            owed = await chain.credit_of(chain.operator)
            await chain.withdraw(to or chain.operator)
            return {"account": chain.operator, "to": to or chain.operator, "paidOutEther": ether(owed)}

    _show(asyncio.run(act()), output, "")


async def _registered(chain: "RegistryChain", peer: "PeerId") -> dict[str, Any]:
    """What the registry has of the node now."""
    from veil.chain.logs import STATUSES
    from veil.identity import peer_id_text

    found = await chain.read("getNode", peer)
    operator, status = found[0], STATUSES[found[1]]
    bond = await chain.stake_of(peer)
    fields = {
        "peer": peer_id_text(peer),
        "operator": operator,
        "status": str(status or "Gone"),
        "stakeEther": ether(bond.amount_wei),
    }
    if status == "Leaving":
        fields["stakeFreeAt"] = utc(bond.unbond_at_s)
    return fields


def _own_peer(directory: Path) -> "PeerId":
    from veil.identity import Identity

    return Identity.load(directory / "peer.key").peer_id


def _show(fields: dict[str, Any], output: str, next_step: str) -> None:
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
        return
    print_fields(fields)
    if next_step:
        click.echo(next_step.replace("PEER", fields["peer"]), err=True)

"""`veil key`: node keys, determinism classes, key ceremonies, and the life of key epochs on the chain."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.output import columns
from veil.cli.registry import PATH, directory_option, keystore_option, output_option, print_fields, registry, registry_read

if TYPE_CHECKING:
    from veil.node.dealing import Dealt
    from veil.node.epoch_admin import EpochState
    from veil.node.keyplan import KeyPlan
    from veil.types import Digest
    from veil.wire.nodes import KeyEpoch


@click.group()
def key() -> None:
    """Node keys and key epochs."""


@key.command()
@click.argument("file", type=PATH)
def generate(file: Path) -> None:
    """Make a node's key in FILE, and print its peer ID. An existing file is left alone."""
    from veil.errors import AlreadyExists
    from veil.identity import Identity, peer_id_text

    identity = Identity.generate()
    try:
        identity.save(file)
    except FileExistsError as error:
        raise AlreadyExists(f"{file} is there already", hint="a node's key is never replaced: name another file") from error
    click.echo(peer_id_text(identity.peer_id))


@key.command()
@click.option("--parameters", type=click.Choice(["plain", "flooded"]), help="the ceremony's parameter set")
@directory_option
def classes(parameters: str | None, directory: Path) -> None:
    """Find out which determinism classes this machine reaches, and print the signed entry for a committee file.

    Run it on each member's machine. It takes some seconds and needs neither the node nor an epoch.
    """
    asyncio.run(_classes(parameters, directory))


async def _classes(parameters: str | None, directory: Path) -> None:
    from veil.dev.steps import Steps
    from veil.fhe.material import Parameters
    from veil.fhe.probe import reachable_classes
    from veil.identity import Identity
    from veil.node.committee import entry, sign_report
    from veil.node.keyplan import DEFAULT_PARAMETERS

    wanted: Parameters = "flooded" if parameters == "flooded" else "plain" if parameters else DEFAULT_PARAMETERS
    steps = Steps()
    identity = Identity.load(directory / "peer.key")
    async with registry(directory, None) as chain:
        with steps.step("probe compiled and evaluated"):
            found = await reachable_classes(wanted)
        report = sign_report(identity, chain.cluster, found)
    steps.note(f"class {', '.join(one.hex()[:12] for one in found.classes)} under the parameter set {wanted}")
    if not found.pinned:
        steps.note("the Fourier plan cannot be pinned here: evaluators are restarted until they are in the epoch's class")
    click.echo(entry(identity.peer_id, report), nl=False)


@key.command()
@click.option("--committee", type=PATH, required=True, help="the members' entries, as `veil key classes` prints them")
@click.option("--threshold", type=click.IntRange(1, 32), help="how many members decrypt: over half of them, and not all")
@click.option("--epoch", type=click.IntRange(1), help="the epoch's number; by default one more than the registry's last")
@click.option("--parameters", type=click.Choice(["plain", "flooded"]), help="the parameter set")
@click.option("--mode", type=click.Choice(["threshold", "designated"]), help="designated: one node holds the whole key")
@click.option("--config", "plan_file", type=PATH, help="a KeyPlan, see manifests/keys; what is given here counts more")
@click.option("--out", type=PATH, help="a new directory for what is to be published; by default ./epoch-NUMBER")
@output_option
@directory_option
def ceremony(
    committee: Path,
    threshold: int | None,
    epoch: int | None,
    parameters: str | None,
    mode: str | None,
    plan_file: Path | None,
    out: Path | None,
    output: str,
    directory: Path,
) -> None:
    """Make a key epoch: compile circuits, generate keys, seal a share to each member, destroy the secret.

    This machine is trusted for the time that it takes: whoever reads its memory then has the key. Nothing secret is left in
    the --out directory. Publish it with `veil key publish`.
    """
    plan = _plan(plan_file, threshold, parameters, mode)
    dealt, where = asyncio.run(_ceremony(plan, committee, epoch, out, directory))
    _show_dealt(dealt, where, output)


def _plan(plan_file: Path | None, threshold: int | None, parameters: str | None, mode: str | None) -> "KeyPlan":
    from dataclasses import replace

    from veil.errors import ConfigInvalid
    from veil.node.keyplan import KeyPlan, read_plan

    given = {name: value for name, value in (("threshold", threshold), ("parameters", parameters), ("mode", mode)) if value}
    if plan_file is not None:
        plan = read_plan(plan_file)
        return replace(plan, **given, members=None if "threshold" in given else plan.members)  # type: ignore[arg-type]
    if mode == "designated":
        given.setdefault("threshold", 1)
    if "threshold" not in given:
        raise ConfigInvalid("how many members decrypt?", hint="give --threshold, or a plan with --config")
    return KeyPlan(**given)  # type: ignore[arg-type]


async def _ceremony(
    plan: "KeyPlan", committee_file: Path, number: int | None, out: Path | None, directory: Path
) -> "tuple[Dealt, Path]":
    from veil.dev.steps import Steps
    from veil.fhe.probe import reachable_classes
    from veil.node.committee import read_committee
    from veil.node.dealing import hold, next_number
    from veil.node.epoch_files import check_empty
    from veil.node.membership import members_of

    steps = Steps()
    async with registry_read(directory, None) as (chain, projection):
        committee = read_committee(committee_file, chain.cluster, members_of(projection))
        epoch = next_number(projection, number)
    plan = plan.for_committee(len(committee.peers))
    where = out or Path.cwd() / f"epoch-{epoch}"
    check_empty(where)
    with steps.step("determinism class of this machine"):
        dealer = await reachable_classes(plan.parameters)
    return await hold(plan, committee, epoch, dealer=dealer, directory=where, progress=steps), where


def _show_dealt(dealt: "Dealt", where: Path, output: str) -> None:
    from veil.identity import peer_id_text

    abstaining = [peer_id_text(peer) for peer in dealt.abstaining]
    fields = _epoch_fields(dealt.epoch) | {
        "digest": dealt.digest.hex(),
        "abstaining": abstaining,
        "sizeBytes": dealt.size_bytes,
        "directory": str(where),
    }
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
        return
    print_fields(fields)
    for peer in abstaining:
        click.echo(f"warning: {peer} does not reach the epoch's determinism class: it will abstain", err=True)
    click.echo(f"publish it with `veil key publish {where} --dir …`, on the machine of a node", err=True)


@key.command()
@click.argument("epoch_directory", type=PATH)
@keystore_option
@directory_option
def publish(epoch_directory: Path, keystore: Path | None, directory: Path) -> None:
    """Give a ceremony's blobs to the node in --dir, and announce the epoch on the chain.

    The other nodes fetch the blobs from that node. The first epoch works at once; a later one is prepared until
    `veil key activate`.
    """
    asyncio.run(_publish(epoch_directory, keystore, directory))


async def _publish(epoch_directory: Path, keystore: Path | None, directory: Path) -> None:
    from veil.chain.records import EpochParts
    from veil.mesh.blobs import BlobStore
    from veil.node.epoch_files import hand_over
    from veil.types import Epoch
    from veil.wire.codec import digest

    async with registry(directory, keystore) as chain:
        epoch = hand_over(epoch_directory, BlobStore(directory / "blobs"))
        await chain.publish_epoch(Epoch(epoch.epoch), digest(epoch), EpochParts.of(epoch))
    click.echo(f"epoch {epoch.epoch} published")


@key.command()
@click.argument("epoch", type=click.IntRange(1))
@click.option("--force", is_flag=True, help="also while workloads could not be placed in it")
@keystore_option
@directory_option
def activate(epoch: int, force: bool, keystore: Path | None, directory: Path) -> None:
    """Let EPOCH take over: every epoch before it is retired. Running containers are not touched."""

    async def act() -> None:
        from veil.node import epoch_admin
        from veil.types import Epoch

        async with registry_read(directory, keystore) as (chain, projection):
            here = _fetched(directory, epoch_admin.state_of(projection, epoch).digest)
            threshold = here.threshold if here is not None else 0
            retired = await epoch_admin.activate(chain, projection, Epoch(epoch), threshold=threshold, force=force)
        for one in retired:
            click.echo(f"epoch {one} retired")
        click.echo(f"epoch {epoch} active")

    asyncio.run(act())


@key.command()
@click.argument("epoch", type=click.IntRange(1))
@click.option("--force", is_flag=True, help="also the only one: nothing is placed then")
@keystore_option
@directory_option
def retire(epoch: int, force: bool, keystore: Path | None, directory: Path) -> None:
    """Retire EPOCH for good: no new round uses it. One that is only prepared is withdrawn by this."""

    async def act() -> None:
        from veil.node import epoch_admin
        from veil.types import Epoch

        async with registry_read(directory, keystore) as (chain, projection):
            await epoch_admin.retire(chain, projection, Epoch(epoch), force=force)
        click.echo(f"epoch {epoch} retired")

    asyncio.run(act())


@key.command("list")
@output_option
@directory_option
def list_(output: str, directory: Path) -> None:
    """List the registry's key epochs.

    DEMAND: how many of the workloads can be placed in it. SHARES: how many members have taken their share.
    """

    async def read() -> list[dict[str, Any]]:
        from veil.node.epoch_admin import states

        async with registry_read(directory, None) as (_, projection):
            return [_state_fields(one) for one in states(projection)]

    found = asyncio.run(read())
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo("no key epochs", err=True)
    else:
        rows = [
            (one["epoch"], one["state"], f"{one['demands']}/{one['workloads']}", one["sharesTaken"], one["digest"][:16])
            for one in found
        ]
        click.echo("\n".join(columns(("EPOCH", "STATE", "DEMAND", "SHARES", "DIGEST"), rows)))


@key.command()
@click.argument("epoch", type=click.IntRange(1))
@output_option
@directory_option
def show(epoch: int, output: str, directory: Path) -> None:
    """Show one epoch: committee, threshold, circuits. What the registry has only the digest of, the node in --dir must have."""

    async def read() -> dict[str, Any]:
        from veil.node.epoch_admin import state_of

        async with registry_read(directory, None) as (_, projection):
            found = state_of(projection, epoch)
        epoch_here = _fetched(directory, found.digest)
        if epoch_here is None:
            click.echo("warning: this node has not fetched the epoch yet: only what the chain says is shown", err=True)
        return _state_fields(found) | (_epoch_fields(epoch_here) if epoch_here is not None else {})

    fields = asyncio.run(read())
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        print_fields(fields)


def _fetched(directory: Path, digest: "Digest") -> "KeyEpoch | None":
    """An epoch as the node in ``directory`` has it."""
    from veil.errors import NotFound
    from veil.mesh.blobs import BlobStore
    from veil.wire.codec import decode
    from veil.wire.nodes import KeyEpoch

    try:
        return decode(BlobStore(directory / "blobs").read(digest), KeyEpoch)
    except NotFound:
        return None


def _state_fields(found: "EpochState") -> dict[str, Any]:
    return {
        "epoch": found.epoch,
        "state": found.state,
        "demands": found.demands,
        "workloads": found.workloads,
        "sharesTaken": found.taken,
        "digest": found.digest.hex(),
    }


def _epoch_fields(epoch: "KeyEpoch") -> dict[str, Any]:
    from veil.identity import peer_id_text
    from veil.types import PeerId

    return {
        "epoch": epoch.epoch,
        "mode": epoch.mode,
        "parameters": epoch.parameters,
        "threshold": epoch.threshold,
        "committee": [peer_id_text(PeerId(peer)) for peer in epoch.committee],
        "circuits": [circuit.name for circuit in epoch.circuits],
        "class": [known.hex()[:12] for known in epoch.classes],
        "maxDecryptions": epoch.max_decryptions,
        "floodingBits": epoch.flooding_bits,
    }

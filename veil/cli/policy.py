"""`veil policy`: what the cluster has agreed on, as the registry holds it."""

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.registry import directory_option, keystore_option, output_option, print_fields, registry, registry_read
from veil.cli.values import ANY_ETHER, ether

if TYPE_CHECKING:
    from veil.chain.client import RegistryChain
    from veil.mesh.blobs import BlobStore
    from veil.store.projection import Projection
    from veil.wire.images import ImageList
    from veil.wire.policy import ClusterPolicy


class _Manifest(click.ParamType[bytes]):
    """An image by the digest of its manifest."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        found = re.fullmatch(r"(?:[^@\s]+@)?sha256:([0-9a-f]{64})", value)
        if found is None:
            self.fail(f"{value!r} names no manifest: NAME@sha256: and 64 hexadecimal digits", param, ctx)
        return bytes.fromhex(found[1])


MANIFEST = _Manifest()


@click.group()
def policy() -> None:
    """The cluster's policy."""


@policy.command()
@output_option
@directory_option
def get(output: str, directory: Path) -> None:
    """Show the policy that all nodes apply."""

    async def read() -> "ClusterPolicy":
        async with registry_read(directory, None) as (_, projection):
            return _policy_of(projection)

    _show(asyncio.run(read()), output)


@policy.command("set")
@click.option("--profile", type=click.Choice(["default", "precise"]), help="of all placement rounds")
@click.option("--transcript-retention-s", type=click.IntRange(0, 365 * 24 * 3600), help="how long rounds can be audited")
@click.option(
    "--decisions-per-candidate",
    type=click.IntRange(1, 1_000_000),
    help="of one key epoch, with any one node among the candidates: a malicious one learns about a bit of the key from each",
)
@output_option
@keystore_option
@directory_option
def set_(output: str, keystore: Path | None, directory: Path, **given: Any) -> None:
    """Change what is given and leave the rest as it is. Nodes follow within a block.

    The active key epoch must have circuits of the profile, or nothing is placed: see `veil key show`.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    _show(asyncio.run(_set(changes, keystore, directory)), output)


async def _set(changes: dict[str, Any], keystore: Path | None, directory: Path) -> "ClusterPolicy":
    from msgspec.structs import replace

    from veil.errors import ConfigInvalid
    from veil.wire.codec import encode

    if not changes:
        raise ConfigInvalid("nothing to change", hint="give at least one option: see `veil policy set --help`")
    async with registry_read(directory, None) as (_, projection):
        wanted = replace(_policy_of(projection), **changes)
    async with registry(directory, keystore) as chain:
        await chain.set_policy(encode(wanted))
    return wanted


@policy.command("allow-image")
@click.argument("images", nargs=-1, type=MANIFEST)
@click.option("--remove", is_flag=True, help="take IMAGES out of the list instead")
@click.option("--any", "every", is_flag=True, help="allow every image again")
@output_option
@keystore_option
@directory_option
def allow_image(
    images: tuple[bytes, ...], remove: bool, every: bool, output: str, keystore: "Path | str | None", directory: Path
) -> None:
    """Allow IMAGES (NAME@sha256:… or sha256:…) besides those that are allowed; with the first one, no others are.

    The registry gets a Merkle root over the list; the list itself is kept by the node in --dir, from which the others fetch it.
    """
    from veil.errors import ConfigInvalid

    if bool(images) == every:
        raise ConfigInvalid("which images?", hint="name images by digest, or all of them with --any")
    found = asyncio.run(_allow(images, remove, every, keystore, directory))
    fields = {"root": found.root.hex(), "images": [f"sha256:{manifest.hex()}" for manifest in found.manifests]}
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        print_fields(fields)


@policy.command("stake-terms")
@click.option("--min-stake", "min_stake_wei", type=ANY_ETHER, help="in ether: below it no node is Active")
@click.option("--dispute-bond", "dispute_bond_wei", type=ANY_ETHER, help="in ether: what opening a dispute takes at least")
@click.option("--unbond-period-s", type=click.IntRange(0, 365 * 24 * 3600), help="how long a stake is liable after its node left")
@click.option("--resolve-period-s", type=click.IntRange(0, 365 * 24 * 3600), help="until then an arbiter decides a dispute")
@output_option
@keystore_option
@directory_option
def stake_terms(output: str, keystore: "Path | str | None", directory: Path, **given: int | None) -> None:
    """Show the terms of stakes and disputes, or change what is given, from now on: a node that is leaving keeps its date."""
    changes = {name: value for name, value in given.items() if value is not None}
    fields = asyncio.run(_terms(changes, keystore, directory))
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        print_fields(fields)


async def _terms(changes: dict[str, int], keystore: "Path | str | None", directory: Path) -> dict[str, Any]:
    from dataclasses import replace

    async with registry(directory, keystore) as chain:
        if changes:
            await chain.set_stake_terms(replace(await chain.stake_terms(), **changes))
        found = await chain.stake_terms()
        return {
            "minStakeEther": ether(found.min_stake_wei),
            "disputeBondEther": ether(found.dispute_bond_wei),
            "unbondPeriodSeconds": found.unbond_period_s,
            "resolvePeriodSeconds": found.resolve_period_s,
        }


@policy.command("pin-image")
@click.argument("image")
@click.option("--remove", is_flag=True, help="let IMAGE stand for whatever its registry says")
@output_option
@keystore_option
@directory_option
def pin_image(image: str, remove: bool, output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Say which manifest the name of IMAGE (NAME:TAG@sha256:…) stands for: nodes start no other under that name."""
    fields = asyncio.run(_pin(image, remove, keystore, directory))
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        print_fields(fields)


async def _pin(image: str, remove: bool, keystore: "Path | str | None", directory: Path) -> dict[str, str]:
    from veil.errors import ConfigInvalid
    from veil.node.allowed_images import image_name
    from veil.runtime.reference import parse_reference
    from veil.types import Digest

    wanted = parse_reference(image)
    if bool(wanted.digest) == remove:
        raise ConfigInvalid("which manifest?", hint="name it as NAME:TAG@sha256:…, or NAME:TAG with --remove")
    async with registry(directory, keystore) as chain:
        name, manifest = image_name(image), Digest(bytes.fromhex(wanted.digest.removeprefix("sha256:").rjust(64, "0")))
        await chain.commit_image(name, manifest)
        found = await chain.image_manifest(name)
    return {"image": str(wanted).partition("@")[0], "manifest": f"sha256:{found.hex()}" if any(found) else ""}


async def _allow(
    images: tuple[bytes, ...], remove: bool, every: bool, keystore: "Path | str | None", directory: Path
) -> "ImageList":
    from veil.errors import ConfigInvalid, Untrusted
    from veil.mesh.blobs import BlobStore
    from veil.types import Digest
    from veil.wire.codec import encode
    from veil.wire.images import ImageList

    blobs = BlobStore(directory / "blobs")
    async with registry(directory, keystore) as chain:
        before = ImageList() if every else await _allowed(chain, blobs)
        wanted = before if every else before.changed(removed=images) if remove else before.changed(added=images)
        if remove and not wanted.manifests:
            raise ConfigInvalid("this would allow every image: the list would be empty", hint="if you want that: --any")
        await chain.set_image_root(wanted.root, blobs.put(encode(wanted)))
        for manifest in () if remove else images:
            if not await chain.is_image_allowed(Digest(manifest), wanted.proof(manifest)):
                raise Untrusted(f"the registry does not allow {manifest.hex()} after all", hint="somebody else changed it")
    return wanted


async def _allowed(chain: "RegistryChain", blobs: "BlobStore") -> "ImageList":
    """The list that the registry names. Raises NotFound when this node does not have it."""
    from veil.chain.images import image_list_digest
    from veil.errors import NotFound
    from veil.wire.codec import decode
    from veil.wire.images import ImageList

    digest = await image_list_digest(chain)
    if digest is None:
        return ImageList()
    try:
        return decode(blobs.read(digest), ImageList)
    except NotFound as error:
        raise NotFound(
            f"the list of allowed images {digest.hex()} is not on this node",
            hint="use the directory of the node where it was made, or begin anew after `veil policy allow-image --any`",
        ) from error


@policy.command()
@click.argument("namespace", required=False, default="")
@click.option("--default", "everybody", is_flag=True, help="of each namespace that has no limit of its own")
@click.option("--decisions", type=click.IntRange(0, 2**32 - 1), help="set it; 0 for none of its own")
@output_option
@keystore_option
@directory_option
def limit(
    namespace: str, everybody: bool, decisions: int | None, output: str, keystore: "Path | str | None", directory: Path
) -> None:
    """Show, or set, how many placement decisions of one key epoch NAMESPACE may use.

    Members of the committee count them in their journals and decide no more: its workloads wait with the reason NamespaceLimit.
    """
    from veil.errors import ConfigInvalid

    if bool(namespace) == everybody:
        raise ConfigInvalid("whose limit?", hint="name a namespace, or all that have none of their own with --default")
    counts = asyncio.run(_limit(namespace, decisions, keystore, directory))
    fields = {"namespace": namespace or "*", "decisionsPerEpoch": counts or "unlimited"}
    if output == "json":
        click.echo(json.dumps({**fields, "decisionsPerEpoch": counts}, indent=2))
    else:
        print_fields(fields)


async def _limit(namespace: str, decisions: int | None, keystore: "Path | str | None", directory: Path) -> int:
    from veil.store.projection import EVERY_NAMESPACE
    from veil.wire.objects import object_id

    where = object_id(namespace, "")[:16] if namespace else EVERY_NAMESPACE
    async with registry(directory, keystore) as chain:
        if decisions is not None:
            await chain.set_decision_limit(where, decisions)
        return await chain.decision_limit(where)


@policy.command()
@click.option("--on/--off", "restricted", default=None, help="set it; left out: show what is so")
@output_option
@keystore_option
@directory_option
def restrict(restricted: bool | None, output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Show, or set, whether only holders of the role REQUESTER create namespaces, and so who may request placements at all.

    Namespaces that exist stay their owners'. `veil role grant REQUESTER ACCOUNT` says who may; in a namespace, its owner says who
    with `veil rights grant NAMESPACE ACCOUNT edit request`.
    """

    async def act() -> bool:
        async with registry(directory, keystore) as chain:
            if restricted is not None:
                await chain.set_restricted(restricted)
            return await chain.is_restricted()

    fields = {"namespacesRestricted": asyncio.run(act())}
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        print_fields(fields)


def _policy_of(projection: "Projection") -> "ClusterPolicy":
    from veil.wire.policy import read_policy

    return read_policy(projection.policy())


def _show(found: "ClusterPolicy", output: str) -> None:
    fields = {
        "profile": found.profile,
        "transcriptRetentionSeconds": found.transcript_retention_s,
        "decisionsPerCandidate": found.decisions_per_candidate,
    }
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        print_fields(fields)

"""`veil policy`: what the cluster has agreed on, as the registry holds it."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.registry import directory_option, keystore_option, output_option, print_fields, registry, registry_read

if TYPE_CHECKING:
    from veil.store.projection import Projection
    from veil.wire.policy import ClusterPolicy


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

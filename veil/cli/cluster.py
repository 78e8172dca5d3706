"""`veil cluster`: deploying a registry, looking at it, replacing its code."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.registry import (
    KEYSTORE,
    PATH,
    directory_option,
    keystore_option,
    output_option,
    print_fields,
    registry,
    signer_of,
)
from veil.cli.values import ADDRESS, ETHER, ether, utc

if TYPE_CHECKING:
    from veil.chain.client import RegistryChain
    from veil.chain.deploy import Deployment
    from veil.chain.governance import Status
    from veil.types import Address

DELAY_S = 48 * 3600
"""Of a new timelock: long enough to notice an upgrade and to leave."""


@click.group()
def cluster() -> None:
    """Deploy and administer a registry."""


@cluster.command()
@click.option("--rpc", envvar="VEIL_CHAIN_RPC", required=True, help="Ethereum JSON-RPC endpoints, comma separated")
@click.option("--keystore", type=KEYSTORE, help="who pays: a JSON keystore, a raw key's file, or URL#ADDRESS")
@click.option("--passphrase-file", type=PATH, envvar="VEIL_KEYSTORE_PASSPHRASE_FILE", help="the keystore's passphrase")
@click.option("--admin", type=ADDRESS, help="approves nodes, sets policy and keys, arbitrates; by default who pays")
@click.option("--guardian", type=ADDRESS, help="may pause, and nothing else; by default the admin")
@click.option("--proposer", "proposers", type=ADDRESS, multiple=True, help="schedules upgrades; by default the admin; repeatable")
@click.option("--delay-s", type=click.IntRange(0), default=DELAY_S, show_default=True, help="between scheduling and upgrading")
@output_option
def deploy(
    rpc: str,
    keystore: Path | str | None,
    passphrase_file: Path | None,
    admin: "Address | None",
    guardian: "Address | None",
    proposers: "tuple[Address, ...]",
    delay_s: int,
    output: str,
) -> None:
    """Put a registry on a chain: its code, a proxy, and a timelock that alone may replace the code and give out roles.

    Who pays keeps no role, unless it is named (or nobody is).
    """
    from veil.chain.deploy import deploy_governed

    signer = signer_of(keystore, passphrase_file)
    chosen = admin or signer.address
    done = asyncio.run(
        deploy_governed(
            [url.strip() for url in rpc.split(",")],
            signer,
            admin=chosen,
            guardian=guardian or chosen,
            proposers=proposers or (chosen,),
            delay_s=delay_s,
        )
    )
    _show_deployment(done, rpc, output)


def _show_deployment(done: "Deployment", rpc: str, output: str) -> None:
    fields = {
        "registry": done.registry,
        "block": done.block,
        "implementation": done.implementation,
        "timelock": done.timelock,
    }
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
        return
    print_fields(fields)
    click.echo("in each node's node.env:", err=True)
    click.echo(f"VEIL_CHAIN_RPC={rpc}\nVEIL_CONTRACT_ADDRESS={done.registry}\nVEIL_CONTRACT_BLOCK={done.block}", err=True)


@cluster.command()
@output_option
@directory_option
def status(output: str, directory: Path) -> None:
    """Show the registry of the node in --dir: its code, who holds which role, whether it is paused."""

    async def read() -> "tuple[RegistryChain, Status]":
        from veil.chain import governance

        async with registry(directory, None) as chain:
            return chain, await governance.status(chain)

    chain, found = asyncio.run(read())
    fields: dict[str, Any] = {
        "registry": chain.registry,
        "implementation": found.implementation,
        "extension": found.extension,
        "timelock": found.timelock,
        "delaySeconds": found.delay_s,
        "paused": found.paused,
        "resourceVersion": found.rv,
        "members": found.members,
        "downSigners": found.down_signers,
        "roles": found.roles,
        "endpointComplaints": chain.endpoints.complaints,
    }
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
        return
    fields["roles"] = [f"{role} {account}" for role, accounts in found.roles.items() for account in accounts]
    print_fields({name: "-" if value is None else value for name, value in fields.items()})


@cluster.command()
@click.option("--execute", "code", type=ADDRESS, help="do what was scheduled: the new code's address")
@output_option
@keystore_option
@directory_option
def upgrade(code: "Address | None", output: str, keystore: Path | str | None, directory: Path) -> None:
    """Replace the registry's code by that of this release. Its storage, its address and its events stay.

    Without --execute the new code is put on the chain and scheduled in the timelock. After the timelock's delay the same
    with --execute does it. A registry without a timelock is upgraded at once.
    """
    fields = asyncio.run(_upgrade(code, keystore, directory))
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
        return
    print_fields(fields)
    if fields["state"] == "Scheduled":
        click.echo(f"after that: `veil cluster upgrade --execute {fields['implementation']} --dir …`", err=True)


async def _upgrade(code: "Address | None", keystore: Path | str | None, directory: Path) -> dict[str, Any]:
    from veil.chain import governance

    async with registry(directory, keystore) as chain:
        if code is not None:
            operation = await governance.execute_upgrade(chain, code)
            return {"state": "Upgraded", "implementation": code, "timelock": operation.timelock}
        code, scheduled = await governance.schedule_upgrade(chain)
        if scheduled is None:
            return {"state": "Upgraded", "implementation": code}
        return {
            "state": "Scheduled",
            "implementation": code,
            "timelock": scheduled.timelock,
            "operation": scheduled.id.hex(),
            "readyAt": utc(scheduled.ready_at_s),
        }


@cluster.command("pay-pool")
@click.argument("account", type=ADDRESS)
@click.argument("amount", type=ETHER)
@click.option("--execute", is_flag=True, help="do what the same command scheduled, after the timelock's delay")
@output_option
@keystore_option
@directory_option
def pay_pool(account: "Address", amount: int, execute: bool, output: str, keystore: Path | str | None, directory: Path) -> None:
    """Credit ACCOUNT with AMOUNT (in ether) of what stakes and bonds forfeited. It gets it with `veil node withdraw`."""

    async def act() -> dict[str, Any]:
        from veil.chain import governance

        async with registry(directory, keystore) as chain:
            operation = await governance.pay_pool(chain, account, amount, execute=execute)
            fields: dict[str, Any] = {"state": "Paid", "account": account}
            if operation is not None and not execute:
                fields |= {"state": "Scheduled", "timelock": operation.timelock, "readyAt": utc(operation.ready_at_s)}
            left, owed = await chain.slashed_pool(), await chain.credit_of(account)
            return fields | {"poolEther": ether(left), "creditEther": ether(owed)}

    fields = asyncio.run(act())
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
        return
    print_fields(fields)
    if fields["state"] == "Scheduled":
        click.echo("after that: the same command with --execute", err=True)

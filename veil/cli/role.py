"""`veil role`: who holds which role of the registry. What a timelock administers is scheduled, and executed after its delay."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.registry import directory_option, keystore_option, output_option, print_fields, registry
from veil.cli.values import ADDRESS, utc

if TYPE_CHECKING:
    from veil.chain.governance import Operation
    from veil.types import Address

EXECUTE = click.option("--execute", is_flag=True, help="do what the same command scheduled, after the timelock's delay")


@click.group()
def role() -> None:
    """Who may administer the registry. ROLE: NODE_ADMIN, POLICY_ADMIN, …, or a name of your own, such as a team's."""


@role.command("list")
@output_option
@directory_option
def list_(output: str, directory: Path) -> None:
    """Show who holds each role, and which role administers it."""

    async def read() -> dict[str, Any]:
        from veil.chain.governance import role_admin, role_holders

        async with registry(directory, None) as chain:
            held = await role_holders(chain)
            return {name: {"holders": held[name], "admin": await role_admin(chain, name)} for name in sorted(held)}

    found = asyncio.run(read())
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    print_fields({f"{name} (by {entry['admin']})": entry["holders"] for name, entry in found.items()})


@role.command()
@click.argument("name", metavar="ROLE")
@click.argument("account", type=ADDRESS)
@EXECUTE
@output_option
@keystore_option
@directory_option
def grant(name: str, account: "Address", execute: bool, output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Give ROLE to ACCOUNT; by an account that holds the role's administrator's role, or through its timelock."""
    _show(asyncio.run(_change(name, account, True, execute, keystore, directory)), output)


@role.command()
@click.argument("name", metavar="ROLE")
@click.argument("account", type=ADDRESS)
@EXECUTE
@output_option
@keystore_option
@directory_option
def revoke(name: str, account: "Address", execute: bool, output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Take ROLE from ACCOUNT; as `veil role grant`."""
    _show(asyncio.run(_change(name, account, False, execute, keystore, directory)), output)


async def _change(
    name: str, account: "Address", held: bool, execute: bool, keystore: "Path | str | None", directory: Path
) -> dict[str, Any]:
    from veil.chain.governance import change_role

    async with registry(directory, keystore) as chain:
        operation = await change_role(chain, name, account, held=held, execute=execute)
        return {"role": name, "account": account, "held": await chain.has_role(name, account), **_state(operation, execute)}


@role.command("set-admin")
@click.argument("name", metavar="ROLE")
@click.argument("admin_role", metavar="ADMIN_ROLE")
@EXECUTE
@output_option
@keystore_option
@directory_option
def set_admin(name: str, admin_role: str, execute: bool, output: str, keystore: "Path | str | None", directory: Path) -> None:
    """Let the holders of ADMIN_ROLE grant and revoke ROLE from now on, so that a team looks after itself."""

    async def act() -> dict[str, Any]:
        from veil.chain.governance import change_role_admin, role_admin

        async with registry(directory, keystore) as chain:
            operation = await change_role_admin(chain, name, admin_role, execute=execute)
            return {"role": name, "admin": await role_admin(chain, name), **_state(operation, execute)}

    _show(asyncio.run(act()), output)


def _state(operation: "Operation | None", execute: bool) -> dict[str, str]:
    if operation is None or execute:
        return {"state": "Done"}
    ready = utc(operation.ready_at_s)
    return {"state": "Scheduled", "timelock": operation.timelock, "operation": operation.id.hex(), "readyAt": ready}


def _show(fields: dict[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
        return
    print_fields(fields)
    if fields["state"] == "Scheduled":
        click.echo("after that: the same command with --execute", err=True)

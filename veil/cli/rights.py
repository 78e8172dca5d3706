"""`veil rights`: what the owner of a namespace lets other accounts do in it."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.registry import directory_option, keystore_option, output_option, print_fields, registry, registry_read
from veil.cli.values import ADDRESS

if TYPE_CHECKING:
    from veil.chain.records import Right
    from veil.types import Address

NAMES = ("edit", "request", "view")
RIGHTS = click.argument("rights", type=click.Choice(NAMES), nargs=-1, required=True)


@click.group()
def rights() -> None:
    """Who may do what in a namespace, beside its owner.

    edit: create, change and delete objects; request: with edit, also those that nodes place; view: read what is sealed to
    home nodes (exact resources, confidential templates, statuses, logs) through nodes that the account operates.
    """


@rights.command("list")
@click.argument("namespace")
@output_option
@directory_option
def list_(namespace: str, output: str, directory: Path) -> None:
    """Show the owner of NAMESPACE, and whom it lets do what."""

    async def read() -> dict[str, Any]:
        from veil.chain.records import Right
        from veil.errors import NotFound
        from veil.wire.objects import KINDS, object_id

        async with registry_read(directory, None) as (_, projection):
            where = object_id(namespace, "")
            space = projection.object(KINDS["Namespace"], where)
            if space is None:
                raise NotFound(f"there is no namespace {namespace}", hint="see `veil get namespaces`")
            given = projection.rights_given(where[:16], space.owner)
            return {"namespace": namespace, "owner": space.owner, "rights": {a: _names(Right(r)) for a, r in given.items()}}

    found = asyncio.run(read())
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    print_fields(found | {"rights": [f"{account} {' '.join(names)}" for account, names in found["rights"].items()]})


@rights.command()
@click.argument("namespace")
@click.argument("account", type=ADDRESS)
@RIGHTS
@output_option
@keystore_option
@directory_option
def grant(
    namespace: str,
    account: "Address",
    rights: tuple[str, ...],
    output: str,
    keystore: "Path | str | None",
    directory: Path,
) -> None:
    """Give ACCOUNT RIGHTS (edit, request, view) in NAMESPACE besides those that it has; by the namespace's owner."""
    _show(asyncio.run(_change(namespace, account, rights, True, keystore, directory)), output)


@rights.command()
@click.argument("namespace")
@click.argument("account", type=ADDRESS)
@RIGHTS
@output_option
@keystore_option
@directory_option
def revoke(
    namespace: str,
    account: "Address",
    rights: tuple[str, ...],
    output: str,
    keystore: "Path | str | None",
    directory: Path,
) -> None:
    """Take RIGHTS (edit, request, view) in NAMESPACE from ACCOUNT; by the namespace's owner."""
    _show(asyncio.run(_change(namespace, account, rights, False, keystore, directory)), output)


@rights.command()
@click.argument("namespace")
@click.argument("account", type=ADDRESS, required=False)
@click.option("--role", help="give it to everybody who holds this role of the registry, such as a team's")
@output_option
@keystore_option
@directory_option
def transfer(
    namespace: str,
    account: "Address | None",
    role: str | None,
    output: str,
    keystore: "Path | str | None",
    directory: Path,
) -> None:
    """Give NAMESPACE away, to ACCOUNT or to a role; by its owner, for good. Rights that the owner gave end with that."""
    from veil.errors import ConfigInvalid

    if (account is None) == (role is None):
        raise ConfigInvalid("to whom?", hint="name an account, or a role with --role")
    _show(asyncio.run(_transfer(namespace, account, role, keystore, directory)), output)


async def _transfer(
    namespace: str, account: "Address | None", role: str | None, keystore: "Path | str | None", directory: Path
) -> dict[str, Any]:
    from veil.chain.records import role_id
    from veil.wire.objects import object_id

    half = object_id(namespace, "")[:16]
    async with registry(directory, keystore) as chain:
        if account is not None:
            await chain.set_namespace_owner(half, account)
        else:
            await chain.set_namespace_owner_role(half, role_id(role or ""))
        owner = await chain.namespace_owner(half)
        return {"namespace": namespace, "owner": owner.address, **({"role": role} if role else {})}


async def _change(
    namespace: str,
    account: "Address",
    names: tuple[str, ...],
    given: bool,
    keystore: "Path | str | None",
    directory: Path,
) -> dict[str, Any]:
    from veil.chain.records import Right
    from veil.errors import Conflict
    from veil.wire.objects import object_id

    half, meant = object_id(namespace, "")[:16], Right(sum(Right[name.upper()] for name in set(names)))
    async with registry(directory, keystore) as chain:
        owner = await chain.namespace_owner(half)
        if owner.address == account:
            raise Conflict(f"{account} owns {namespace} and may do everything", hint="nothing to give or take")
        before = await chain.rights_of(half, account)
        await chain.set_access(half, account, before | meant if given else before & ~meant)
        return {"namespace": namespace, "account": account, "rights": _names(await chain.rights_of(half, account))}


def _names(given: "Right") -> list[str]:
    from veil.chain.records import Right

    return [name for name in NAMES if Right[name.upper()] in given]


def _show(fields: dict[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        print_fields(fields)

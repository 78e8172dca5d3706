"""`veil apply`: checks every manifest here, then has the node apply each object (server-side apply)."""

import click

from veil.cli.connection import Connection, namespace_option
from veil.cli.manifests import in_namespace, load_manifests
from veil.cli.output import dump, progress, without_notes

CONFLICT_HINT = "leave these fields out of the manifest, or take them over with --force-conflicts"
MANAGER = "veil"


@click.command()
@click.option("-f", "--filename", "files", multiple=True, required=True, help="a manifest, a directory, or - (repeatable)")
@click.option("-R", "--recursive", is_flag=True, help="look into directories below directories")
@click.option("--force-conflicts", is_flag=True, help="take over fields that others applied")
@click.option(
    "--dry-run",
    type=click.Choice(["none", "client", "server"]),
    is_flag=False,
    flag_value="server",
    default="none",
    help="check only: here, or (default) by the node too; nothing is sent to the chain",
)
@click.option("-o", "--output", type=click.Choice(["name", "json", "yaml"]), help="print the objects instead")
@namespace_option
@click.pass_obj
def apply(
    connection: Connection,
    files: tuple[str, ...],
    recursive: bool,
    force_conflicts: bool,
    dry_run: str,
    output: str | None,
    namespace: str,
) -> None:
    """Create or change objects from manifests."""
    from veil.client.kinds import of_object
    from veil.errors import Conflict

    objects = load_manifests(files, recursive=recursive)
    if dry_run == "client":
        for obj in objects:
            name = f"{of_object(obj).singular}/{obj['metadata']['name']}"
            if output in ("json", "yaml"):
                click.echo(dump(obj, output))
            else:
                click.echo(name if output else f"{name} valid (dry run)")
        return
    objects = [in_namespace(obj, connection, namespace) for obj in objects]
    note = " (dry run)" if dry_run == "server" else ""
    with connection.client() as client:
        for obj in objects:
            resource, metadata = of_object(obj), obj["metadata"]
            with progress(f"applying {resource.kind} {metadata['name']}"):
                before = client.find(resource, metadata["name"], metadata.get("namespace", ""))
                try:
                    after = client.apply(resource, obj, manager=MANAGER, force=force_conflicts, dry_run=dry_run == "server")
                except Conflict as error:
                    raise Conflict(error.message, hint=error.hint or CONFLICT_HINT) from error
            name = f"{resource.singular}/{metadata['name']}"
            if output in ("json", "yaml"):
                click.echo(dump(without_notes(after), output))
            else:
                click.echo(name if output else f"{name} {_what_happened(before, after)}{note}")


def _what_happened(before: dict[str, object] | None, after: dict[str, object]) -> str:
    if before is None:
        return "created"
    same = all(before.get(part) == after.get(part) for part in ("spec", "metadata"))
    return "unchanged" if same else "configured"

"""`veil get`: objects in columns (the node's own tables), or as JSON, YAML or names; `-w` goes on with what changes."""

from typing import TYPE_CHECKING, Any

import click

from veil.cli.connection import Connection, names_of, namespace_option, selector_option
from veil.cli.output import columns, dump, table_rows, without_notes

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient
    from veil.client.kinds import Resource


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="KIND [NAME]...")
@namespace_option
@selector_option
@click.option("-A", "--all-namespaces", is_flag=True, help="of every namespace")
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml", "name"]), help="the form of the output")
@click.option("-w", "--watch", is_flag=True, help="go on with what changes")
@click.option("--no-headers", is_flag=True, help="leave out the first line")
@click.pass_obj
def get(
    connection: Connection,
    words: tuple[str, ...],
    namespace: str,
    selector: str,
    all_namespaces: bool,
    output: str | None,
    watch: bool,
    no_headers: bool,
) -> None:
    """List objects: workloads (wl), instances (inst), nodes (no), namespaces (ns), placements (pl), pods (po)."""
    from veil.errors import ConfigInvalid

    wanted = names_of(words)
    where = "" if all_namespaces else connection.namespace(namespace)
    if watch and len(wanted) > 1:
        raise ConfigInvalid("only one kind or object can be watched", hint="leave out -w, or name one")
    with connection.client() as client:
        if output in ("json", "yaml", "name"):
            _objects(client, wanted, where, selector, output)
            if watch:
                resource, name = wanted[0]
                for change in client.watch(resource, where, since="", labels=selector, fields=_by_name(name)):
                    click.echo(_formatted(resource, change.object, output))
            return
        since, shown = _tables(client, wanted, where, selector, output == "wide", all_namespaces, no_headers)
        if watch:
            headed = bool(shown) or no_headers
            _follow(client, wanted[0], where, selector, since, output == "wide", all_namespaces, headed)


def _by_name(name: str) -> str:
    return f"metadata.name={name}" if name else ""


def _objects(client: "BlockingClient", wanted: "list[tuple[Resource, str]]", where: str, selector: str, output: str) -> None:
    found: list[tuple[Any, Any]] = []
    for resource, name in wanted:
        if name:
            found.append((resource, client.get(resource, name, where)))
        else:
            found += [(resource, item) for item in client.list(resource, where, labels=selector)["items"]]
    if output == "name":
        for resource, obj in found:
            click.echo(_formatted(resource, obj, output))
    elif len(wanted) == 1 and wanted[0][1]:
        click.echo(_formatted(*found[0], output))
    else:
        items = [without_notes(obj) for _, obj in found]
        click.echo(dump({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}, output))


def _formatted(resource: "Resource", obj: dict[str, Any], output: str) -> str:
    if output == "name":
        return f"{resource.singular}/{obj['metadata']['name']}"
    return dump(without_notes(obj), output)


def _tables(
    client: "BlockingClient",
    wanted: "list[tuple[Resource, str]]",
    where: str,
    selector: str,
    wide: bool,
    all_namespaces: bool,
    no_headers: bool,
) -> tuple[str, int]:
    """Print one table for each kind; gives back the version to watch from, and how many tables were not empty."""
    since, shown = "", 0
    tables: dict[Any, dict[str, Any]] = {}
    for resource, name in wanted:
        table = (
            client.get(resource, name, where, table=True) if name else client.list(resource, where, labels=selector, table=True)
        )
        since = table["metadata"].get("resourceVersion", "")
        if resource in tables:
            tables[resource]["rows"] += table["rows"]
        else:
            tables[resource] = table
    for resource, table in tables.items():
        header, rows = table_rows(table, wide=wide, namespaces=all_namespaces and resource.namespaced)
        if not rows:
            continue
        lines = columns(header, rows)
        click.echo("\n" * bool(shown) + "\n".join(lines[1:] if no_headers else lines))
        shown += 1
    if not shown:
        place = f" in namespace {where}" if where and any(resource.namespaced for resource in tables) else ""
        click.echo(f"no {', '.join(resource.plural for resource in tables)}{place}", err=True)
    return since, shown


def _follow(
    client: "BlockingClient",
    wanted: "tuple[Resource, str]",
    where: str,
    selector: str,
    since: str,
    wide: bool,
    all_namespaces: bool,
    headed: bool,
) -> None:
    resource, name = wanted
    for change in client.watch(resource, where, since=since, labels=selector, fields=_by_name(name), table=True):
        header, rows = table_rows(change.object, wide=wide, namespaces=all_namespaces and resource.namespaced)
        note = "   (deleted)" if change.type == "DELETED" else ""
        lines = columns(header, rows)
        if not headed:
            click.echo(lines[0])
            headed = True
        click.echo(lines[1] + note)

"""`veil delete`: by manifest or by name; waits until the objects, and the instances of workloads, are gone."""

import time
from typing import TYPE_CHECKING

import click

from veil.cli.connection import Connection, names_of, namespace_option, parse_duration, selector_option
from veil.cli.manifests import in_namespace, load_manifests
from veil.cli.output import progress

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient
    from veil.client.kinds import Resource

POLL_S = 0.5


@click.command()
@click.argument("words", nargs=-1, metavar="[KIND NAME]...")
@click.option("-f", "--filename", "files", multiple=True, help="a manifest, a directory, or - (repeatable)")
@click.option("-R", "--recursive", is_flag=True, help="look into directories below directories")
@click.option("--all", "everything", is_flag=True, help="all objects of the kind in the namespace")
@click.option("--wait/--no-wait", default=True, show_default=True, help="wait until they are gone")
@click.option("--timeout", default="2m", show_default=True, help="how long to wait, e.g. 30s, 5m")
@click.option("--ignore-not-found", is_flag=True, help="what is gone already is no error")
@namespace_option
@selector_option
@click.pass_obj
def delete(
    connection: Connection,
    words: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    everything: bool,
    wait: bool,
    timeout: str,
    ignore_not_found: bool,
    namespace: str,
    selector: str,
) -> None:
    """Delete objects."""
    from veil.client.kinds import of_object
    from veil.errors import ConfigInvalid, NotFound

    if bool(words) == bool(files):
        raise ConfigInvalid("name either manifests (-f) or a kind and names", hint="`veil delete -f FILE`, `veil delete wl NAME`")
    deadline = time.monotonic() + parse_duration(timeout)
    where = connection.namespace(namespace)
    with connection.client() as client:
        if files:
            objects = [in_namespace(obj, connection, namespace) for obj in load_manifests(files, recursive=recursive)]
            doomed = [(of_object(obj), obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) for obj in objects[::-1]]
        else:
            doomed = _named(client, words, where, selector, everything)
        gone = []
        for resource, place, name in doomed:
            try:
                with progress(f"deleting {resource.kind} {name}"):
                    client.delete(resource, name, place)
            except NotFound:
                if not ignore_not_found:
                    raise
                continue
            gone.append((resource, place, name))
            click.echo(f"{resource.singular}/{name} deleted")
        if wait:
            for resource, place, name in gone:
                with progress(f"waiting until {resource.kind} {name} is gone"):
                    _await_gone(client, resource, place, name, deadline)


def _named(
    client: "BlockingClient", words: tuple[str, ...], where: str, selector: str, everything: bool
) -> "list[tuple[Resource, str, str]]":
    """What is to be deleted: kind, namespace, name."""
    from veil.errors import ConfigInvalid

    found = []
    for resource, name in names_of(words):
        if name:
            found.append((resource, where, name))
        elif selector or everything:
            items = client.list(resource, where, labels=selector)["items"]
            found += [(resource, item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in items]
        else:
            raise ConfigInvalid(f"which {resource.plural}?", hint="name them, select them with -l, or say --all")
    return found


def _await_gone(client: "BlockingClient", resource: "Resource", where: str, name: str, deadline: float) -> None:
    from veil.client.kinds import INSTANCES, WORKLOADS
    from veil.errors import DeadlineExceeded

    while True:
        left = [name] if client.find(resource, name, where) else []
        if resource == WORKLOADS and not left:
            items = client.list(INSTANCES, where, labels=f"veil.dev/workload={name}")["items"]
            left = [item["metadata"]["name"] for item in items]
        if not left:
            return
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"still there: {', '.join(left)}",
                hint=f"deleting goes on; look with `veil get {resource.plural}`, wait longer with --timeout",
            )
        time.sleep(POLL_S)

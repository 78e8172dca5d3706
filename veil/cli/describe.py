"""`veil describe`: one object for people: what is wanted, what is, why, and where."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from veil.cli.connection import Connection, names_of, namespace_option
from veil.cli.output import columns, dump, style

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient
    from veil.client.kinds import Resource

_NOTES = ("kopf.", "kubectl.kubernetes.io/")
"""Annotations that only machines read."""


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="KIND NAME...")
@namespace_option
@click.pass_obj
def describe(connection: Connection, words: tuple[str, ...], namespace: str) -> None:
    """Show an object in detail: conditions, instances, placement, what happened."""
    where = connection.namespace(namespace)
    with connection.client() as client:
        found = []
        for resource, name in names_of(words):
            names = [name] if name else [item["metadata"]["name"] for item in client.list(resource, where)["items"]]
            found += [(resource, client.get(resource, one, where)) for one in names]
        for index, (resource, obj) in enumerate(found):
            click.echo("\n" * bool(index) + "\n".join(_described(client, resource, obj)))


def _described(client: "BlockingClient", resource: "Resource", obj: dict[str, Any]) -> Iterator[str]:
    metadata, status = obj["metadata"], obj.get("status") or {}
    yield from _head(obj)
    if obj.get("spec"):
        yield from _section("Spec", obj["spec"])
    shown = {key: value for key, value in status.items() if key not in ("conditions", "kopf")}
    if shown:
        yield from _section("Status", shown)
    if conditions := status.get("conditions"):
        yield ""
        yield "Conditions:"
        rows = [[item.get(key, "") for key in ("type", "status", "reason", "message")] for item in conditions]
        yield from columns(["TYPE", "STATUS", "REASON", "MESSAGE"], rows, indent="  ")
    if resource.kind == "Workload":
        yield from _instances(client, metadata)
        yield from _events(client, metadata["namespace"], labels=f"veil.dev/workload={metadata['name']}")
    elif resource.kind in ("Instance", "Pod"):
        yield from _events(client, metadata["namespace"], fields=f"involvedObject.name={metadata['name']}")


def _head(obj: dict[str, Any]) -> Iterator[str]:
    metadata = obj["metadata"]
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if not key.startswith(_NOTES)}
    facts = {
        "Name": metadata["name"],
        "Namespace": metadata.get("namespace", ""),
        "Kind": f"{obj['kind']} ({obj['apiVersion']})",
        "Labels": _pairs(metadata.get("labels")),
        "Annotations": _pairs(annotations),
        "Generation": metadata.get("generation", ""),
        "Created": metadata.get("creationTimestamp", ""),
        "Deleting since": metadata.get("deletionTimestamp", ""),
    }
    for key, value in facts.items():
        if value != "":
            yield f"{key + ':':<16}{value}"


def _pairs(values: dict[str, str] | None) -> str:
    return ", ".join(f"{key}={value}" for key, value in (values or {}).items())


def _section(title: str, value: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"{title}:"
    for line in dump(value, "yaml").splitlines():
        key, colon, rest = line.partition(": ")
        yield "  " + (key + colon + style(rest) if colon else line)


def _instances(client: "BlockingClient", metadata: dict[str, Any]) -> Iterator[str]:
    from veil.client.kinds import INSTANCES

    labels = f"veil.dev/workload={metadata['name']}"
    items = client.list(INSTANCES, metadata["namespace"], labels=labels)["items"]
    yield ""
    yield "Instances:" if items else "Instances:      none"
    rows = []
    for item in items:
        status = item.get("status") or {}
        placement = status.get("placement") or {}
        leaf = f"shard {placement['shard']}, append {placement['sequence']}" if placement else ""
        rows.append(
            [
                item["metadata"]["name"],
                status.get("phase", "Pending"),
                status.get("restarts", 0),
                status.get("node", ""),
                leaf,
                status.get("reason", ""),
                status.get("message", ""),
            ]
        )
    if rows:
        header = ["NAME", "PHASE", "RESTARTS", "NODE", "PLACEMENT LOG", "REASON", "MESSAGE"]
        yield from columns(header, rows, indent="  ")


def _events(client: "BlockingClient", namespace: str, *, labels: str = "", fields: str = "") -> Iterator[str]:
    """The newest last."""
    from veil.client.kinds import EVENTS

    items = client.list(EVENTS, namespace, labels=labels, fields=fields)["items"]
    if not items:
        return
    yield ""
    yield "Events:"
    rows = [
        [item["lastTimestamp"], item["type"], item["count"], item["reason"], item["involvedObject"]["name"], item["message"]]
        for item in sorted(items, key=lambda item: (item["lastTimestamp"], item["firstTimestamp"]))
    ]
    yield from columns(["LAST SEEN", "TYPE", "COUNT", "REASON", "INSTANCE", "MESSAGE"], rows, indent="  ")

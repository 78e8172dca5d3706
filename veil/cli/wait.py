"""`veil wait`: until a condition holds or an object is gone."""

from typing import TYPE_CHECKING, Any

import click

from veil.cli.connection import Connection, names_of, namespace_option, parse_duration
from veil.cli.output import progress

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient
    from veil.client.kinds import Resource


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="KIND/NAME...")
@click.option("--for", "goal", required=True, help="condition=NAME, condition=NAME=VALUE, or delete")
@click.option("--timeout", default="60s", show_default=True, help="how long to wait, e.g. 30s, 5m")
@namespace_option
@click.pass_obj
def wait(connection: Connection, words: tuple[str, ...], goal: str, timeout: str, namespace: str) -> None:
    """Wait for a condition or for a deletion."""
    import time

    from veil.errors import ConfigInvalid

    kind, _, rest = goal.partition("=")
    condition, _, value = rest.partition("=")
    if (kind, bool(rest)) not in (("condition", True), ("delete", False)):
        raise ConfigInvalid(
            f"--for={goal} is not understood", hint="--for=condition=Available, --for=condition=Ready=False, --for=delete"
        )
    deadline, where = time.monotonic() + parse_duration(timeout), connection.namespace(namespace)
    with connection.client() as client:
        for resource, name in names_of(words):
            if not name:
                raise ConfigInvalid(f"which of the {resource.plural}?", hint="for example `veil wait wl/hello --for=…`")
            with progress(f"waiting for {resource.kind} {name}: {goal}"):
                left_s = max(0.0, deadline - time.monotonic())
                if kind == "delete":
                    _await_deletion(client, resource, where, name, left_s)
                else:
                    _await_condition(client, resource, where, name, (condition, value or "True"), left_s)
            click.echo(f"{resource.singular}/{name} {'deleted' if kind == 'delete' else 'condition met'}")


def _await_deletion(client: "BlockingClient", resource: "Resource", where: str, name: str, left_s: float) -> None:
    from veil.errors import DeadlineExceeded

    listed = client.list(resource, where, fields=f"metadata.name={name}")
    if not listed["items"]:
        return
    try:
        since = listed["metadata"]["resourceVersion"]
        for change in client.watch(resource, where, since=since, fields=f"metadata.name={name}", timeout_s=left_s):
            if change.type == "DELETED":
                return
    except DeadlineExceeded as error:
        raise DeadlineExceeded(f"{resource.kind} {name} is still there", hint="look with `veil describe`") from error


def _await_condition(
    client: "BlockingClient", resource: "Resource", where: str, name: str, wanted: tuple[str, str], left_s: float
) -> None:
    from veil.errors import DeadlineExceeded

    last: dict[str, Any] = client.get(resource, name, where)
    try:
        if _holds(last, wanted):
            return
        since = last["metadata"]["resourceVersion"]
        for change in client.watch(resource, where, since=since, fields=f"metadata.name={name}", timeout_s=left_s):
            last = change.object
            if change.type != "DELETED" and _holds(last, wanted):
                return
    except DeadlineExceeded as error:
        raise DeadlineExceeded(
            f"{resource.kind} {name}: {wanted[0]} is not {wanted[1]}{_state(last, wanted[0])}",
            hint=f"`veil describe {resource.plural}/{name}` shows why",
        ) from error


def _condition(obj: dict[str, Any], name: str) -> dict[str, Any]:
    conditions = (obj.get("status") or {}).get("conditions") or []
    found: dict[str, Any] = next((item for item in conditions if item.get("type", "").lower() == name.lower()), {})
    return found


def _holds(obj: dict[str, Any], wanted: tuple[str, str]) -> bool:
    """Whether the condition is as wanted, and speaks of the newest generation."""
    condition = _condition(obj, wanted[0])
    generation = obj["metadata"].get("generation", 0)
    return (
        str(condition.get("status", "")).lower() == wanted[1].lower()
        and condition.get("observedGeneration", generation) >= generation
    )


def _state(obj: dict[str, Any], name: str) -> str:
    condition = _condition(obj, name)
    parts = [str(condition[key]) for key in ("reason", "message") if condition.get(key)]
    if parts:
        return f" ({': '.join(parts)})"
    others = [item["type"] for item in (obj.get("status") or {}).get("conditions") or []]
    return (
        f" (it has no such condition, only {', '.join(others)})" if others and not condition else " (nothing is known of it yet)"
    )

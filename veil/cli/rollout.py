"""`veil rollout`: replace all instances of a workload without changing what they run, and see how far a replacement has come."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from veil.cli.connection import Connection, names_of, namespace_option, parse_duration

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient

RESTARTED_AT = "veil.dev/restartedAt"
"""The annotation of the template that makes it another one."""


@click.group()
def rollout() -> None:
    """Replace the instances of workloads, and see how far that is."""


@rollout.command()
@click.argument("words", nargs=-1, required=True, metavar="workload/NAME...")
@namespace_option
@click.pass_obj
def restart(connection: Connection, words: tuple[str, ...], namespace: str) -> None:
    """Replace every instance by a new one, placed anew, as the workload's strategy says.

    The template gets another annotation, which makes it a new generation: the same happens as after any change of it. Its figures
    are sealed anew, so the asked node has to be a home node of the namespace.
    """
    from veil.client.kinds import WORKLOADS

    where = connection.namespace(namespace)
    change = {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: _now()}}}}}
    with connection.client() as client:
        for name in _workloads(words):
            client.patch(WORKLOADS, name, change, where)
            click.echo(f"{WORKLOADS.singular}/{name} restarted")


@rollout.command()
@click.argument("words", nargs=-1, required=True, metavar="workload/NAME...")
@click.option("-w", "--watch/--no-watch", default=True, show_default=True, help="wait until it is rolled out")
@click.option("--timeout", default="10m", show_default=True, help="how long to wait, e.g. 30s, 5m")
@namespace_option
@click.pass_obj
def status(connection: Connection, words: tuple[str, ...], watch: bool, timeout: str, namespace: str) -> None:
    """Say how far the newest template is rolled out; by default wait until it is."""
    where, timeout_s = connection.namespace(namespace), parse_duration(timeout)
    with connection.client() as client:
        for name in _workloads(words):
            _follow(client, name, where, timeout_s if watch else 0.0)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _workloads(words: tuple[str, ...]) -> list[str]:
    from veil.errors import ConfigInvalid

    found = names_of(words)
    if any(resource.kind != "Workload" or not name for resource, name in found):
        raise ConfigInvalid(f"{' '.join(words)} names no workload", hint="for example `veil rollout status workload/hello`")
    return [name for _, name in found]


def _follow(client: "BlockingClient", name: str, where: str, timeout_s: float) -> None:
    """Print each new sentence until it is complete. Raises Conflict when it cannot be, DeadlineExceeded."""
    from veil.client.kinds import WORKLOADS
    from veil.errors import DeadlineExceeded

    live = client.get(WORKLOADS, name, where)
    said = ""
    try:
        said, over = _say(live, said)
        if over or not timeout_s:
            return
        since = live["metadata"]["resourceVersion"]
        for change in client.watch(WORKLOADS, where, since=since, fields=f"metadata.name={name}", timeout_s=timeout_s):
            said, over = _say(change.object, said) if change.type != "DELETED" else _gone(name)
            if over:
                return
    except DeadlineExceeded as error:
        raise DeadlineExceeded(
            f"{name} is not rolled out after {timeout_s:g} s: {said}", hint=f"`veil why workload/{name}` says what it waits for"
        ) from error


def _gone(name: str) -> tuple[str, bool]:
    from veil.errors import NotFound

    raise NotFound(f"workload {name} was deleted meanwhile", hint="apply it again")


def _say(workload: dict[str, Any], said: str) -> tuple[str, bool]:
    """What stands now, and whether it is complete. Raises Conflict for one that has failed."""
    from veil.errors import Conflict

    name, generation = workload["metadata"]["name"], workload["metadata"].get("generation", 0)
    told = (workload.get("status") or {}).get("conditions") or []
    progress: dict[str, Any] = next((entry for entry in told if entry.get("type") == "Progressing"), {})
    if progress.get("observedGeneration", 0) < generation:
        progress = {"message": f"generation {generation} has not been looked at yet"}
    if progress.get("status") == "False":
        raise Conflict(
            f"{name} cannot be rolled out: {progress.get('message', '')}", hint=f"`veil why workload/{name}` says what to do"
        )
    done = progress.get("reason") == "Complete"
    text = f"{name}: {progress.get('message', '')}"
    if text != said:
        click.echo(text)
    return text, done

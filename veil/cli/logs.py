"""`veil logs`: of one instance, or of all replicas of a workload at once, each line with the instance's name before it."""

import sys
import threading
from typing import TYPE_CHECKING, TypedDict

import click

from veil.cli.connection import Connection, namespace_option, parse_duration
from veil.cli.output import print_error
from veil.errors import VeilError

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient


@click.command()
@click.argument("target", metavar="INSTANCE | workload/NAME")
@click.option("-f", "--follow", is_flag=True, help="go on with what comes")
@click.option("--tail", type=click.IntRange(min=0), help="only the last lines")
@click.option("--since", default="", help="only lines younger than this, e.g. 30s, 5m")
@click.option("--timestamps", is_flag=True, help="when it arrived, before each line (UTC, to half a second)")
@click.option("-p", "--previous", is_flag=True, help="what the container said before it was last started again")
@click.option("-c", "--container", default="", help="which container, when there are several")
@click.option("--prefix/--no-prefix", default=None, help="the instance's name before each line (default: for several)")
@namespace_option
@click.pass_obj
def logs(
    connection: Connection,
    target: str,
    follow: bool,
    tail: int | None,
    since: str,
    timestamps: bool,
    previous: bool,
    container: str,
    prefix: bool | None,
    namespace: str,
) -> None:
    """Show the logs of an instance, or of all replicas of a workload."""
    where = connection.namespace(namespace)
    since_s = max(1, round(parse_duration(since))) if since else None
    with connection.client() as client:
        names = _instances(client, target, where)
    asked = _Asked(container=container, follow=follow, tail_lines=tail, since_s=since_s, timestamps=timestamps, previous=previous)
    printer = _Printer(connection, where, asked)
    prefixed = prefix if prefix is not None else "/" in target and len(names) > 1
    if len(names) == 1:
        printer.print(names[0], names[0] if prefixed else "")
        return
    if follow:
        threads = [threading.Thread(target=printer.guarded, args=(name, name if prefixed else ""), daemon=True) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for name in names:
            printer.guarded(name, name if prefixed else "")
    if len(printer.errors) == len(names):
        raise printer.errors[0]
    for error in printer.errors:
        print_error(error)


def _instances(client: "BlockingClient", target: str, where: str) -> list[str]:
    """The instances that ``target`` means. Raises NotFound."""
    from veil.client.kinds import INSTANCES, PODS, WORKLOADS, find
    from veil.errors import ConfigInvalid, NotFound

    kind, slash, name = target.rpartition("/")
    resource = find(kind) if slash else INSTANCES
    if resource not in (INSTANCES, WORKLOADS, PODS):
        raise ConfigInvalid(f"{resource.plural} have no logs", hint="`veil logs INSTANCE` or `veil logs workload/NAME`")
    if resource != WORKLOADS and client.find(INSTANCES, name, where):
        return [name]
    if slash and resource != WORKLOADS:
        raise NotFound(f"there is no instance {name} in namespace {where}", hint="`veil get instances` lists them")
    listed = client.list(INSTANCES, where, labels=f"veil.dev/workload={name}")["items"]
    if not listed and client.find(WORKLOADS, name, where) is None:
        raise NotFound(f"there is no instance or workload {name} in namespace {where}", hint="`veil get wl,inst` lists them")
    if not listed:
        raise NotFound(f"the workload {name} has no instance yet", hint=f"`veil describe wl/{name}` shows why")
    return [item["metadata"]["name"] for item in listed]


class _Asked(TypedDict):
    """The options of the client's ``logs``."""

    container: str
    follow: bool
    tail_lines: int | None
    since_s: int | None
    timestamps: bool
    previous: bool


class _Printer:
    """Prints logs, whole lines at a time, so that those of several instances do not mix."""

    def __init__(self, connection: Connection, where: str, asked: _Asked) -> None:
        self._connection = connection
        self._where = where
        self._asked = asked
        self._lock = threading.Lock()
        self.errors: list[VeilError] = []

    def guarded(self, name: str, label: str) -> None:
        """As :meth:`print`; a replica without a log does not keep the others from theirs."""
        try:
            self.print(name, label)
        except VeilError as error:
            self.errors.append(error)

    def print(self, name: str, label: str) -> None:
        from veil.client.kinds import INSTANCES

        start = click.style(f"[{label}] ", fg="cyan").encode() if label and sys.stdout.isatty() else f"[{label}] ".encode()
        rest = b""
        with self._connection.client() as client:
            for piece in client.logs(INSTANCES, name, self._where, **self._asked):
                if not label:
                    self._write(piece)
                    continue
                *lines, rest = (rest + piece).split(b"\n")
                self._write(b"".join(start + line + b"\n" for line in lines))
        if rest:
            self._write(start + rest + b"\n")

    def _write(self, data: bytes) -> None:
        with self._lock:
            click.echo(data, nl=False)
            sys.stdout.flush()

"""`veil doctor`: what works of a node and its surroundings, what does not, and what to do.

Through the node's API it shows what the node says of itself and of the others; with the node's directory it looks besides at
settings, keys, journal, chain and runtime itself, also while the node does not run.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import click

from veil.cli.connection import Connection
from veil.cli.node_checks import Finding, Level
from veil.cli.output import columns, dump
from veil.errors import NodeUnavailable, Untrusted, VeilError

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    envvar="VEIL_DIR",
    help="the node's directory, on its machine (default: VEIL_DIR)",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="the form of the output")
@click.pass_obj
def doctor(connection: Connection, directory: Path | None, output: str) -> None:
    """Check a node and its surroundings.

    Exit code 0: nothing failed, 2: something is down, 3: something is not what it claims to be.
    """
    found = list(_findings(connection, directory))
    if output == "json":
        click.echo(dump(_as_json(found), "json"))
    else:
        click.echo("\n".join(_table(found)))
    raise click.exceptions.Exit(exit_code(found))


def exit_code(found: list[Finding]) -> int:
    """Of all findings together: warnings are no failure."""
    failed = [finding for finding in found if finding.level is Level.FAIL]
    if any(finding.untrusted for finding in failed):
        return Untrusted.exit_code
    return NodeUnavailable.exit_code if failed else 0


def _findings(connection: Connection, directory: Path | None) -> Iterator[Finding]:
    if directory is not None:
        from veil.cli import local_checks

        yield from local_checks.findings(directory.expanduser().resolve(), time.time())
    yield from _through_api(connection, directory)


def _through_api(connection: Connection, directory: Path | None) -> Iterator[Finding]:
    from veil import __version__
    from veil.cli import node_checks
    from veil.client.blocking import BlockingClient, unix_config
    from veil.client.kinds import NODES

    try:
        config = connection.config() if directory is None else unix_config(directory.expanduser().resolve() / "api.sock")
        with BlockingClient(config) as client:
            version = client.version()["gitVersion"]
            nodes = client.list(NODES)["items"]
    except VeilError as error:
        yield Finding("api", Level.FAIL, error.message, error.hint, isinstance(error, Untrusted))
        return
    yield Finding("api", Level.OK, f"{config.server} answers")
    if version.endswith(f"-{__version__}"):
        yield Finding("version", Level.OK, __version__)
    else:
        yield Finding(
            "version", Level.WARN, f"this is {__version__}, the node is {version}", "use the same version on both sides"
        )
    yield from node_checks.findings(nodes)


def _table(found: list[Finding]) -> Iterator[str]:
    rows = [[finding.check, str(finding.level), finding.said] for finding in found]
    widths = columns(["CHECK", "STATE", "WHAT"], rows)
    yield widths[0]
    for finding, line in zip(found, widths[1:], strict=True):
        yield click.style(line, fg=_COLOURS[finding.level]) if finding.level is not Level.OK else line
        if finding.todo:
            yield f"  do: {finding.todo}"
    counts = {level: sum(finding.level is level for finding in found) for level in Level}
    yield f"{counts[Level.OK]} ok, {counts[Level.WARN]} to look at, {counts[Level.FAIL]} failed"


def _as_json(found: list[Finding]) -> dict[str, object]:
    checks = [
        {"check": one.check, "state": str(one.level), "message": one.said, "todo": one.todo, "untrusted": one.untrusted}
        for one in found
    ]
    return {"exitCode": exit_code(found), "checks": checks}

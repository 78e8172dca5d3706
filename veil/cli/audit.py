"""`veil audit`: checks a placement afterwards: leaf, signatures, digests, decision; on a committee member the evaluation too.

The node does the checking, because it has the chain, the keys and (as a member) the telemetry; ask a node that you trust, best
one of the round's committee.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from veil.cli.connection import Connection, namespace_option
from veil.cli.output import columns, dump
from veil.errors import NodeUnavailable, Untrusted

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient

PLACEMENT = re.compile(r"[0-9]+-[0-9]+(-[0-9]+)?")
EXIT_CODES = {"agreed": 0, "incomplete": NodeUnavailable.exit_code, "lie": Untrusted.exit_code}
_COLOURS = {"lie": "red", "missing": "yellow"}


@click.command()
@click.argument("target", metavar="PLACEMENT | INSTANCE")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="the form of the output")
@click.option("--transcript", is_flag=True, help="print what this node keeps of the round instead, as JSON")
@namespace_option
@click.pass_obj
def audit(connection: Connection, target: str, output: str, transcript: bool, namespace: str) -> None:
    """Check a placement (as `veil get placements` names it, or that of an instance) and say who lied, if anybody.

    Exit code 0: all agrees, 2: something needed is not at hand, 3: a lie was found. Run against a node of the round's
    committee, within the transcripts' retention, it also evaluates again.
    """
    from veil.client import requests
    from veil.client.kinds import PLACEMENTS

    with connection.client() as client:
        name = _placement(client, target, connection.namespace(namespace))
        said = client.send(requests.get(PLACEMENTS, name, subresource="transcript" if transcript else "audit"))
    if transcript or output == "json":
        click.echo(dump(said, "json"))
    else:
        click.echo("\n".join(_report(said)))
    if not transcript:
        raise click.exceptions.Exit(EXIT_CODES.get(said["verdict"], Untrusted.exit_code))


def _placement(client: "BlockingClient", target: str, where: str) -> str:
    """The name of the placement that ``target`` means. Raises NotFound, ConfigInvalid."""
    from veil.client.kinds import INSTANCES, PLACEMENTS, PODS, find
    from veil.errors import ConfigInvalid, NotFound

    kind, slash, name = target.rpartition("/")
    resource = find(kind) if slash else PLACEMENTS if PLACEMENT.fullmatch(name) else INSTANCES
    if resource == PLACEMENTS:
        return name
    if resource not in (INSTANCES, PODS):
        raise ConfigInvalid(f"{resource.plural} are not audited", hint="`veil audit PLACEMENT` or `veil audit INSTANCE`")
    status = client.get(INSTANCES, name, where).get("status") or {}
    placed = status.get("placement")
    if not placed:
        raise NotFound(f"instance {name} has no placement yet", hint=f"`veil why {name}` says what it waits for")
    listed = client.list(PLACEMENTS, labels=f"veil.dev/shard={placed['shard']}")["items"]
    known = [one["metadata"]["name"] for one in listed if one["spec"].get("leaf") == placed["leaf"]]
    return str(known[0]) if known else f"{placed['shard']}-{placed['sequence']}"


def _report(said: dict[str, Any]) -> Iterator[str]:
    yield f"placement {said['placement']}, block {said['block']}"
    if "workload" in said:
        winner = said["winner"]["node"] or said["winner"]["peer"]
        yield f"{said['workload']} replica {said['replica']} on {winner}, round {said['round'][:8]}, key epoch {said['epoch']}"
    rows = [[one["check"], one["state"], ", ".join(map(_name, one["liars"])), one["message"]] for one in said["checks"]]
    header, *lines = columns(["CHECK", "STATE", "WHO", "WHAT"], rows)
    yield header
    for one, line in zip(said["checks"], lines, strict=True):
        colour = _COLOURS.get(one["state"])
        yield click.style(line, fg=colour) if colour else line
    yield _verdict(said)


def _verdict(said: dict[str, Any]) -> str:
    if said["verdict"] == "lie":
        liars = ", ".join(map(_name, said["liars"]))
        return click.style(
            f"a lie: by {liars}" if liars else "a lie: by whom cannot be told from what is at hand", fg="red", bold=True
        )
    if said["verdict"] == "incomplete":
        missing = ", ".join(one["check"] for one in said["checks"] if one["state"] == "missing")
        return click.style(f"not enough at hand: {missing}; nothing that is there is a lie", fg="yellow")
    again = ", evaluated again" if said["reevaluated"] else "; ask a member of the committee to evaluate it again"
    unchecked = "" if said.get("checked", True) else "; that the decryption is right, nobody can tell (DecryptionUnchecked)"
    return click.style(f"all agrees{again}{unchecked}", fg="green")


def _name(peer: dict[str, Any]) -> str:
    return str(peer["node"] or peer["peer"])

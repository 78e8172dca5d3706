"""`veil node cordon`, `uncordon` and `drain`: keeping new replicas off a node, and moving away what it runs."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veil.cli.connection import Connection, parse_duration
from veil.cli.registry import KEYSTORE, PATH, registry_read

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient

POLL_S = 1.0
"""Between two questions; each keeps the drain going on the node for a while."""

directory_option = click.option(
    "--dir", "directory", type=PATH, envvar="VEIL_DIR", help="ask the node of this directory, not that of the kubeconfig"
)


keystore_option = click.option("--keystore", type=KEYSTORE, help="who signs instead of the asked node's operator (with --dir)")


@click.command()
@click.argument("node")
@keystore_option
@directory_option
@click.pass_obj
def cordon(connection: Connection, node: str, keystore: "Path | str | None", directory: Path | None) -> None:
    """Keep new replicas off NODE. What it runs stays there.

    The registry takes it from the node's operator and from administrators.
    """
    _set(connection, node, keystore, directory, cordoned=True)


@click.command()
@click.argument("node")
@keystore_option
@directory_option
@click.pass_obj
def uncordon(connection: Connection, node: str, keystore: "Path | str | None", directory: Path | None) -> None:
    """Let new replicas come to NODE again."""
    _set(connection, node, keystore, directory, cordoned=False)


@click.command()
@click.argument("node")
@click.option("--timeout", default="10m", show_default=True, help="give up after so long, e.g. 90s, 1h")
@directory_option
@click.pass_obj
def drain(connection: Connection, node: str, timeout: str, directory: Path | None) -> None:
    """Cordon NODE, and move what it runs to other nodes: one replica after the other, each with its grace period.

    A replica is stopped once another node has taken it and could start it, and starts there when it has stopped here. One that
    fits nowhere stays, and the others go on. NODE itself has to be asked: with its kubeconfig, or --dir. Interrupted, it
    leaves the node cordoned, and what has not moved where it is. What has ended for good is left alone.
    """
    from veil.errors import DeadlineExceeded

    limit_s = parse_duration(timeout)
    deadline_s = time.monotonic() + limit_s
    with _client(connection, directory) as client:
        _cordon(client, node, cordoned=True)
        said: dict[str, str] = {}
        while left := _ask(client, node):
            said = _say(left, said)
            if time.monotonic() >= deadline_s:
                raise DeadlineExceeded(
                    f"after {limit_s:g} s {len(left)} replicas are still on {node}: {', '.join(_described(left).values())}",
                    hint="`veil why` explains a reason; call drain again to go on, or `veil node uncordon` to let it work again",
                )
            time.sleep(POLL_S)
    click.echo(f"node/{node} drained")


def _ask(client: "BlockingClient", node: str) -> list[dict[str, Any]]:
    from veil.client.kinds import NODES
    from veil.client.requests import subresource

    left: list[dict[str, Any]] = client.send(subresource(NODES, node, "drain"))["left"]
    return left


def _say(left: list[dict[str, Any]], said: dict[str, str]) -> dict[str, str]:
    """Print what is waited for where it is something else than before; gives back what stands now."""
    described = _described(left)
    for name in [name for name in said if name not in described]:
        click.echo(f"{name} has left", err=True)
    for name, text in described.items():
        if said.get(name) != text:
            click.echo(f"waiting for {text}", err=True)
    return described


_STATES = {
    "Waiting": "waits for its turn",
    "Moving": "waits for another node to take it",
    "Stopping": "is stopping",
    "Arriving": "was promised before the cordon",
}


def _described(left: list[dict[str, Any]]) -> dict[str, str]:
    texts = {}
    for one in left:
        name, reason = f"{one['namespace']}/{one['name']}", f" ({one['reason']})" if one.get("reason") else ""
        texts[name] = f"{name}: it {_STATES[one['state']]}{reason}"
    return texts


def _set(connection: Connection, node: str, keystore: "Path | str | None", directory: Path | None, *, cordoned: bool) -> None:
    from veil.errors import ConfigInvalid

    if keystore is None:
        with _client(connection, directory) as client:
            _cordon(client, node, cordoned=cordoned)
        return
    if directory is None:
        raise ConfigInvalid("which registry?", hint="give the directory of one of its nodes with --dir")
    asyncio.run(_sign(directory, keystore, node, cordoned=cordoned))
    _report(node, cordoned=cordoned, changed=True)


def _client(connection: Connection, directory: Path | None) -> "BlockingClient":
    from veil.client.blocking import BlockingClient, unix_config

    return connection.client() if directory is None else BlockingClient(unix_config(directory / "api.sock"))


def _cordon(client: "BlockingClient", node: str, *, cordoned: bool) -> None:
    from veil.client.kinds import NODES

    changed = bool(client.get(NODES, node)["spec"].get("unschedulable")) != cordoned
    if changed:
        client.patch(NODES, node, {"spec": {"unschedulable": cordoned}})
    _report(node, cordoned=cordoned, changed=changed)


def _report(node: str, *, cordoned: bool, changed: bool) -> None:
    click.echo(f"node/{node} {'' if changed else 'already '}{'cordoned' if cordoned else 'uncordoned'}")


async def _sign(directory: Path, keystore: "Path | str", node: str, *, cordoned: bool) -> None:
    from veil.chain.ports import NodeStatus
    from veil.errors import NotFound

    async with registry_read(directory, keystore) as (chain, projection):
        row = next((row for row in projection.nodes() if row.name == node), None)
        if row is None:
            raise NotFound(f"no node is named {node}", hint="`veil get nodes` lists them")
        await chain.set_node_status(row.peer, NodeStatus.CORDONED if cordoned else NodeStatus.ACTIVE)

"""`veil dev`: a whole cluster on this machine."""

import asyncio
import json
from pathlib import Path

import click

DEFAULT_DIR = Path("~/.veil/dev")
NODES_MAX = 9

_directory = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), default=DEFAULT_DIR, show_default=True, help="where the cluster lives"
)


@click.group()
def dev() -> None:
    """A whole cluster on this machine: chain, contract, ceremony, mesh, a containerd for each node."""


@dev.command()
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), default=3, show_default=True)
@click.option("--runtime", type=click.Choice(["containerd", "process"]), default="containerd", show_default=True)
@click.option("--capture", is_flag=True, help="record everything that nodes give to each other, as sealed, for an audit")
@click.option("--replace", is_flag=True, help="take down a cluster that is already there first")
@_directory
def up(nodes: int, runtime: str, capture: bool, replace: bool, directory: Path) -> None:
    """Start a cluster and wait until it is ready."""
    from veil.dev.down import down as take_down
    from veil.dev.layout import Layout
    from veil.dev.steps import Steps
    from veil.dev.up import Plan
    from veil.dev.up import up as bring_up

    layout, steps = Layout(directory.expanduser().resolve()), Steps()
    if replace:
        take_down(layout, steps)
    asyncio.run(bring_up(layout, Plan(nodes=nodes, runtime=runtime, capture=capture), steps))


@dev.command()
@_directory
def down(directory: Path) -> None:
    """Remove the cluster without a trace: containers, mounts, processes, files."""
    from veil.dev.down import down as take_down
    from veil.dev.layout import Layout
    from veil.dev.steps import Steps

    take_down(Layout(directory.expanduser().resolve()), Steps())


@dev.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_directory
def status(output: str, directory: Path) -> None:
    """What runs where: pids, sockets, addresses."""
    from veil.dev.layout import Layout
    from veil.dev.status import show, status_of

    state = status_of(Layout(directory.expanduser().resolve()))
    if output == "json":
        click.echo(json.dumps(state, indent=2))
    else:
        show(state)


@dev.command()
@click.argument("workload", default="hello")
@click.option("-n", "--namespace", default="default", show_default=True)
@_directory
def report(workload: str, namespace: str, directory: Path) -> None:
    """What happened to a workload: its leaves on chain, and what each party could see."""
    from veil.dev.layout import Layout
    from veil.dev.report import report as make_report

    asyncio.run(make_report(Layout(directory.expanduser().resolve()), namespace, workload))

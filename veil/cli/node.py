"""`veil node`: running one node."""

import asyncio
import logging
import signal
from pathlib import Path

import click


@click.group()
def node() -> None:
    """Run a node."""


@node.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True, help="the node's directory")
@click.option("--log-level", default="INFO", show_default=True, type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
def run(directory: Path, log_level: str) -> None:
    """Run the node of a directory until SIGTERM or SIGINT. Its containers go on when it ends."""
    from veil.config import load_settings

    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    settings = load_settings(directory.expanduser().resolve())
    asyncio.run(_run(settings))


async def _run(settings: object) -> None:
    from veil.config import NodeSettings
    from veil.node.node import Node

    assert isinstance(settings, NodeSettings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Node(settings).run(stop)

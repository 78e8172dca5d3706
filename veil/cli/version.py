"""`veil version`: of this command, and of the node when it answers."""

import click

from veil import __version__
from veil.cli.connection import Connection


@click.command()
@click.option("--client", "client_only", is_flag=True, help="do not ask the node")
@click.pass_obj
def version(connection: Connection, client_only: bool) -> None:
    """Show the versions of veil and of the node."""
    click.echo(f"veil {__version__}")
    if not client_only:
        with connection.client() as client:
            click.echo(f"node {client.version()['gitVersion']}")

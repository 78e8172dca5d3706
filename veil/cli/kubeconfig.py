"""`veil kubeconfig`: the configuration in use, for kubectl, k9s and GitOps tools. It contains the token."""

from pathlib import Path

import click

from veil.cli.connection import Connection


@click.command()
@click.option(
    "--write", "target", type=click.Path(path_type=Path), help="write it to this file (mode 0600) instead of printing it"
)
@click.pass_obj
def kubeconfig(connection: Connection, target: Path | None) -> None:
    """Print the kubeconfig, e.g. `veil kubeconfig --write ~/.kube/veil && KUBECONFIG=~/.kube/veil kubectl get workloads`."""
    from veil.client.kubeconfig import dump, write

    config = connection.config()
    name = config.context or "veil"
    if target is None:
        click.echo(dump({name: config}, name), nl=False)
        return
    write(target.expanduser(), {name: config}, name)
    click.echo(f"wrote {target}: it contains the node's token, keep it private")

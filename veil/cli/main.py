"""`veil`: finds the verb, runs it, says in one line what went wrong and in another what to do.

Modules of verbs are imported when their verb is used: `veil` is started often, and most of Veil is not needed for most of it.
Exit codes are those of the error (:mod:`veil.errors`): 1 for what the user gave, 2 for a part that is down, 3 for something
that is not what it claims to be.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click

from veil.cli.output import print_error
from veil.errors import ConfigInvalid, VeilError

VERBS = {
    "apply": "create or change objects from manifests",
    "audit": "check a placement afterwards, and say who lied",
    "delete": "delete objects",
    "describe": "show an object in detail: conditions, instances, placement",
    "doctor": "check a node and its surroundings",
    "exec": "run a command in a container",
    "explain": "show the fields of a kind",
    "get": "list objects",
    "kubeconfig": "print the kubeconfig for kubectl and other tools",
    "logs": "show the logs of an instance or of all replicas of a workload",
    "version": "show the versions of veil and of the node",
    "wait": "wait for a condition or for a deletion",
    "why": "explain why something waits, and what to do",
}
GROUPS = {
    "dev": "a whole cluster on this machine",
    "node": "run and register nodes",
    "key": "keys and key epochs",
    "policy": "what the cluster has agreed on",
    "cluster": "deploy and administer a cluster",
    "dispute": "accuse a node over what is on chain, and decide",
    "rollout": "replace a workload's instances, and see how far that is",
    "rights": "who may do what in a namespace",
    "role": "who may administer the registry",
}
"""Groups are offered when their module is there."""

INTERRUPTED = 130


class Verbs(click.Group):
    """Commands by name, each in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS) + [name for name in GROUPS if find_spec(f"veil.cli.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(f"veil.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        texts = VERBS | GROUPS
        with formatter.section("Commands"):
            formatter.write_dl([(name, texts[name]) for name in self.list_commands(ctx)])


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="instead of VEIL_KUBECONFIG or ~/.veil/config")
@click.option("--context", "context", default="", help="the kubeconfig's context to use")
@click.pass_context
def veil(ctx: click.Context, kubeconfig: Path | None, context: str) -> None:
    """Run containers on machines that do not trust each other, placed under encryption."""
    from veil.cli.connection import Connection

    ctx.obj = Connection(kubeconfig, context)


def run(arguments: Sequence[str]) -> int:
    """One invocation; gives back the exit code."""
    try:
        left_with = veil.main(list(arguments), prog_name="veil", standalone_mode=False)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "veil"
        print_error(ConfigInvalid(error.format_message(), hint=f"see `{where} --help`"))
        return ConfigInvalid.exit_code
    except click.ClickException as error:
        print_error(ConfigInvalid(error.format_message()))
        return ConfigInvalid.exit_code
    except VeilError as error:
        print_error(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return left_with if isinstance(left_with, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))

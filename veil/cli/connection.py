"""How a verb reaches a node: the kubeconfig, the namespace, the client; and the options that most verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient
    from veil.client.kubeconfig import KubeConfig

F = TypeVar("F", bound=Callable[..., Any])


class Connection:
    """What the global options say; opened by the verbs that need a node."""

    def __init__(self, kubeconfig: Path | None, context: str) -> None:
        self._path = kubeconfig
        self._context = context

    @property
    def path(self) -> Path:
        """The kubeconfig's file."""
        from veil.client.kubeconfig import config_path

        return self._path or config_path()

    def config(self) -> "KubeConfig":
        """Raises ConfigInvalid."""
        from veil.client.kubeconfig import load

        return load(self.path, self._context)

    def client(self) -> "BlockingClient":
        """Raises ConfigInvalid."""
        from veil.client.blocking import BlockingClient

        return BlockingClient(self.config())

    def namespace(self, given: str) -> str:
        """``given``, or the context's."""
        return given or self.config().namespace


def namespace_option(function: F) -> F:
    return click.option("-n", "--namespace", default="", help="the namespace (default: the context's)")(function)


def selector_option(function: F) -> F:
    return click.option("-l", "--selector", default="", help="only objects with these labels, e.g. app=web,tier!=db")(function)


def parse_duration(text: str) -> float:
    """Seconds of a text such as 90, 30s, 5m, 1h, 500ms. Raises ConfigInvalid."""
    import re

    from veil.errors import ConfigInvalid

    units = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    pieces = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)", text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise ConfigInvalid(f"{text!r} is not a duration", hint="for example 30s, 5m, 1h30m")
    return sum(float(number) * units[unit] for number, unit in pieces)


def names_of(words: tuple[str, ...]) -> list[tuple[Any, str]]:
    """Resources and names of ``kind name name…`` or ``kind/name kind/name…``; a kind alone has the name "".

    Raises ConfigInvalid.
    """
    from veil.client.kinds import find
    from veil.errors import ConfigInvalid

    if any("/" in word for word in words):
        wrong = [word for word in words if word.count("/") != 1 or word.endswith("/")]
        if wrong:
            raise ConfigInvalid(f"{wrong[0]!r} is not kind/name", hint="either `kind name…` or `kind/name kind/name…`")
        return [(find(kind), name) for kind, name in (word.split("/") for word in words)]
    kinds, names = words[0].split(","), words[1:]
    return [(find(kind), name) for kind in kinds for name in (names or ("",))]

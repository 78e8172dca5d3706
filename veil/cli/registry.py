"""What verbs that administer a cluster have in common: their options, and the registry of a node's directory."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from veil.chain.client import RegistryChain
    from veil.chain.signer import Signer
    from veil.store.projection import Projection

F = TypeVar("F", bound=Callable[..., Any])


class _Path(click.ParamType[Path]):
    """A path as people write it, made absolute."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(value).expanduser().resolve()


PATH = _Path()


class _Keystore(click.ParamType["Path | str"]):
    """A file, made absolute, or a signing server as URL#ADDRESS."""

    name = "keystore"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Path | str":
        return value if str(value).startswith(("http://", "https://")) else PATH.convert(value, param, ctx)


KEYSTORE = _Keystore()


def directory_option(function: F) -> F:
    option = click.option(
        "--dir", "directory", type=PATH, envvar="VEIL_DIR", required=True, help="a node's directory: which registry, which keys"
    )
    return option(function)


def keystore_option(function: F) -> F:
    text = "who signs: a JSON keystore, a raw key's file, or URL#ADDRESS; by default VEIL_OPERATOR_KEYSTORE, DIR/operator.key"
    return click.option("--keystore", type=KEYSTORE, help=text)(function)


def output_option(function: F) -> F:
    option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
    return option(function)


def print_fields(fields: dict[str, Any]) -> None:
    width = max(map(len, fields)) + 3
    for name, value in fields.items():
        lines = value if isinstance(value, list) else [value]
        for index, line in enumerate(lines or ["-"]):
            click.echo(f"{'' if index else name + ':':<{width}}{line}")


def signer_of(keystore: Path | str | None, passphrase_file: Path | None, *, default: Path | None = None) -> "Signer":
    """Who signs: what is named, else the raw key in the environment, else ``default``. Raises ConfigInvalid, Forbidden."""
    from veil.chain.keystore import RAW_KEY, open_signer, signer_of_environment
    from veil.errors import ConfigInvalid

    if not keystore and (found := signer_of_environment()) is not None:
        return found
    if not (where := keystore or default):
        raise ConfigInvalid("who signs?", hint=f"name a key with --keystore, or set {RAW_KEY} (development only)")
    return open_signer(where, passphrase_file=passphrase_file, ask=_ask_passphrase)


def _ask_passphrase(question: str) -> str:
    return str(click.prompt(question, hide_input=True, err=True))


@asynccontextmanager
async def registry(directory: Path, keystore: Path | str | None) -> "AsyncIterator[RegistryChain]":
    """The registry of the node in ``directory``. Raises ConfigInvalid, ChainUnavailable."""
    from veil.chain.client import RegistryChain
    from veil.config import load_settings
    from veil.types import Address

    settings = load_settings(directory)
    configured = keystore or settings.operator_keystore
    signer = signer_of(configured, settings.passphrase_file, default=settings.directory / "operator.key")
    chain = RegistryChain(settings.rpc_urls, Address(settings.contract), signer, deploy_block=settings.contract_block)
    try:
        await chain.start()
        yield chain
    finally:
        await chain.close()


@asynccontextmanager
async def registry_read(directory: Path, keystore: Path | str | None) -> "AsyncIterator[tuple[RegistryChain, Projection]]":
    """The same, with all that it says."""
    from veil.chain.reading import read_registry

    async with registry(directory, keystore) as chain:
        projection = await read_registry(chain)
        try:
            yield chain, projection
        finally:
            projection.close()

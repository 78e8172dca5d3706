"""What verbs that administer a cluster have in common: their options, and the registry of a node's directory."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from veil.chain.client import RegistryChain
    from veil.store.projection import Projection

F = TypeVar("F", bound=Callable[..., Any])


class _Path(click.ParamType[Path]):
    """A path as people write it, made absolute."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(value).expanduser().resolve()


PATH = _Path()


def directory_option(function: F) -> F:
    option = click.option(
        "--dir", "directory", type=PATH, envvar="VEIL_DIR", required=True, help="a node's directory: which registry, which keys"
    )
    return option(function)


def keystore_option(function: F) -> F:
    option = click.option("--keystore", type=PATH, help="who signs the transaction; by default the directory's operator.key")
    return option(function)


def output_option(function: F) -> F:
    option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
    return option(function)


def print_fields(fields: dict[str, Any]) -> None:
    width = max(map(len, fields)) + 3
    for name, value in fields.items():
        lines = value if isinstance(value, list) else [value]
        for index, line in enumerate(lines or ["-"]):
            click.echo(f"{'' if index else name + ':':<{width}}{line}")


@asynccontextmanager
async def registry(directory: Path, keystore: Path | None) -> "AsyncIterator[RegistryChain]":
    """The registry of the node in ``directory``. Raises ConfigInvalid, ChainUnavailable."""
    from veil.chain.client import RegistryChain
    from veil.chain.signer import LocalSigner
    from veil.config import load_settings
    from veil.types import Address

    settings = load_settings(directory)
    signer = LocalSigner.load(keystore or settings.directory / "operator.key")
    chain = RegistryChain(settings.rpc_url, Address(settings.contract), signer, deploy_block=settings.contract_block)
    try:
        await chain.start()
        yield chain
    finally:
        await chain.close()


@asynccontextmanager
async def registry_read(directory: Path, keystore: Path | None) -> "AsyncIterator[tuple[RegistryChain, Projection]]":
    """The same, with all that it says."""
    from veil.chain.reading import read_registry

    async with registry(directory, keystore) as chain:
        projection = await read_registry(chain)
        try:
            yield chain, projection
        finally:
            projection.close()

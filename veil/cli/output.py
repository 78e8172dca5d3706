"""How things are printed: tables in columns, objects as JSON or YAML, errors as one line and a hint.

Colours and progress are for terminals only; what is piped is plain.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from veil.errors import ManifestInvalid, VeilError

_GOOD = {"True", "true", "Running", "Succeeded", "Active", "AllPlaced", "Available"}
_BAD = {"False", "Failed", "Gone", "NoNodeFits", "Error", "FheUnavailable", "QuorumMissing", "DemandNotInEpoch"}
_WAITING = {"Pending", "Creating", "Terminating", "Unknown", "Leaving", "Cordoned"}


def print_error(error: VeilError) -> None:
    """``error: …`` and ``hint: …`` on the standard error; a manifest's errors one a line."""
    texts = [str(item) for item in error.errors] if isinstance(error, ManifestInvalid) else [error.message]
    label = click.style("error:", fg="red", bold=True)
    for text in texts:
        click.echo(f"{label} {text}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True)


def columns(header: Sequence[str], rows: Sequence[Sequence[Any]], *, indent: str = "") -> list[str]:
    """Lines with aligned columns, three spaces apart."""
    texts = [list(map(_text, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *texts, strict=True)]
    lines = [_line(header, widths, indent)]
    return lines + [_line([*row], widths, indent, styled=True) for row in texts]


def _line(cells: Sequence[str], widths: Sequence[int], indent: str, *, styled: bool = False) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    shown = [style(cell) if styled else cell for cell in padded]
    return indent + "   ".join(shown).rstrip()


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def style(text: str) -> str:
    """A cell in the colour of what it says."""
    word = text.strip()
    for words, colour in ((_GOOD, "green"), (_BAD, "red"), (_WAITING, "yellow")):
        if word in words:
            return click.style(text, fg=colour)
    return text


def table_rows(table: dict[str, Any], *, wide: bool, namespaces: bool) -> tuple[list[str], list[list[Any]]]:
    """The header and rows of a Table as the API sends it; narrow columns only unless ``wide``."""
    shown = [index for index, column in enumerate(table["columnDefinitions"]) if wide or not column.get("priority")]
    header = (["NAMESPACE"] if namespaces else []) + [table["columnDefinitions"][index]["name"].upper() for index in shown]
    rows = []
    for row in table.get("rows") or []:
        namespace = [row["object"]["metadata"].get("namespace", "")] if namespaces else []
        rows.append(namespace + [row["cells"][index] for index in shown])
    return header, rows


def dump(value: Any, form: str) -> str:
    """``value`` as ``json`` or ``yaml``."""
    if form == "json":
        import json

        return json.dumps(value, indent=2, ensure_ascii=False)
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text.rstrip("\n")


def without_notes(obj: dict[str, Any]) -> dict[str, Any]:
    """An object without what only machines read: managed fields."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Shows that something is under way, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield

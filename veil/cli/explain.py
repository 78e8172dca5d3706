"""`veil explain`: the fields of a kind, from the schemas that validation uses. Needs no node."""

from typing import Any

import click

from veil.errors import ConfigInvalid

WIDTH = 100


@click.command()
@click.argument("path", metavar="KIND[.FIELD]...")
@click.option("--recursive", is_flag=True, help="the fields below fields too")
def explain(path: str, recursive: bool) -> None:
    """Show the fields of a kind, e.g. `veil explain workload.spec.template`."""
    from veil.client.kinds import find
    from veil.manifest.schemas import FILE_KINDS, KINDS, schema

    word, *fields = path.split(".")
    kind = next((name for name in FILE_KINDS if name.lower() == word.lower()), None) or find(word).kind
    if kind not in (*KINDS, *FILE_KINDS):
        raise ConfigInvalid(f"{kind} has no schema", hint=f"kinds with one: {', '.join(KINDS)}")
    part: dict[str, Any] = schema(kind)
    for index, field in enumerate(fields):
        known = _properties(part)
        if field not in known:
            where = ".".join([word, *fields[:index]])
            raise ConfigInvalid(f"{where} has no field {field!r}", hint=f"it has: {', '.join(known) or 'none'}")
        part = known[field]
    click.echo(f"{click.style('KIND:', bold=True)}     {kind}")
    click.echo(f"{click.style('VERSION:', bold=True)}  veil.dev/v1alpha1")
    if fields:
        click.echo(f"{click.style('FIELD:', bold=True)}    {'.'.join(fields)} {_type(part)}")
    click.echo(f"\n{click.style('DESCRIPTION:', bold=True)}\n{_wrapped(part.get('description', ''), '  ')}")
    if known := _properties(part):
        click.echo(f"\n{click.style('FIELDS:', bold=True)}")
        _print_fields(part, "  ", recursive)


def _print_fields(part: dict[str, Any], indent: str, recursive: bool) -> None:
    required = set(_object(part).get("required", ()))
    for name, below in _properties(part).items():
        needed = click.style(" -required-", fg="yellow") if name in required else ""
        click.echo(f"{indent}{click.style(name, bold=True)} {_type(below)}{needed}")
        if not recursive:
            click.echo(_wrapped(_details(below), indent + "  ") + "\n")
        else:
            _print_fields(below, indent + "  ", recursive)


def _details(part: dict[str, Any]) -> str:
    texts = [part.get("description", "")]
    if "enum" in part:
        texts.append(f"One of {', '.join(map(str, part['enum']))}.")
    if part.get("default") not in (None, {}, ""):
        texts.append(f"Default: {str(part['default']).lower() if isinstance(part['default'], bool) else part['default']}.")
    return " ".join(text for text in texts if text)


def _object(part: dict[str, Any]) -> dict[str, Any]:
    """The object schema itself, or that of a list's items."""
    items: dict[str, Any] = part.get("items", part) if part.get("type") == "array" else part
    return items


def _properties(part: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _object(part).get("properties", {})
    return found


def _type(part: dict[str, Any]) -> str:
    kind = part.get("type", "object")
    if isinstance(kind, list):
        return f"<{' or '.join(kind)}>"
    if kind == "array":
        return f"<[]{_type(part.get('items', {})).strip('<>')}>"
    values = part.get("additionalProperties")
    if kind == "object" and isinstance(values, dict) and "properties" not in part:
        return f"<map of {_type(values).strip('<>')}>"
    return f"<{kind}>"


def _wrapped(text: str, indent: str) -> str:
    return click.formatting.wrap_text(text, WIDTH, indent, indent)

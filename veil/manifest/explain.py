"""What the schema's validator finds, in words that say what to write instead."""

import json
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from veil.errors import FieldError
from veil.manifest.parse import Located, Path

SHOWN_MAX_CHARS = 60

_ARTICLES = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def explain(located: Located, path: Path, error: Any) -> Iterator[FieldError]:
    """One schema error as field errors: one for each unknown or missing field."""
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = list(error.schema.get("properties", {}))
        for name in (name for name in error.instance if name not in known):
            yield located.error((*path, name), f"unknown field{near(name, known) or _known(known)}")
    elif error.validator == "required":
        for name in (name for name in error.validator_value if name not in error.instance):
            yield located.error(path, f"{name} is missing")
    elif "propertyNames" in error.absolute_schema_path:
        yield located.error((*path, str(error.instance)), _message(error))
    else:
        yield located.error(path, _message(error))


def _message(error: Any) -> str:
    wanted, value, part = error.validator_value, shown(error.instance), error.schema
    messages: dict[str, Callable[[], str]] = {
        "type": lambda: f"must be {_type_text(wanted)}, not {value}{_quotes(wanted, error.instance)}",
        "enum": lambda: f"unsupported value {value}: supported are {', '.join(map(str, wanted))}",
        "const": lambda: f'must be "{wanted}", not {value}',
        "minimum": lambda: f"must be at least {wanted}, not {value}",
        "maximum": lambda: f"must be at most {wanted}, not {value}",
        "pattern": lambda: f"{value} {part.get('x-veil-message', f'does not match {wanted}')}",
        "minLength": lambda: "must not be empty",
        "maxLength": lambda: f"has {len(error.instance)} characters, at most {wanted} are taken",
        "minItems": lambda: f"needs at least {wanted} of them",
        "maxItems": lambda: f"has {len(error.instance)} items, at most {wanted} are taken",
        "maxProperties": lambda: f"has {len(error.instance)} entries, at most {wanted} are taken",
        "uniqueItems": lambda: "has an item twice",
    }
    message = messages.get(str(error.validator))
    return message() if message else str(error.message)


def _type_text(wanted: str | list[str]) -> str:
    if isinstance(wanted, str):
        return _ARTICLES[wanted]
    if set(wanted) == {"string", "integer", "number"}:
        return "a quantity"
    return " or ".join(_ARTICLES[name] for name in wanted)


def _quotes(wanted: str | list[str], value: Any) -> str:
    return ": put it in quotes" if wanted == "string" and isinstance(value, (bool, int, float)) else ""


def shown(value: Any) -> str:
    """A value as JSON, shortened."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_MAX_CHARS else text[:SHOWN_MAX_CHARS] + "…"


def near(name: str, known: Sequence[str]) -> str:
    """The known name that was probably meant, as the end of a sentence; empty when there is none."""
    folded = {word.lower(): word for word in known} | {word.rpartition("/")[2].lower(): word for word in known}
    found = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f", did you mean {folded[found[0]]}?" if found else ""


def _known(known: Sequence[str]) -> str:
    return f": known are {', '.join(known)}" if 0 < len(known) <= 12 else ""

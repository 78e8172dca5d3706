"""The JSON Schemas of every kind: the one source of validation, defaults, OpenAPI and ``veil explain``."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from veil.errors import NotFound

API_VERSION = "veil.dev/v1alpha1"

_FILES = {"Workload": "workload.json", "Namespace": "namespace.json", "Node": "node.json", "Instance": "instance.json"}

KINDS = tuple(_FILES)
"""The kinds of objects that have a schema."""

_FILES |= {"Committee": "committee.json", "KeyPlan": "keyplan.json"}

FILE_KINDS = tuple(kind for kind in _FILES if kind not in KINDS)
"""Kinds of files that verbs read, and that are no objects of a cluster."""

Schema = dict[str, Any]


def schema_dir() -> Path:
    """Where the schemas are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "schemas"
    return inside if inside.is_dir() else package.parent / "schemas"


@cache
def schema(kind: str) -> Schema:
    """The schema of ``kind`` with every ``$ref`` resolved. Shared: not to be changed. Raises NotFound."""
    if kind not in _FILES:
        raise NotFound(f"there is no kind {kind}", hint=f"known kinds are {', '.join(KINDS)}")
    resolved: Schema = _resolve(_file(_FILES[kind]))
    resolved.pop("$defs", None)
    return resolved


def is_namespaced(kind: str) -> bool:
    """Whether objects of ``kind`` live in a namespace. Raises NotFound."""
    return bool(schema(kind)["x-veil-scope"] == "Namespaced")


@cache
def _file(name: str) -> Schema:
    content: Schema = json.loads((schema_dir() / name).read_text())
    return content


def _resolve(part: Any) -> Any:
    if isinstance(part, list):
        return [_resolve(item) for item in part]
    if not isinstance(part, dict):
        return part
    here = {key: _resolve(value) for key, value in part.items() if key != "$ref"}
    if "$ref" not in part:
        return here
    name, _, pointer = part["$ref"].partition("#/")
    target: Any = _file(name)
    for step in pointer.split("/"):
        target = target[step]
    return _merge(_resolve(target), here)


def _merge(base: Schema, over: Schema) -> Schema:
    """``over``'s keywords beside ``base``'s, deeply; ``over`` wins."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged

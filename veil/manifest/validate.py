"""Whether an object is what its schema says, told so that its author can repair it.

All errors are found at once and each names file, line and field. The schema's keywords do most of it; what a schema cannot
say (unique names, limits equal to requests, room in the public envelope) is in :mod:`veil.manifest.rules`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from veil.errors import FieldError, InvalidInput, ManifestInvalid
from veil.identity import parse_peer_id
from veil.manifest.explain import explain, near, shown
from veil.manifest.parse import Located, load
from veil.manifest.quantity import parse_bytes, parse_count, parse_cpu
from veil.manifest.rules import broken_rules
from veil.manifest.schemas import API_VERSION, KINDS, Schema, is_namespaced, schema

Obj = dict[str, Any]

ERRORS_MAX = 50
"""How many errors of one file are told."""

MESSAGE_MAX_CHARS = 300
"""How much of what a wrong value's own parser says is repeated."""

DEFAULT_NAMESPACE = "default"

_FORMATS: dict[str, Callable[[Any], Any]] = {
    "cpu": parse_cpu,
    "bytes": parse_bytes,
    "count": parse_count,
    "peer-id": parse_peer_id,
}


def read(text: str | bytes, file: str = "", *, kinds: Sequence[str] = KINDS) -> list[Obj]:
    """The valid objects of a manifest. Raises ManifestInvalid with the errors of all its documents."""
    objects: list[Obj] = []
    errors: list[FieldError] = []
    seen: dict[tuple[str, str, str], int] = {}
    for located in load(text, file):
        try:
            obj = validate(located, kinds=kinds)
        except ManifestInvalid as invalid:
            errors += invalid.errors
            continue
        key = identity_of(obj)
        if key in seen:
            errors.append(located.error(("metadata", "name"), f"{key[0]} {key[2]} is there already, in line {seen[key]}"))
        seen.setdefault(key, located.line_of(("metadata", "name")))
        objects.append(obj)
    if errors:
        raise ManifestInvalid(errors[:ERRORS_MAX], hint=_HINT)
    return objects


_HINT = "`veil explain <kind>` shows every field"


def identity_of(obj: Obj) -> tuple[str, str, str]:
    """Kind, namespace (empty for kinds that have none) and name."""
    namespace = obj["metadata"].get("namespace", DEFAULT_NAMESPACE) if is_namespaced(obj["kind"]) else ""
    return obj["kind"], namespace, obj["metadata"]["name"]


def validate(located: Located, *, kinds: Sequence[str] = KINDS) -> Obj:
    """The object, a copy without defaults. Raises ManifestInvalid with every error, in the order of the file."""
    errors = list(_errors(located, kinds))
    if errors:
        errors = sorted(dict.fromkeys(errors), key=lambda error: error.line)
        raise ManifestInvalid(errors[:ERRORS_MAX], hint=_HINT)
    obj: Obj = deepcopy(located.value)
    return obj


def validate_object(obj: Any, *, kinds: Sequence[str] = KINDS) -> Obj:
    """The same for an object that came without a file, such as an API body."""
    return validate(Located(obj), kinds=kinds)


def default(obj: Obj) -> Obj:
    """A copy of a valid object with every default of its schema filled in, and its namespace. Doing it twice changes nothing."""
    filled: Obj = deepcopy(obj)
    if is_namespaced(filled["kind"]):
        filled["metadata"].setdefault("namespace", DEFAULT_NAMESPACE)
    _fill(filled, schema(filled["kind"]))
    return filled


def _fill(value: Any, part: Schema) -> None:
    if isinstance(value, list):
        for item in value:
            _fill(item, part.get("items", {}))
    if not isinstance(value, dict):
        return
    for name, below in part.get("properties", {}).items():
        if name not in value and "default" in below:
            value[name] = deepcopy(below["default"])
        if name in value:
            _fill(value[name], below)


def _errors(located: Located, kinds: Sequence[str]) -> Iterator[FieldError]:
    value = located.value
    if not isinstance(value, dict):
        yield located.error((), f"must be an object with apiVersion, kind and metadata, not {shown(value)}")
        return
    wrong = list(_wrong_type(located, value, kinds))
    yield from wrong
    if value.get("kind") not in kinds:
        return
    found = list(_validator(value["kind"]).iter_errors(value))
    for error in found:
        path = tuple(error.absolute_path)
        if path not in (("apiVersion",), ("kind",)):
            yield from explain(located, path, error)
    if not found:
        for path, message in broken_rules(value):
            yield located.error(path, message)


def _wrong_type(located: Located, value: Obj, kinds: Sequence[str]) -> Iterator[FieldError]:
    version, kind = value.get("apiVersion"), value.get("kind")
    if "apiVersion" in value and version != API_VERSION:
        yield located.error(("apiVersion",), f'must be "{API_VERSION}", not {shown(version)}')
    if "kind" not in value:
        yield located.error((), f"kind is missing: one of {', '.join(kinds)}")
    elif kind not in kinds:
        hint = near(str(kind), kinds)
        yield located.error(("kind",), f"unknown kind {shown(kind)}{hint or ': known are ' + ', '.join(kinds)}")
    if "apiVersion" not in value and kind not in kinds:
        yield located.error((), f'apiVersion is missing: "{API_VERSION}"')


def _pattern(validator: Any, pattern: str, instance: Any, part: Schema) -> Iterator[ValidationError]:
    # JSON Schema's $ is the end of the string; Python's would also take a newline before it.
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError("does not match")


def _format(validator: Any, name: str, instance: Any, part: Schema) -> Iterator[ValidationError]:
    if isinstance(instance, bool) or not isinstance(instance, (str, int, float)):
        return
    try:
        _FORMATS[name](instance)
    except InvalidInput as error:
        yield ValidationError(error.message[:MESSAGE_MAX_CHARS])


def _is_integer(checker: Any, instance: Any) -> bool:
    return isinstance(instance, int) and not isinstance(instance, bool)


@cache
def _validator(kind: str) -> Any:
    base: Any = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine("integer", _is_integer)
    extended: Any = extend(  # type: ignore[no-untyped-call]
        base, {"pattern": _pattern, "format": _format}, type_checker=types
    )
    return extended(schema(kind))

"""The few Kubernetes protobuf bodies that kubectl sends although it takes JSON: new namespaces, access reviews, options.

Only the fields that Veil reads are decoded, by hand: the messages are frozen (``generated.proto`` of k8s.io/api), and five
small tables are less to keep than a code generator and its output. Replies are JSON.
"""

from collections.abc import Iterator
from typing import Any

from veil.errors import InvalidInput
from veil.store.objects import Obj

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"

Fields = dict[int, tuple[str, Any]]
"""Field number → JSON name and type: str, a nested table, or "map" for string to string."""

_META: Fields = {
    1: ("name", str),
    2: ("generateName", str),
    3: ("namespace", str),
    11: ("labels", "map"),
    12: ("annotations", "map"),
}
_ATTRIBUTES: Fields = {
    number: (name, str)
    for number, name in enumerate(("namespace", "verb", "group", "version", "resource", "subresource", "name"), start=1)
}
_REVIEW: Fields = {1: ("resourceAttributes", _ATTRIBUTES), 2: ("nonResourceAttributes", {1: ("path", str), 2: ("verb", str)})}
_KINDS: dict[tuple[str, str], Fields] = {
    ("v1", "Namespace"): {1: ("metadata", _META)},
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {1: ("metadata", _META), 2: ("spec", _REVIEW)},
    ("v1", "DeleteOptions"): {2: ("preconditions", {1: ("uid", str), 2: ("resourceVersion", str)})},
}
_ENVELOPE: Fields = {1: ("type", {1: ("apiVersion", str), 2: ("kind", str)}), 2: ("raw", bytes)}


def decode(data: bytes) -> Obj:
    """The object in its JSON form. Raises InvalidInput for what is malformed or not one of these kinds."""
    if not data.startswith(MAGIC):
        raise InvalidInput("the body is not Kubernetes protobuf", hint="send application/json")
    envelope = _message(data[len(MAGIC) :], _ENVELOPE)
    named = envelope.get("type", {})
    kind = (named.get("apiVersion", ""), named.get("kind", ""))
    if kind not in _KINDS:
        raise InvalidInput(f"{kind[1] or 'this kind'} is not taken as protobuf", hint="send application/json")
    return {"apiVersion": kind[0], "kind": kind[1], **_message(envelope.get("raw", b""), _KINDS[kind])}


def _message(data: bytes, fields: Fields) -> Obj:
    value: Obj = {}
    for number, content in _records(data):
        if number not in fields or not isinstance(content, bytes):
            continue
        name, kind = fields[number]
        if kind == "map":
            entry = _message(content, {1: ("key", str), 2: ("value", str)})
            value.setdefault(name, {})[entry.get("key", "")] = entry.get("value", "")
        elif isinstance(kind, dict):
            value[name] = _message(content, kind)
        elif kind is bytes:
            value[name] = content
        elif content:
            value[name] = _text(content)
    return value


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the protobuf body has text that is not UTF-8: {error}") from error


def _records(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Field numbers and contents: bytes for length-delimited ones, numbers for the rest."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, form = tag >> 3, tag & 7
        if form == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if form == 2:
            size, at = _varint(data, at)
        elif form in (1, 5):
            size = 8 if form == 1 else 4
        else:
            raise InvalidInput(f"the protobuf body has a field of form {form}")
        if size > len(data) - at:
            raise InvalidInput("the protobuf body ends early")
        if form == 2:
            yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise InvalidInput("the protobuf body has a number that does not end")

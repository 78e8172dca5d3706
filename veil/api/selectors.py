"""Label and field selectors, as Kubernetes writes them, as functions of an object.

Grammar: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors. Field selectors know
every dotted path of strings, numbers and truth values.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from veil.errors import InvalidInput
from veil.store.objects import Obj

SELECTOR_MAX_CHARS = 4096

Match = Callable[[Obj], bool]

_KEY = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?"
_SET = re.compile(rf"^(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(rf"^(?P<key>{_KEY})\s*(?P<op>==|=|!=)\s*(?P<value>[A-Za-z0-9._-]*)$")
_EXISTS = re.compile(rf"^(?P<not>!?)\s*(?P<key>{_KEY})$")
_FIELD = re.compile(r"^(?P<key>[A-Za-z0-9.\[\]_/-]+)(?P<op>!=|==|=)(?P<value>.*)$")


def by_labels(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Raises InvalidInput, quoting the term that is not understood."""
    _bounded(text)
    tests = [_label_term(term.strip()) for term in _terms(text)]
    return lambda labels: all(test(labels) for test in tests)


def by_fields(text: str) -> Match:
    """Raises InvalidInput. A field that is missing equals the empty string."""
    _bounded(text)
    tests = [_field_term(term) for term in text.split(",") if term]
    return lambda obj: all(test(obj) for test in tests)


def selector(*, namespace: str = "", name: str = "", labels: str = "", fields: str = "") -> Match:
    """Everything that a list or watch can select by; empty parts match all."""
    tests: list[Match] = []
    if namespace:
        tests.append(lambda obj: obj["metadata"].get("namespace") == namespace)
    if name:
        tests.append(lambda obj: obj["metadata"].get("name") == name)
    if labels:
        of_labels = by_labels(labels)
        tests.append(lambda obj: of_labels(obj["metadata"].get("labels") or {}))
    if fields:
        tests.append(by_fields(fields))
    return lambda obj: all(test(obj) for test in tests)


def _bounded(text: str) -> None:
    if len(text) > SELECTOR_MAX_CHARS:
        raise InvalidInput(f"a selector of {len(text)} characters, SELECTOR_MAX_CHARS is {SELECTOR_MAX_CHARS}")


def _terms(text: str) -> list[str]:
    """Split at commas outside parentheses."""
    terms, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            terms.append(text[start:index])
            start = index + 1
    return [term for term in [*terms, text[start:]] if term.strip()]


def _label_term(term: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(term):
        key, wanted = found["key"], found["op"] == "in"
        values = {value.strip() for value in found["values"].split(",")}
        return lambda labels: (labels.get(key) in values) == wanted
    if found := _EQUAL.match(term):
        key, value, equal = found["key"], found["value"], found["op"] != "!="
        return lambda labels: (labels.get(key) == value) == equal
    if found := _EXISTS.match(term):
        key, there = found["key"], not found["not"]
        return lambda labels: (key in labels) == there
    raise InvalidInput(f"unable to parse the label selector {term!r}", hint="for example app=web,tier!=db,env in (a,b)")


def _field_term(term: str) -> Match:
    found = _FIELD.match(term)
    if not found:
        raise InvalidInput(f"unable to parse the field selector {term!r}", hint="for example metadata.name=web")
    path, value, equal = found["key"].split("."), found["value"], found["op"] != "!="
    return lambda obj: (_text(dig(obj, path)) == value) == equal


def dig(obj: Any, path: list[str]) -> Any:
    """What is at ``path`` in nested mappings, or None."""
    for part in path:
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(part)
    return obj


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)

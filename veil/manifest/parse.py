"""YAML to plain values that know their lines.

Built from parser events and not from PyYAML's constructors: nothing but JSON's types can come out, keys are unique, size,
depth and expansion are bounded, and every field remembers the line that it stands on. Plain scalars are read as YAML 1.2's
core schema has them, so that ``no`` and ``on`` are strings and 1.10 is the number that its author sees.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from veil.errors import FieldError, ManifestInvalid

MANIFEST_MAX_BYTES = 1024 * 1024
DOCUMENTS_MAX = 1000
"""Objects in one file."""
DEPTH_MAX = 64
NODES_MAX = 100_000
"""Values in one file, each alias counted as all that it stands for: what stops an alias bomb."""
KEY_SHOWN_MAX_CHARS = 100
"""How much of a key a message repeats."""

Path = tuple[str | int, ...]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = ("", "~", "null", "Null", "NULL")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,63})\Z", re.ASCII)
_BASED = re.compile(r"0(?:x[0-9a-fA-F]{1,32}|o[0-7]{1,32})\Z", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?\Z", re.ASCII)
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("null", "bool", "int", "float", "str", "seq", "map")}
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Located:
    """One document: its value, and where each part of it stands. ``lines`` begin at 1."""

    value: Any
    file: str = ""
    lines: dict[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """The line of ``path``, or of the nearest thing around it; 0 when lines are not known."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def error(self, path: Path, message: str) -> FieldError:
        return FieldError(path=path_text(path), message=message, file=self.file, line=self.line_of(path))


def path_text(path: Path) -> str:
    """As people write it: ``spec.template.containers[0].image``, ``metadata.labels["example.org/x"]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        shown = part if len(part) <= KEY_SHOWN_MAX_CHARS else part[:KEY_SHOWN_MAX_CHARS] + "…"
        if _PLAIN_KEY.match(part):
            text += f".{shown}" if text else shown
        else:
            text += f"[{json.dumps(shown, ensure_ascii=False)}]"
    return text


def load(text: str | bytes, file: str = "") -> list[Located]:
    """Every document of ``text`` that is not empty.

    Raises ManifestInvalid (with file and line) for what is not YAML, passes a limit, repeats a key or has no document.
    """
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if len(data) > MANIFEST_MAX_BYTES:
        _fail(f"{len(data)} bytes, MANIFEST_MAX_BYTES is {MANIFEST_MAX_BYTES}", file, 0)
    try:
        decoded = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _fail(f"not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}", file, data[: error.start].count(b"\n") + 1)
    try:
        documents = list(_Builder(decoded, file).documents())
    except yaml.YAMLError as error:
        _fail(*_explain(error, decoded, file))
    if not documents:
        _fail("there is no object in it", file, 0)
    return documents


def _fail(message: str, file: str, line: int) -> NoReturn:
    raise ManifestInvalid([FieldError(path="", message=message, file=file, line=line)])


def _explain(error: yaml.YAMLError, text: str, file: str) -> tuple[str, str, int]:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    context = getattr(error, "context", None)
    message = f"{context}: {problem}" if context else str(problem)
    if mark and "cannot start any token" in message:
        character = (text.splitlines()[mark.line : mark.line + 1] or [""])[0][mark.column :][:1]
        message = f"{character!r} cannot begin a value: put it in quotes"
        if character == "\t":
            message = "a tab is used to indent: YAML wants spaces"
    return " ".join(f"not YAML: {message}".split()), file, mark.line + 1 if mark else 0


class _Builder:
    """Turns events into values, one document after the other."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Iterator[Event] = yaml.parse(text, Loader=_LOADER)
        self._file = file
        self._nodes = 0
        self._lines: dict[Path, int] = {}
        self._anchors: dict[str, tuple[Any, int, int]] = {}

    def documents(self) -> Iterator[Located]:
        count = 0
        for event in self._events:
            if not isinstance(event, DocumentStartEvent):
                continue
            self._lines, self._anchors = {}, {}
            value = self._value(next(self._events), ())
            if value is None:
                continue
            count += 1
            if count > DOCUMENTS_MAX:
                self._stop(f"more than DOCUMENTS_MAX={DOCUMENTS_MAX} objects", event)
            yield Located(value, self._file, self._lines)

    def _stop(self, message: str, event: Event) -> NoReturn:
        _fail(message, self._file, _line(event))

    def _value(self, event: Event, path: Path) -> Any:
        before = self._nodes
        self._count(1, event)
        self._lines.setdefault(path, _line(event))
        if len(path) > DEPTH_MAX:
            self._stop(f"nested deeper than DEPTH_MAX={DEPTH_MAX}", event)
        if isinstance(event, AliasEvent):
            return self._alias(event, len(path))
        value: Any
        if isinstance(event, MappingStartEvent):
            value = self._mapping(event, path)
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(event, path)
        else:
            assert isinstance(event, ScalarEvent)
            value = self._scalar(event)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._nodes - before, _height(value))
        return value

    def _count(self, more: int, event: Event) -> None:
        self._nodes += more
        if self._nodes > NODES_MAX:
            self._stop(f"more than NODES_MAX={NODES_MAX} values (aliases expanded)", event)

    def _alias(self, event: AliasEvent, depth: int) -> Any:
        if event.anchor not in self._anchors:
            self._stop(f"*{event.anchor} stands for nothing before it", event)
        value, nodes, height = self._anchors[event.anchor]
        self._count(nodes, event)
        if depth + height > DEPTH_MAX:
            self._stop(f"nested deeper than DEPTH_MAX={DEPTH_MAX} (aliases expanded)", event)
        return value

    def _tag(self, event: Any, *allowed: str) -> str:
        """The short name of an explicit tag, empty for none."""
        if event.tag in (None, "!", "?"):
            return ""
        name = _TAGS.get(event.tag, "")
        if name not in allowed:
            self._stop(f"the tag {event.tag} is not taken", event)
        return name

    def _mapping(self, event: MappingStartEvent, path: Path) -> dict[str, Any]:
        self._tag(event, "map")
        value: dict[str, Any] = {}
        for key_event in self._events:
            if isinstance(key_event, MappingEndEvent):
                break
            key = self._key(key_event)
            if key in value:
                first = self._lines[(*path, key)]
                self._stop(f"{path_text((*path, key))} is there twice, first in line {first}", key_event)
            self._lines[(*path, key)] = _line(key_event)
            value[key] = self._value(next(self._events), (*path, key))
        return value

    def _key(self, event: Event) -> str:
        if not isinstance(event, ScalarEvent):
            self._stop("a key must be a string", event)
        if event.value == "<<" and not event.style:
            self._stop("merge keys (<<) are not taken: write the fields out", event)
        key = self._scalar(event)
        if not isinstance(key, str):
            self._stop(f"the key {event.value!r} is not a string: put it in quotes", event)
        return key

    def _sequence(self, event: SequenceStartEvent, path: Path) -> list[Any]:
        self._tag(event, "seq")
        value: list[Any] = []
        for item in self._events:
            if isinstance(item, SequenceEndEvent):
                break
            value.append(self._value(item, (*path, len(value))))
        return value

    def _scalar(self, event: ScalarEvent) -> Any:
        tag = self._tag(event, "null", "bool", "int", "float", "str")
        if any("\ud800" <= character <= "\udfff" for character in event.value):
            self._stop("half of a surrogate pair is not text", event)
        if tag == "str" or (event.style and not tag):
            return event.value
        value = _plain(event.value)
        if tag and type(value).__name__ != {"null": "NoneType"}.get(tag, tag):
            self._stop(f"{event.value!r} is not of the tag's type {tag}", event)
        return value


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _height(value: Any) -> int:
    """How many levels are below ``value``."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_height, value), default=0) if isinstance(value, list) else 0


def _plain(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return int(text)
    if _BASED.match(text):
        return int(text, 0)
    if _FLOAT.match(text) and any(mark in text for mark in ".eE"):
        number = float(text)
        return number if number not in (float("inf"), float("-inf")) else text
    return text

"""Answers of the API as values: Kubernetes Status documents into errors of the house, watch lines into events.

The server writes the class of an error into ``reason`` (:mod:`veil.api.status`); whatever has no class here (a proxy, a
newer server) is told apart by its HTTP code.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from veil import errors
from veil.client.kinds import Obj
from veil.errors import FieldError, ManifestInvalid, VeilError

HINT = "Hint"
"""The reason of the cause that carries a hint."""

_BY_CODE: dict[int, type[VeilError]] = {
    400: errors.InvalidInput,
    401: errors.Forbidden,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Conflict,
    413: errors.LimitExceeded,
    422: errors.InvalidInput,
    503: errors.NodeUnavailable,
    504: errors.DeadlineExceeded,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a watch. BOOKMARK carries nothing but a resourceVersion."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Obj


def _classes(root: type[VeilError]) -> Iterator[type[VeilError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


def error_of(code: int, text: bytes) -> VeilError:
    """The error that an answer with HTTP ``code`` >= 400 means."""
    try:
        status = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        status = {"message": text[:200].decode(errors="replace").strip() or f"HTTP {code}"}
    return error_of_status(status, code)


def error_of_status(status: Obj, code: int = 0) -> VeilError:
    """The error that a Status document means."""
    causes: list[Obj] = (status.get("details") or {}).get("causes") or []
    hint = next((str(cause.get("message", "")) for cause in causes if cause.get("reason") == HINT), "")
    message = str(status.get("message", "")).removesuffix(f" ({hint})")
    fields = [
        FieldError(str(cause.get("field", "")), str(cause.get("message", ""))) for cause in causes if cause.get("reason") != HINT
    ]
    reason = status.get("reason")
    if reason == "Invalid" and fields:
        return ManifestInvalid(fields, hint=hint)
    if (kind := _class_of(str(reason))) is not None:
        return kind(message, hint=hint)
    return _BY_CODE.get(int(status.get("code", code) or code), VeilError)(message, hint=hint)


def error_of_class(name: str, message: str, hint: str) -> VeilError:
    """The error whose class is ``name``; a plain one of the house when it is none of its classes."""
    return (_class_of(name) or VeilError)(message, hint=hint)


def _class_of(name: str) -> type[VeilError] | None:
    """ManifestInvalid is made of its fields, so it is none that a name would be enough for."""
    return next((kind for kind in _classes(VeilError) if kind.__name__ == name and kind is not ManifestInvalid), None)


def change_of(line: bytes) -> Change:
    """One watch line. Raises the error that an ERROR line carries (Conflict: list again, the version is too old)."""
    event = msgspec.json.decode(line, type=dict[str, Any])
    if event["type"] == "ERROR":
        raise error_of_status(event["object"])
    return Change(event["type"], event["object"])

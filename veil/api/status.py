"""Errors as Kubernetes Status documents, which kubectl prints in its own words.

An error of the house keeps its class name as ``reason`` unless Kubernetes has a word of its own for it; its hint follows the
message in brackets for kubectl, and stands alone in a cause for Veil's client (:mod:`veil.client.answers`).
"""

from collections.abc import Sequence
from typing import Any

from veil import errors
from veil.client.answers import HINT
from veil.errors import ManifestInvalid, VeilError
from veil.store.objects import Gone, Obj


class Rejected(VeilError):
    """A refusal that only HTTP has a word for: its code and its Status reason."""

    def __init__(self, code: int, status_reason: str, message: str, *, hint: str = "", causes: Sequence[Obj] = ()) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.status_reason = status_reason
        self.causes = list(causes)


_CODES: tuple[tuple[type[VeilError], int, str], ...] = (
    (Gone, 410, "Expired"),
    (errors.ManifestInvalid, 422, "Invalid"),
    (errors.LimitExceeded, 413, "RequestEntityTooLarge"),
    (errors.InvalidInput, 400, "BadRequest"),
    (errors.NotFound, 404, "NotFound"),
    (errors.AlreadyExists, 409, "AlreadyExists"),
    (errors.Conflict, 409, "Conflict"),
    (errors.Forbidden, 403, "Forbidden"),
    (errors.DeadlineExceeded, 504, ""),
    (errors.Unavailable, 503, ""),
    (errors.VeilError, 500, ""),
)
"""The first match counts; an empty reason means the class's own name."""


def code_and_reason(error: VeilError) -> tuple[int, str]:
    """The HTTP code and the Status reason of an error."""
    if isinstance(error, Rejected):
        return error.code, error.status_reason
    code, reason = next((code, reason) for kind, code, reason in _CODES if isinstance(error, kind))
    return code, reason or error.reason


def status_of(error: VeilError, details: Obj | None = None) -> Obj:
    """The Status document. ``details`` are the name, group and kind that the request was about."""
    code, reason = code_and_reason(error)
    causes: list[Obj] = list(error.causes) if isinstance(error, Rejected) else []
    message = error.message
    if isinstance(error, ManifestInvalid):
        causes += [{"reason": "FieldValueInvalid", "field": item.path, "message": item.message} for item in error.errors]
        message = _invalid(error, details or {})
    if error.hint:
        causes.append({"reason": HINT, "field": "hint", "message": error.hint})
        message = f"{message} ({error.hint})"
    body: Obj = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    if details or causes:
        body["details"] = (details or {}) | ({"causes": causes} if causes else {})
    return body


def _invalid(error: ManifestInvalid, details: dict[str, Any]) -> str:
    listed = ", ".join(": ".join(part for part in (item.path, item.message) if part) for item in error.errors)
    what = ".".join(part for part in (str(details.get("kind", "object")), str(details.get("group", ""))) if part)
    return f'{what} "{details.get("name", "")}" is invalid: {f"[{listed}]" if len(error.errors) > 1 else listed}'

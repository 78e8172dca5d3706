"""Objects as tables (``Accept: application/json;as=Table``): what kubectl prints comes from here.

https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from veil.api.kinds import Column, Kind
from veil.api.selectors import dig
from veil.store.objects import Obj

_NAME = Column("Name", "metadata.name", description="unique within its namespace")
_SHORT_CHARS = 17


def table(kind: Kind, objects: Sequence[Obj], metadata: Obj, *, now_s: float, include: str = "Metadata") -> Obj:
    """A Table of ``objects``. ``include`` (None, Metadata, Object) is what each row carries besides its cells."""
    columns = (_NAME, *kind.columns)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type if column.type != "date" else "string",
                "format": "name" if column is _NAME else "",
                "description": column.description,
                "priority": column.priority,
            }
            for column in columns
        ],
        "rows": [{"cells": [cell(obj, column, now_s) for column in columns]} | _carried(obj, include) for obj in objects],
    }


def _carried(obj: Obj, include: str) -> Obj:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": obj}
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    return {"object": partial}


def cell(obj: Obj, column: Column, now_s: float) -> Any:
    """The value of one column, as it is printed."""
    form, _, path = column.path.rpartition(":")
    if form in ("condition", "reason"):
        return _condition(obj, path).get("status" if form == "condition" else "reason", "Unknown" if form == "condition" else "")
    if form == "ratio":
        one, other = (dig(obj, part.split(".")) or 0 for part in path.split(","))
        return f"{one}/{other}"
    value = dig(obj, path.split("."))
    if form == "count":
        return len(value or ())
    if form == "short":
        return shorten(str(value or ""))
    if column.type == "date":
        return age(str(value), now_s) if value else "<unknown>"
    if column.type == "boolean":
        return bool(value)
    if value is None:
        return 0 if column.type == "integer" else ""
    return value


def _condition(obj: Obj, kind: str) -> Obj:
    found: Obj = next((item for item in dig(obj, ["status", "conditions"]) or [] if item.get("type") == kind), {})
    return found


def shorten(text: str) -> str:
    """An identifier by its first and last characters."""
    return text if len(text) <= _SHORT_CHARS else f"{text[:8]}…{text[-8:]}"


def age(timestamp: str, now_s: float) -> str:
    """How long ago, in the coarse units that kubectl uses."""
    try:
        then = datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
    except ValueError:
        return "<invalid>"
    seconds = max(0, int(now_s - then))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 10 * 60:
        return f"{seconds // 60}m{seconds % 60}s" if seconds % 60 else f"{seconds // 60}m"
    if seconds < 3 * 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 48 * 3600 else f"{seconds // 86400}d"

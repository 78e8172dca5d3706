"""Server-side apply: an object's fields belong to those who applied them.

Maps are granular, lists are one field (as for custom resources without list types). Only appliers own fields: whoever
changes an object by other means neither gains nor takes ownership, so that a change by hand is undone by the next apply.
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from veil.api.status import Rejected
from veil.store.objects import Obj

MANAGERS_MAX = 64
FIELD_DEPTH_MAX = 64

Path = tuple[str, ...]

_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
"""The parts of metadata that can be owned; name, uid and so on are the server's."""


def apply(live: Obj | None, applied: Obj, *, manager: str, force: bool, now: str) -> Obj:
    """The object after ``manager`` applied ``applied``: its fields set, those it no longer applies removed.

    Raises Rejected (409, Conflict) with one cause for each field that another manager applied with another value, unless
    ``force``, which takes those fields over.
    """
    new: Obj = copy.deepcopy(live) if live else {key: applied[key] for key in ("apiVersion", "kind") if key in applied}
    metadata = new.setdefault("metadata", {})
    entries: list[Obj] = metadata.pop("managedFields", None) or []
    metadata |= {key: applied["metadata"][key] for key in ("name", "namespace") if key in applied["metadata"]}
    mine = _fields(applied)
    before = {path for entry in entries if entry["manager"] == manager for path in _paths(entry["fieldsV1"])}
    theirs = [(entry, set(_paths(entry["fieldsV1"]))) for entry in entries if entry["manager"] != manager]
    _settle(live, mine, theirs, force)
    kept = {path for _, paths in theirs for path in paths}
    for path in before - mine.keys() - kept:
        _remove(new, path)
    for path, value in mine.items():
        _set(new, path, copy.deepcopy(value))
    left = {entry["manager"]: {**entry, "fieldsV1": _tree(paths)} for entry, paths in theirs if paths}
    left[manager] = _entry(entries, manager, applied, mine, now)
    if len(left) > MANAGERS_MAX:
        raise Rejected(422, "Invalid", f"over MANAGERS_MAX={MANAGERS_MAX} field managers", hint="apply under one name")
    new["metadata"]["managedFields"] = [left[name] for name in sorted(left)]
    return new


def _settle(live: Obj | None, mine: Mapping[Path, Any], theirs: list[tuple[Obj, set[Path]]], force: bool) -> None:
    """Find the conflicts; with ``force`` the others lose those fields."""
    causes = []
    for entry, paths in theirs:
        clash = {path for path in paths if any(_overlaps(path, own) and _at(live, own) != mine[own] for own in mine)}
        paths -= clash if force else set()
        causes += [
            {
                "reason": "FieldManagerConflict",
                "field": "." + ".".join(path),
                "message": f'conflict with "{entry["manager"]}" using {entry["apiVersion"]}',
            }
            for path in sorted(clash)
        ]
    if causes and not force:
        fields = "\n".join(f"- {cause['field']}" for cause in causes)
        raise Rejected(
            409,
            "Conflict",
            f"Apply failed with {len(causes)} conflict{'s' * (len(causes) > 1)}: {causes[0]['message']}:\n{fields}",
            causes=causes,
        )


def _overlaps(one: Path, other: Path) -> bool:
    short = min(len(one), len(other))
    return one[:short] == other[:short]


def _entry(entries: list[Obj], manager: str, applied: Obj, mine: Mapping[Path, Any], now: str) -> Obj:
    tree = _tree(mine)
    for entry in entries:
        if entry["manager"] == manager and entry["fieldsV1"] == tree and entry["apiVersion"] == applied.get("apiVersion"):
            return entry
    return {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": applied.get("apiVersion", ""),
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": tree,
    }


def _fields(obj: Obj) -> dict[Path, Any]:
    """The leaves of what was applied, without what is the server's."""
    found: dict[Path, Any] = {}
    for key, value in obj.items():
        if key == "metadata":
            for part in _METADATA:
                if value.get(part):
                    _leaves(value[part], ("metadata", part), found)
        elif key not in ("apiVersion", "kind", "status"):
            _leaves(value, (key,), found)
    return found


def _leaves(value: Any, path: Path, found: dict[Path, Any]) -> None:
    if len(path) > FIELD_DEPTH_MAX:
        raise Rejected(422, "Invalid", f"nested deeper than FIELD_DEPTH_MAX={FIELD_DEPTH_MAX}")
    if isinstance(value, dict) and value:
        for key, sub in value.items():
            _leaves(sub, (*path, key), found)
    else:
        found[path] = value


def _tree(paths: Iterable[Path]) -> Obj:
    root: Obj = {}
    for path in paths:
        node = root
        for part in path:
            node = node.setdefault(f"f:{part}", {})
    return root


def _paths(tree: Any, path: Path = ()) -> Iterable[Path]:
    if not isinstance(tree, dict) or not tree or len(path) > FIELD_DEPTH_MAX:
        yield path
        return
    for key, sub in tree.items():
        yield from _paths(sub, (*path, key.removeprefix("f:")))


def _at(obj: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(obj, dict) or part not in obj:
            return None
        obj = obj[part]
    return obj


def _set(obj: Obj, path: Path, value: Any) -> None:
    for part in path[:-1]:
        inner = obj.get(part)
        if not isinstance(inner, dict):
            inner = obj[part] = {}
        obj = inner
    obj[path[-1]] = value


def _remove(obj: Obj, path: Path) -> None:
    """Remove a field, and the maps that it leaves empty."""
    trail = []
    for part in path[:-1]:
        inner = obj.get(part)
        if not isinstance(inner, dict):
            return
        trail.append((obj, part))
        obj = inner
    obj.pop(path[-1], None)
    for parent, part in reversed(trail):
        if parent[part] == {}:
            del parent[part]

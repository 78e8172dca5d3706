"""Requests to the API as values: which method, path, query and body each verb is. No I/O happens here.

Both clients (:mod:`veil.client.api` on asyncio, :mod:`veil.client.blocking` for the command line) send what is built here,
so that they cannot differ in what they ask.
"""

from dataclasses import dataclass, field
from math import ceil
from typing import Any
from urllib.parse import urlencode

import msgspec

from veil.client.kinds import Obj, Resource

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. ``body`` is JSON text, or None."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    accept: str = "application/json"

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


def _options(**values: Any) -> dict[str, str]:
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items() if value}


def _dry(dry_run: bool) -> str:
    return "All" if dry_run else ""


def get(resource: Resource, name: str, namespace: str = "", *, subresource: str = "", table: bool = False) -> Call:
    return Call(method="GET", path=resource.path(namespace, name, subresource), accept=TABLE if table else "application/json")


def listing(resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", table: bool = False) -> Call:
    """All objects of a kind; of every namespace when ``namespace`` is empty."""
    return Call(
        method="GET",
        path=resource.path(namespace),
        query=_options(labelSelector=labels, fieldSelector=fields),
        accept=TABLE if table else "application/json",
    )


def watching(
    resource: Resource,
    namespace: str = "",
    *,
    since: str = "",
    labels: str = "",
    fields: str = "",
    bookmarks: bool = False,
    timeout_s: float = 0,
    table: bool = False,
) -> Call:
    """The stream of changes after ``since`` (a list's resourceVersion; empty: what is there first, as ADDED)."""
    query = _options(
        watch=True,
        resourceVersion=since,
        labelSelector=labels,
        fieldSelector=fields,
        allowWatchBookmarks=bookmarks,
        timeoutSeconds=ceil(timeout_s),
    )
    return Call(method="GET", path=resource.path(namespace), query=query, accept=TABLE if table else "application/json")


def create(resource: Resource, obj: Obj, namespace: str = "", *, dry_run: bool = False) -> Call:
    return Call(
        method="POST",
        path=resource.path(namespace),
        query=_options(dryRun=_dry(dry_run), fieldValidation="Strict"),
        body=msgspec.json.encode(obj),
    )


def update(resource: Resource, obj: Obj, *, subresource: str = "", dry_run: bool = False) -> Call:
    """Replace the object of that name; its resourceVersion, when it has one, must still be the current one."""
    meta = obj["metadata"]
    return Call(
        method="PUT",
        path=resource.path(meta.get("namespace", ""), meta["name"], subresource),
        query=_options(dryRun=_dry(dry_run), fieldValidation="Strict"),
        body=msgspec.json.encode(obj),
    )


def patch(resource: Resource, name: str, change: Any, namespace: str = "", *, form: str = MERGE, subresource: str = "") -> Call:
    return Call(
        method="PATCH",
        path=resource.path(namespace, name, subresource),
        query=_options(fieldValidation="Strict"),
        body=msgspec.json.encode(change),
        content_type=form,
    )


def apply(resource: Resource, obj: Obj, *, manager: str, force: bool = False, dry_run: bool = False) -> Call:
    """Server-side apply: make the object's fields, owned by ``manager``, what ``obj`` says; creates it when missing."""
    meta = obj["metadata"]
    return Call(
        method="PATCH",
        path=resource.path(meta.get("namespace", ""), meta["name"]),
        query=_options(fieldManager=manager, force=force, dryRun=_dry(dry_run), fieldValidation="Strict"),
        body=msgspec.json.encode(obj),
        content_type=APPLY,
    )


def delete(resource: Resource, name: str, namespace: str = "", *, uid: str = "", dry_run: bool = False) -> Call:
    """``uid`` makes it fail with Conflict when another object has the name by now."""
    options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions"} | ({"preconditions": {"uid": uid}} if uid else {})
    return Call(
        method="DELETE",
        path=resource.path(namespace, name),
        query=_options(dryRun=_dry(dry_run)),
        body=msgspec.json.encode(options),
    )


def subresource(resource: Resource, name: str, what: str, namespace: str = "") -> Call:
    """Have something done with an object that is no change of it."""
    return Call(method="POST", path=resource.path(namespace, name, what))


def logs(
    resource: Resource,
    name: str,
    namespace: str,
    *,
    container: str = "",
    follow: bool = False,
    tail_lines: int | None = None,
    since_s: int | None = None,
    timestamps: bool = False,
    previous: bool = False,
) -> Call:
    query = _options(container=container, follow=follow, sinceSeconds=since_s, timestamps=timestamps, previous=previous)
    if tail_lines is not None:
        query["tailLines"] = str(tail_lines)
    return Call(method="GET", path=resource.path(namespace, name, "log"), query=query, accept="text/plain, */*")

"""What a request is about: kind, namespace, name, subresource and options, read from its path and query."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from veil.api.kinds import Kind, find_kind
from veil.api.status import Rejected
from veil.errors import InvalidInput
from veil.store.objects import Obj

Validation = Literal["Strict", "Warn", "Ignore"]

MANAGER_MAX_CHARS = 128

AUDITS = ("audit", "transcript")
"""Subresources of what can be audited: the report, and what this node keeps."""

_VALIDATIONS: dict[str, Validation] = {"Strict": "Strict", "Warn": "Warn", "Ignore": "Ignore"}
_NOWHERE = Rejected(404, "NotFound", "the server could not find the requested resource")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A collection (empty ``name``), an object or its subresource."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def details(self) -> Obj:
        """What a Status says it is about."""
        named = {"name": self.name} if self.name else {}
        return named | {"group": self.kind.resource.group, "kind": self.kind.resource.plural}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to write. An empty ``manager`` is taken from the user agent by the caller."""

    dry_run: bool = False
    manager: str = ""
    force: bool = False
    validation: Validation = "Strict"


def parse_target(raw_path: str) -> Target:
    """The target of a path such as ``/apis/veil.dev/v1alpha1/namespaces/a/workloads/b``. Raises Rejected (404)."""
    parts = [unquote(part) for part in raw_path.strip("/").split("/")]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise _NOWHERE
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and find_kind(group, version, rest[2]):
        namespace, rest = rest[1], rest[2:]
    kind = find_kind(group, version, rest[0])
    if kind is None or len(rest) > 3 or (namespace and not kind.resource.namespaced):
        raise _NOWHERE
    name, subresource = (*rest[1:], "", "")[:2]
    if subresource not in ("", "status", *_subresources(kind)):
        raise _NOWHERE
    return Target(kind=kind, namespace=namespace, name=name, subresource=subresource)


def _subresources(kind: Kind) -> tuple[str, ...]:
    """What its objects have beside their status."""
    return (("log", "exec") if kind.logs else ()) + (("drain",) if kind.drains else ()) + (AUDITS if kind.audits else ())


def parse_options(query: Mapping[str, str], user_agent: str = "") -> Options:
    """Raises InvalidInput for options that are not Kubernetes'."""
    dry_run, validation = query.get("dryRun", ""), _VALIDATIONS.get(query.get("fieldValidation") or "Strict")
    if dry_run not in ("", "All"):
        raise InvalidInput(f"dryRun: {dry_run!r}: the only value is All")
    if validation is None:
        raise InvalidInput(f"fieldValidation: {query['fieldValidation']!r}: one of {', '.join(_VALIDATIONS)}")
    manager = query.get("fieldManager") or user_agent.split("/", 1)[0]
    if len(manager) > MANAGER_MAX_CHARS or not manager.isprintable():
        raise InvalidInput("fieldManager: must be printable and at most MANAGER_MAX_CHARS=128 long")
    return Options(dry_run=dry_run == "All", manager=manager, force=is_true(query.get("force", "")), validation=validation)


def is_true(text: str) -> bool:
    """Some clients write truth with a capital letter."""
    return text.lower() in ("true", "1")

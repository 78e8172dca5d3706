"""What clients ask first: which groups, versions and kinds there are, and what may be done with them.

Documents are made once. kopf waits forever unless ``namespaces`` is in v1; old clients ask with a trailing slash; a short name
in two groups makes kubectl warn, so only v1 has ``ns`` and ``no``.
"""

from collections.abc import Iterable

from veil import __version__
from veil.api.kinds import KINDS, NAMESPACE, NODE, Kind
from veil.api.targets import AUDITS
from veil.store.objects import Obj

KUBERNETES_MINOR = "32"
"""The Kubernetes version whose conventions are served."""

_ALL_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_READ_VERBS = ["get", "list", "watch"]
_PATCH_VERBS = ["get", "list", "patch", "update", "watch"]


def documents(kinds: Iterable[Kind] = KINDS) -> dict[str, Obj]:
    """Every discovery document by its path."""
    versions: dict[str, list[Kind]] = {}
    for kind in kinds:
        versions.setdefault(kind.resource.api_version, []).append(kind)
    found: dict[str, Obj] = {"/version": _version(), "/api": _core_versions()}
    groups: list[Obj] = []
    for api_version, members in versions.items():
        resource = members[0].resource
        found[resource.prefix] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": api_version,
            "resources": [entry for kind in members for entry in _entries(kind)],
        }
        if resource.group:
            groups.append(_group(resource.group, resource.version))
    groups.append(_group("authorization.k8s.io", "v1"))
    found["/apis/authorization.k8s.io/v1"] = _reviews()
    found["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    for group in groups:
        found[f"/apis/{group['name']}"] = {"kind": "APIGroup", "apiVersion": "v1", **group}
    return found


def verbs_of(kind: Kind) -> list[str]:
    """What may be done with a kind by those who may do most with it."""
    if kind.view:
        return [*_READ_VERBS, "patch", "update"] if kind.cordons else _READ_VERBS
    return _ALL_VERBS if kind.anchored or kind.controllers_create else _PATCH_VERBS


def _entries(kind: Kind) -> list[Obj]:
    resource = kind.resource
    shared = {"singularName": "", "namespaced": resource.namespaced, "kind": resource.kind}
    entries: list[Obj] = [
        {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": verbs_of(kind),
            "shortNames": [] if kind in (NAMESPACE, NODE) else list(resource.short_names),
            "categories": list(kind.categories),
        }
    ]
    if not kind.view:
        entries.append({"name": f"{resource.plural}/status", **shared, "verbs": ["get", "patch", "update"]})
    if kind.drains:
        entries.append({"name": f"{resource.plural}/drain", **shared, "verbs": ["create"]})
    if kind.audits:
        entries += [{"name": f"{resource.plural}/{name}", **shared, "verbs": ["get"]} for name in AUDITS]
    if kind.logs:
        entries.append({"name": f"{resource.plural}/log", **shared, "verbs": ["get"]})
        entries.append({"name": f"{resource.plural}/exec", **shared, "verbs": ["create", "get"]})
    return entries


def _group(name: str, version: str) -> Obj:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _reviews() -> Obj:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "authorization.k8s.io/v1",
        "resources": [
            {
                "name": "selfsubjectaccessreviews",
                "singularName": "selfsubjectaccessreview",
                "namespaced": False,
                "kind": "SelfSubjectAccessReview",
                "verbs": ["create"],
            }
        ],
    }


def _core_versions() -> Obj:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _version() -> Obj:
    return {
        "major": "1",
        "minor": KUBERNETES_MINOR,
        "gitVersion": f"v1.{KUBERNETES_MINOR}.0+veil-{__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }

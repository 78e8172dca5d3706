"""The kinds that the API serves: their groups, plurals, short names and paths.

One table for the server, the client and the command line, so that `veil get wl` needs no discovery request. ``Obj`` is an
object in its JSON form, as it travels.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from veil.errors import ConfigInvalid

Obj = dict[str, Any]

GROUP = "veil.dev"
VERSION = "v1alpha1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One served kind. ``group`` is empty for Kubernetes' own ``v1``."""

    kind: str
    plural: str
    group: str = GROUP
    version: str = VERSION
    namespaced: bool = True
    short_names: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """The path of the group and version, for example ``/apis/veil.dev/v1alpha1``."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def qualified(self) -> str:
        """As kubectl prints it: ``workloads.veil.dev``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular(self) -> str:
        """As `veil apply` prints it: ``workload.veil.dev``."""
        return f"{self.kind.lower()}.{self.group}" if self.group else self.kind.lower()

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, an object or its subresource; names are quoted."""
        parts = ["namespaces", namespace] if self.namespaced and namespace else []
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join([self.prefix, *(quote(part, safe="") for part in parts)])


WORKLOADS = Resource(kind="Workload", plural="workloads", short_names=("wl",))
INSTANCES = Resource(kind="Instance", plural="instances", short_names=("inst",))
NODES = Resource(kind="Node", plural="nodes", namespaced=False, short_names=("no",))
CORE_NODES = Resource(kind="Node", plural="nodes", group="", version="v1", namespaced=False, short_names=("no",))
NAMESPACES = Resource(kind="Namespace", plural="namespaces", namespaced=False, short_names=("ns",))
PLACEMENTS = Resource(kind="Placement", plural="placements", namespaced=False, short_names=("pl",))
CORE_NAMESPACES = Resource(kind="Namespace", plural="namespaces", group="", version="v1", namespaced=False, short_names=("ns",))
PODS = Resource(kind="Pod", plural="pods", group="", version="v1", short_names=("po",))

EVENTS = Resource(kind="Event", plural="events", group="", version="v1", short_names=("ev",))

RESOURCES = (WORKLOADS, INSTANCES, NODES, NAMESPACES, PLACEMENTS, PODS, EVENTS)
"""What a word on the command line can mean."""


def find(word: str) -> Resource:
    """The resource that a plural, singular, kind or short name means, in any case. Raises ConfigInvalid."""
    wanted = word.lower().removesuffix(f".{GROUP}")
    for resource in RESOURCES:
        if wanted in (resource.plural, resource.kind.lower(), *resource.short_names):
            return resource
    known = ", ".join(f"{item.plural} ({', '.join(item.short_names)})" for item in RESOURCES)
    raise ConfigInvalid(f"there is no kind {word!r}", hint=f"one of: {known}")


def of_object(obj: Obj) -> Resource:
    """The resource of an object, by its apiVersion and kind. Raises ConfigInvalid."""
    for resource in (*RESOURCES, CORE_NAMESPACES):
        if (resource.api_version, resource.kind) == (obj.get("apiVersion"), obj.get("kind")):
            return resource
    raise ConfigInvalid(
        f"there is no kind {obj.get('kind')!r} in {obj.get('apiVersion')!r}",
        hint=f"Veil's kinds are in {GROUP}/{VERSION}",
    )

"""What a write to a chain-held object must pass before anything of it leaves this node.

The kinds' schemas decide (:mod:`veil.manifest.validate`). Unknown fields are errors, unless the client asked to be warned
(then they are dropped, and it is told) or to have them ignored.
"""

from typing import Any

from veil.api.assemble import withheld_from
from veil.api.canonical import canonical_spec
from veil.api.targets import Validation
from veil.errors import Forbidden
from veil.manifest.parse import Located, Path, path_text
from veil.manifest.schemas import Schema, schema
from veil.manifest.split import split
from veil.manifest.validate import default, validate
from veil.store.objects import Obj


def admissible(new: Obj, live: Obj | None, validation: Validation) -> tuple[Obj, tuple[str, ...]]:
    """``new`` valid, with its defaults, quantities in their shortest form; warnings for the client.

    Raises ManifestInvalid, Forbidden.
    """
    _require_readable(new, live)
    warnings: tuple[str, ...] = ()
    metadata = {key: new["metadata"][key] for key in ("name", "namespace", "labels") if new["metadata"].get(key)}
    clean: Obj = {"apiVersion": new["apiVersion"], "kind": new["kind"], "metadata": metadata}
    if "spec" in new:
        clean["spec"] = new["spec"]
    if validation != "Strict":
        dropped: list[str] = []
        clean = _prune(clean, schema(new["kind"]), (), dropped)
        warnings = tuple(f'unknown field \\"{path}\\"' for path in dropped) if validation == "Warn" else ()
    checked = default(validate(Located(clean), kinds=(new["kind"],)))
    labels = checked["metadata"].get("labels")
    rest = {key: value for key, value in new["metadata"].items() if key != "labels"}
    return {**new, "metadata": rest | ({"labels": labels} if labels else {}), "spec": canonical_spec(split(checked))}, warnings


def _require_readable(new: Obj, live: Obj | None) -> None:
    if "template" in withheld_from(live) and not (new.get("spec") or {}).get("template"):
        raise Forbidden(
            f"this node cannot read the template of {new['kind']} {new['metadata'].get('name')}, so it cannot change the rest",
            hint="ask one of the namespace's home nodes, or apply the whole manifest",
        )


def _prune(value: Any, allowed: Schema, path: Path, dropped: list[str]) -> Any:
    """``value`` without the fields that ``allowed`` does not know; their paths are added to ``dropped``."""
    if isinstance(value, list) and isinstance(allowed.get("items"), dict):
        return [_prune(item, allowed["items"], (*path, index), dropped) for index, item in enumerate(value)]
    if not isinstance(value, dict) or "properties" not in allowed:
        return value
    kept = {}
    for key, sub in value.items():
        if key in allowed["properties"]:
            kept[key] = _prune(sub, allowed["properties"][key], (*path, key), dropped)
        elif allowed.get("additionalProperties") is False:
            dropped.append(path_text((*path, key)))
        else:
            kept[key] = sub
    return kept

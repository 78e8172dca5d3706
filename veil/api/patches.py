"""Changing an object by a patch: JSON merge patch (RFC 7386) and JSON patch (RFC 6902). Pure: nothing given is changed."""

import copy
from typing import Any

import jsonpatch
import jsonpointer

from veil.errors import InvalidInput
from veil.store.objects import Obj

JSON_PATCH_MAX_OPERATIONS = 1000


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: objects merge, null deletes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def difference(before: Any, after: Any) -> Any:
    """The merge patch that makes ``before`` into ``after`` (which must not contain null)."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    patch = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif before[key] != value:
            patch[key] = difference(before[key], value)
    return patch


def json_patch(target: Obj, operations: Any) -> Obj:
    """RFC 6902. Raises InvalidInput when it is malformed or does not fit the object."""
    if not isinstance(operations, list) or len(operations) > JSON_PATCH_MAX_OPERATIONS:
        raise InvalidInput(
            "a JSON patch is a list of operations", hint=f"at most JSON_PATCH_MAX_OPERATIONS={JSON_PATCH_MAX_OPERATIONS}"
        )
    try:
        result = jsonpatch.apply_patch(target, operations)
    except (
        jsonpatch.JsonPatchException,
        jsonpointer.JsonPointerException,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        ValueError,
    ) as error:
        raise InvalidInput(f"the JSON patch does not fit the object: {error}") from error
    if not isinstance(result, dict):
        raise InvalidInput("the JSON patch makes something of the object that is no object")
    return result


def strategic(target: Obj, patch: Any) -> Obj:
    """What kubectl sends for Kubernetes' own kinds. Only maps are merged; directives and lists of maps are refused.

    Veil serves one writable kind of Kubernetes' own, the namespace, which has nothing but maps.
    """
    if not isinstance(patch, dict) or _has_directive(patch):
        raise InvalidInput("strategic merge patches with directives are not supported", hint="use --type=merge")
    merged: Obj = merge(target, patch)
    return merged


def _has_directive(value: Any) -> bool:
    if isinstance(value, dict):
        return any(key.startswith("$") or _has_directive(sub) for key, sub in value.items())
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)

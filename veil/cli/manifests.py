"""The manifests that a verb is given: files, directories, standard input; all of them checked before anything is sent."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from veil.cli.connection import Connection
from veil.errors import ConfigInvalid, FieldError, ManifestInvalid

if TYPE_CHECKING:
    from veil.client.kinds import Obj

SUFFIXES = (".yaml", ".yml", ".json")
FILES_MAX = 1000
USERS_KINDS = ("Namespace", "Workload")
"""The kinds that users write, in the order in which they are applied."""

STDIN = "-"


def load_manifests(paths: Sequence[str], *, recursive: bool = False) -> "list[Obj]":
    """The valid objects of all manifests, namespaces first.

    Raises ManifestInvalid with the errors of all files, ConfigInvalid for files that cannot be read.
    """
    from veil.manifest.validate import read

    objects: list[Obj] = []
    errors: list[FieldError] = []
    hint = ""
    for name, text in _texts(paths, recursive):
        try:
            objects += read(text, name, kinds=USERS_KINDS)
        except ManifestInvalid as invalid:
            errors += invalid.errors
            hint = invalid.hint or hint
    if errors:
        raise ManifestInvalid(errors, hint=hint)
    return sorted(objects, key=lambda obj: USERS_KINDS.index(obj["kind"]))


def in_namespace(obj: "Obj", connection: Connection, given: str) -> "Obj":
    """``obj`` with its namespace: its own, ``given``, or the context's. Raises ConfigInvalid when the first two differ."""
    if obj["kind"] == "Namespace":
        return obj
    own = obj["metadata"].get("namespace", "")
    if own and given and own != given:
        raise ConfigInvalid(
            f"{obj['kind']} {obj['metadata']['name']} is in namespace {own}, not {given}",
            hint="leave out -n, or change the manifest",
        )
    return {**obj, "metadata": {**obj["metadata"], "namespace": own or connection.namespace(given)}}


def _texts(paths: Sequence[str], recursive: bool) -> list[tuple[str, bytes]]:
    files: list[tuple[str, bytes]] = []
    for path in paths:
        if path == STDIN:
            files.append(("<stdin>", sys.stdin.buffer.read()))
            continue
        found = _files(Path(path), recursive)
        if not found:
            raise ConfigInvalid(f"{path}: no manifest in it", hint=f"manifests end with {', '.join(SUFFIXES)}")
        files += [(str(file), _read(file)) for file in found]
    if len(files) > FILES_MAX:
        raise ConfigInvalid(f"{len(files)} files, FILES_MAX is {FILES_MAX}", hint="apply them in parts")
    return files


def _files(path: Path, recursive: bool) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = path.rglob("*") if recursive else path.glob("*")
    return sorted(file for file in found if file.suffix in SUFFIXES and file.is_file())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}", hint="name a manifest, a directory, or -") from error

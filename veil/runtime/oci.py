"""OCI image documents: which manifest of an index is ours, and what a manifest points at.

Pure. Whatever a registry or an archive says is checked here for shape and limits before anything is fetched by it.
Source: the OCI image specification 1.0 and Docker's schema 2, which uses other media types for the same things.
"""

import hashlib
import json
import platform
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from veil.errors import DigestMismatch, ImageUnavailable

MAX_MANIFEST_BYTES = 4 << 20
MAX_CONFIG_BYTES = 4 << 20
MAX_LAYERS = 127
MAX_LAYER_BYTES = 64 << 30

INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFEST_TYPES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A content by digest, as one document names another."""

    media_type: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One platform's image: its own bytes and what it is made of, layers from the bottom up."""

    descriptor: Descriptor
    raw: bytes
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Source(Protocol):
    """Where an image comes from: a registry or an archive."""

    async def root(self) -> tuple[bytes, str]:
        """The document the image's name stands for, and its media type."""
        ...

    async def document(self, descriptor: Descriptor) -> bytes:
        """A manifest or index by digest. Not yet verified."""
        ...

    def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """A config or layer in pieces. Not yet verified."""
        ...


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def resolve(source: Source, name: str) -> Manifest:
    """This machine's manifest of the image, through at most one level of index. Raises ImageUnavailable, DigestMismatch."""
    raw, media_type = await source.root()
    document = _parse(raw, name)
    media_type = document.get("mediaType") or media_type
    for _ in range(2):
        if media_type not in INDEX_TYPES and "manifests" not in document:
            break
        chosen = _choose(document, name)
        raw = await source.document(chosen)
        if sha256(raw) != chosen.digest:
            raise DigestMismatch(f"image {name}: manifest {chosen.digest} came as {sha256(raw)}", hint="do not use this registry")
        document, media_type = _parse(raw, name), chosen.media_type
    return _manifest(document, raw, media_type, name)


def _manifest(document: dict[str, Any], raw: bytes, media_type: str, name: str) -> Manifest:
    layers = document.get("layers")
    if not isinstance(layers, list) or not isinstance(document.get("config"), dict):
        raise ImageUnavailable(
            f"image {name}: this is no image manifest ({media_type})", hint="use an OCI or Docker schema 2 image"
        )
    if len(layers) > MAX_LAYERS:
        raise ImageUnavailable(f"image {name} has {len(layers)} layers", hint=f"at most {MAX_LAYERS} are possible")
    return Manifest(
        descriptor=Descriptor(media_type if media_type in MANIFEST_TYPES else MANIFEST_TYPES[0], sha256(raw), len(raw)),
        raw=raw,
        config=_descriptor(document["config"], name, MAX_CONFIG_BYTES),
        layers=tuple(_descriptor(layer, name, MAX_LAYER_BYTES) for layer in layers),
    )


def _choose(index: dict[str, Any], name: str) -> Descriptor:
    """The entry for linux on this machine; an entry without a platform will do if none says it is ours."""
    wanted = architecture()
    entries = [entry for entry in index.get("manifests") or [] if isinstance(entry, dict)]
    ours = [entry for entry in entries if _platform(entry) == ("linux", wanted)]
    ours = ours or [entry for entry in entries if _platform(entry) == ("", "")]
    if not ours:
        has = ", ".join(sorted({"/".join(_platform(entry)) for entry in entries})) or "nothing"
        raise ImageUnavailable(
            f"image {name} is not there for linux/{wanted}, only for {has}", hint="use an image for this machine"
        )
    return _descriptor(ours[0], name, MAX_MANIFEST_BYTES)


def _platform(entry: dict[str, Any]) -> tuple[str, str]:
    platform_ = entry.get("platform") or {}
    return str(platform_.get("os", "")), str(platform_.get("architecture", ""))


def architecture() -> str:
    """This machine in the words of Go and OCI."""
    return _MACHINES.get(platform.machine(), platform.machine())


def _descriptor(value: Any, name: str, max_bytes: int) -> Descriptor:
    try:
        digest, size = value["digest"], value["size"]
        if _DIGEST.fullmatch(digest) and isinstance(size, int) and 0 <= size <= max_bytes:
            return Descriptor(str(value.get("mediaType", "")), digest, size)
    except (KeyError, TypeError):
        pass
    raise ImageUnavailable(f"image {name}: a descriptor is malformed or over {max_bytes} bytes", hint="build the image anew")


def _parse(raw: bytes, name: str) -> dict[str, Any]:
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ImageUnavailable(f"image {name}: manifest over {MAX_MANIFEST_BYTES} bytes", hint="this is no usable image")
    try:
        document = json.loads(raw)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ImageUnavailable(f"image {name}: its manifest is no JSON object", hint="the registry or archive is broken")
    return document

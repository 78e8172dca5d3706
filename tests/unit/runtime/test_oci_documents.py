"""Image documents from strangers: the right platform, the right shape, within limits."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from veil.errors import DigestMismatch, ImageUnavailable
from veil.runtime.oci import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_LAYERS,
    MAX_MANIFEST_BYTES,
    Descriptor,
    architecture,
    resolve,
    sha256,
)

BLOB = {"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 3}


class Documents:
    """A source that has documents and no blobs."""

    def __init__(self, root: Any, media_type: str = MANIFEST_TYPES[0], **others: bytes) -> None:
        self._root = root if isinstance(root, bytes) else json.dumps(root).encode()
        self._media_type = media_type
        self._others = list(others.values())

    async def root(self) -> tuple[bytes, str]:
        return self._root, self._media_type

    async def document(self, descriptor: Descriptor) -> bytes:
        return next((data for data in self._others if sha256(data) == descriptor.digest), b"{}")

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""


def manifest(**changes: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": BLOB, "layers": [BLOB], **changes}


def entry(data: bytes, arch: str) -> dict[str, Any]:
    platform = {"os": "linux", "architecture": arch}
    return {"mediaType": MANIFEST_TYPES[0], "digest": sha256(data), "size": len(data), "platform": platform}


async def test_plain_manifest() -> None:
    found = await resolve(Documents(manifest()), "i")
    assert found.config == Descriptor("x", BLOB["digest"], 3)
    assert found.descriptor.digest == sha256(found.raw)


async def test_index_picks_this_machine() -> None:
    ours, other = json.dumps(manifest()).encode(), json.dumps(manifest(layers=[])).encode()
    index = {"manifests": [entry(other, "s390x"), entry(ours, architecture())]}
    found = await resolve(Documents(index, INDEX_TYPES[0], ours=ours, other=other), "i")
    assert found.raw == ours


async def test_a_manifest_that_is_another() -> None:
    with pytest.raises(DigestMismatch):
        await resolve(Documents({"manifests": [entry(b"promised", architecture())]}, INDEX_TYPES[0]), "i")


@pytest.mark.parametrize(
    "root",
    [
        b"not json",
        b"[]",
        b"{" + b" " * MAX_MANIFEST_BYTES + b"}",
        {"manifests": []},
        {},
        manifest(layers=None),
        manifest(config=None),
        manifest(config={"digest": "md5:1", "size": 1}),
        manifest(layers=[{"digest": BLOB["digest"], "size": -1}]),
        manifest(layers=[{"digest": BLOB["digest"], "size": "3"}]),
        manifest(layers=[{"digest": "sha256:../../etc/passwd", "size": 3}]),
        manifest(layers=[BLOB] * (MAX_LAYERS + 1)),
    ],
)
async def test_malformed(root: Any) -> None:
    with pytest.raises(ImageUnavailable):
        await resolve(Documents(root), "i")

"""A small image out of the machine's own static busybox: containers without any registry or network.

Deterministic: the same busybox gives the same bytes and so the same digests on every node.
"""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from veil.errors import ImageUnavailable
from veil.runtime.oci import MANIFEST_TYPES, architecture

BUSYBOX_IMAGE = "veil.dev/busybox:1"
_PLACES = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
_DIRECTORIES = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o555, "root": 0o700, "sys": 0o555, "tmp": 0o1777, "var": 0o755}
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}
_CONFIG = {"Entrypoint": ["/bin/sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"}


def build_busybox(path: Path) -> str:
    """Write the image as an OCI layout tar to ``path``; gives the name to import it under. Raises ImageUnavailable."""
    busybox = next((place for place in _PLACES if place.exists()), None)
    if busybox is None:
        raise ImageUnavailable("no busybox on this machine", hint="install the package busybox-static")
    applets = subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True, timeout=10).stdout.split()
    program = busybox.read_bytes()
    if b"/lib64/ld-linux" in program[:4096] or b"/lib/ld-" in program[:4096]:
        raise ImageUnavailable(f"{busybox} needs shared libraries", hint="install the package busybox-static")
    new = path.with_name(path.name + ".new")
    new.write_bytes(_layout(_layer(program, sorted({*applets, "sh"} - {"busybox"}))))
    new.rename(path)
    return BUSYBOX_IMAGE


def _layer(program: bytes, applets: Iterable[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode in _DIRECTORIES.items():
            tar.addfile(_entry(name, mode, tarfile.DIRTYPE))
        for name, data in _FILES.items():
            tar.addfile(_entry(name, 0o644, tarfile.REGTYPE, size=len(data)), io.BytesIO(data))
        tar.addfile(_entry("bin/busybox", 0o755, tarfile.REGTYPE, size=len(program)), io.BytesIO(program))
        for applet in applets:
            tar.addfile(_entry(f"bin/{applet}", 0o777, tarfile.SYMTYPE, link="busybox"))
    return buffer.getvalue()


def _entry(name: str, mode: int, kind: bytes, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.size, entry.linkname = mode, kind, size, link
    return entry


def _layout(layer: bytes) -> bytes:
    packed = gzip.compress(layer, compresslevel=6, mtime=0)
    config = _json(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": _CONFIG,
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPES[0],
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
        }
    )
    entry = _descriptor(MANIFEST_TYPES[0], manifest) | {"platform": {"architecture": architecture(), "os": "linux"}}
    members = {f"blobs/sha256/{_digest(data)[7:]}": data for data in (packed, config, manifest)}
    members["index.json"] = _json({"schemaVersion": 2, "manifests": [entry]})
    members["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(members.items()):
            tar.addfile(_entry(name, 0o644, tarfile.REGTYPE, size=len(data)), io.BytesIO(data))
    return buffer.getvalue()


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

"""The image built from the machine's busybox: an OCI layout, the same bytes every time."""

import json
import tarfile
from pathlib import Path

from veil.runtime.images import build_busybox
from veil.runtime.layout import LayoutSource
from veil.runtime.oci import resolve


async def test_deterministic_and_whole(tmp_path: Path) -> None:
    one, two = tmp_path / "1.tar", tmp_path / "2.tar"
    assert build_busybox(one) == build_busybox(two)
    assert one.read_bytes() == two.read_bytes()
    async with LayoutSource(one) as source:
        manifest = await resolve(source, "i")
        config = json.loads(b"".join([chunk async for chunk in source.blob(manifest.config)]))
        layer = b"".join([chunk async for chunk in source.blob(manifest.layers[0])])
    assert config["config"]["Entrypoint"] == ["/bin/sh"]
    (tmp_path / "layer").write_bytes(layer)
    with tarfile.open(tmp_path / "layer") as tar:
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("tmp").mode == 0o1777
        assert b"nobody" in tar.extractfile("etc/passwd").read()  # type: ignore[union-attr]

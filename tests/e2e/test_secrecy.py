"""A capture of everything that nodes give to each other, of shared stores and of logs has no capacity or demand figure.

The capture is taken before transport encryption and before a message is sealed to its own receiver; what is sealed to
somebody else stays sealed, as it does for the receiver.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from e2e_cluster import Cluster, eventually

pytestmark = pytest.mark.e2e

DEMAND_CPU_MILLI = 173
DEMAND_MEMORY_BYTES = 71_234_567


def encodings(figure: int) -> Iterator[bytes]:
    """How a figure could be written: decimal, hexadecimal, binary of several widths, CBOR, MessagePack-like prefixes."""
    yield str(figure).encode()
    if figure >= 1 << 24:
        for width in (4, 8):
            for order in ("little", "big"):
                if figure < 1 << (8 * width):
                    yield figure.to_bytes(width, order)  # type: ignore[arg-type]
        yield f"{figure:x}".encode()


def figures(cluster: Cluster) -> dict[str, int]:
    machine = psutil.virtual_memory().total
    return {
        "demand memory": DEMAND_MEMORY_BYTES,
        "machine memory": machine,
        "share of memory": machine // len(cluster.status()["nodes"]),
    }


def shared_files(cluster: Cluster) -> Iterator[Path]:
    """What is given to others or may be read by others: captures, logs, blobs, the chain's state."""
    yield cluster.directory / "chain" / "anvil.json"
    for node in cluster.status()["nodes"]:
        directory = Path(node["directory"])
        yield directory / "capture.bin"
        yield from directory.glob("*.log")
        yield from (path for path in (directory / "blobs").rglob("*") if path.is_file() and path.stat().st_size < 4_000_000)


def test_no_figure_leaves_a_node(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    path = manifest("secret", replicas=2, cpu=f"{DEMAND_CPU_MILLI}m", memory=str(DEMAND_MEMORY_BYTES))
    cluster.veil("apply", "-f", str(path))
    cluster.veil("wait", "workload/secret", "--for=condition=Available", "--timeout", "60s")
    seen = {file: file.read_bytes() for file in shared_files(cluster) if file.exists()}
    captured = sum(len(data) for file, data in seen.items() if file.name == "capture.bin")
    assert captured > 100_000, "the capture is nearly empty: it proves nothing"
    found = [
        f"{what} as {needle!r} in {file}"
        for what, figure in figures(cluster).items()
        for needle in encodings(figure)
        for file, data in seen.items()
        if needle in data
    ]
    assert not found, "\n".join(found)
    cluster.veil("delete", "workload", "secret")
    eventually(lambda: not any(cluster.all_containers().values()), what="no container left")


def test_the_search_would_find_a_figure(tmp_path: Path) -> None:
    leak = b"junk" + DEMAND_MEMORY_BYTES.to_bytes(8, "little") + json.dumps({"memory": 1}).encode()
    assert any(needle in leak for needle in encodings(DEMAND_MEMORY_BYTES))


def test_other_nodes_show_no_resources(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    """On node-2, which is no home of the namespace, the workload has no requests."""
    cluster.veil("apply", "-f", str(manifest("shown", memory=str(DEMAND_MEMORY_BYTES))))
    try:
        here = cluster.get("workload", "shown")
        assert here["spec"]["template"]["containers"][0]["resources"]["requests"]["memory"]
        there = eventually(lambda: cluster.veil("get", "workload", "shown", "-o", "json", check=False, at="node-2").stdout)
        assert str(DEMAND_MEMORY_BYTES) not in there
        assert "requests" not in json.dumps(json.loads(there)["spec"])
    finally:
        cluster.veil("delete", "workload", "shown")

"""The committed artifacts are what the sources compile to, here as on every machine."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.chain
CONTRACTS = Path(__file__).parents[3] / "contracts"


def test_a_rebuild_gives_the_same_bytes(tmp_path: Path) -> None:
    subprocess.run(["node", "build.js", "--out", str(tmp_path)], cwd=CONTRACTS, check=True, capture_output=True, timeout=120)
    committed = sorted(file.name for file in (CONTRACTS / "artifacts").iterdir())
    assert committed == sorted(file.name for file in tmp_path.iterdir())
    for name in committed:
        assert (CONTRACTS / "artifacts" / name).read_bytes() == (tmp_path / name).read_bytes(), "run `make contracts`"

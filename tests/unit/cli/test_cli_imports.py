"""What `veil` loads before it does anything: it is started often."""

import subprocess
import sys

import pytest

HEAVY = ("aiohttp", "web3", "concrete", "libp2p", "numpy", "jsonschema", "kopf", "grpc", "trio", "rich", "veil.dev", "veil.node")


@pytest.mark.parametrize("modules", ["veil.cli.main", "veil.cli.get,veil.cli.logs,veil.cli.wait,veil.client.blocking"])
def test_nothing_heavy_is_imported_for_the_common_verbs(modules: str) -> None:
    code = f"import sys\nfor m in {modules!r}.split(','): __import__(m)\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_verb_and_group_is_there_and_has_help() -> None:
    from click.testing import CliRunner

    from veil.cli.main import GROUPS, VERBS, veil

    listed = CliRunner().invoke(veil, ["--help"])
    assert listed.exit_code == 0
    for name in VERBS:
        assert name in listed.output
        shown = CliRunner().invoke(veil, [name, "--help"])
        assert (shown.exit_code, "Usage:" in shown.output) == (0, True)
    assert set(GROUPS) == {"dev", "node", "key", "policy", "cluster", "dispute", "rights", "role", "rollout"}

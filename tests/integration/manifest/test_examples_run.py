"""What the examples run does what they say, with the host's own shell, and ends at once when told to."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from veil.manifest.validate import read

MANIFESTS = Path(__file__).parents[3] / "manifests"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hello.yaml", "hello from node-a"),
        ("confidential.yaml", "a token of 26 characters"),
        ("spread.yaml", "one of three, on node-a"),
    ],
)
def test_it_speaks_and_ends_on_sigterm(name: str, says: str) -> None:
    [obj] = read((MANIFESTS / name).read_text(), name)
    [container] = obj["spec"]["template"]["containers"]
    env = {entry["name"]: entry["value"] for entry in container.get("env", [])}
    process = subprocess.Popen(
        [*container["command"], *container["args"]],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | env | {"VEIL_NODE": "node-a", "VEIL_INSTANCE": "hello-1-0"},
    )
    assert process.stdout is not None
    try:
        assert says in process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - began < 2, "well before any grace period ends"
        assert process.stdout.read() == "", "nothing it started holds its output open"
    finally:
        process.kill()
        process.stdout.close()

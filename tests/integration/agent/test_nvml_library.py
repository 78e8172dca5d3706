"""NVIDIA's Python binding and what is read through it, against a shared library with the symbols of the real one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

READ = """
import dataclasses, json
from veil.agent.gpus import NvmlAway, read_nvml
try:
    print(json.dumps([dataclasses.asdict(gpu) for gpu in read_nvml()]))
except NvmlAway as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that it is in."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler on this machine")
    directory = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", directory / "libnvidia-ml.so.1", source], check=True)
    return directory


def read(library: Path, **says: str) -> object:
    """What a process sees in which this library is found first."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), **says}
    done = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_gpu_with_its_usage(library: Path) -> None:
    first, second = read(library, NVML_PID="4711")  # type: ignore[misc]
    assert first == {
        "uuid": "GPU-00000000",
        "name": "Test 0",
        "minor": 4,
        "memory_bytes": 16 << 30,
        "memory_used_bytes": 0,
        "busy_percent": 37,
        "pids": [4711],
    }
    assert (second["uuid"], second["memory_used_bytes"], second["pids"]) == ("GPU-00000001", 1 << 30, [])
    assert second["busy_percent"] == 0, "one that does not count that"


def test_one_that_has_fallen_off_the_bus_is_left_out(library: Path) -> None:
    (left,) = read(library, NVML_LOST="0")  # type: ignore[misc]
    assert left["uuid"] == "GPU-00000001"


def test_a_library_without_its_driver(library: Path) -> None:
    assert read(library, NVML_INIT="9") == "NVML says: Driver Not Loaded"


def test_no_library(tmp_path: Path) -> None:
    if any(Path("/dev").glob("nvidia[0-9]")):
        pytest.skip("this machine has one")
    assert read(tmp_path) == "libnvidia-ml.so.1 is not there"

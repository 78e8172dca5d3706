"""A cluster as a user has it: the command, the kubeconfig, the processes and containers seen from the outside."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


class Cluster:
    """What a user has: the command, the kubeconfig, the processes seen from the outside."""

    def __init__(self, directory: Path, runtime: str) -> None:
        self.directory = directory
        self.runtime = runtime

    def veil(
        self, *arguments: str, check: bool = True, timeout_s: float = 120.0, at: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `veil`, with ``at`` against that node; with ``check`` a non-zero end fails the test with all that was printed."""
        config = Path(self.node(at)["directory"]) / "api" / "kubeconfig" if at else self.directory / "kubeconfig"
        environment = {**os.environ, "VEIL_KUBECONFIG": str(config), "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "veil", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout_s,
            cwd=ROOT,
        )
        if check and done.returncode != 0:
            pytest.fail(f"veil {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def get(self, kind: str, *name: str) -> Any:
        """`veil get -o json`: one object, or the items of a list."""
        answer = json.loads(self.veil("get", kind, *name, "-o", "json").stdout)
        return answer if name else answer["items"]

    def status(self) -> dict[str, Any]:
        """`veil dev status -o json`."""
        return json.loads(self.veil("dev", "status", "--dir", str(self.directory), "-o", "json").stdout)

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.status()["nodes"] if node["name"] == name)

    def containers(self, name: str) -> set[str]:
        """Ids of the tasks running on a node, as the runtime itself says."""
        node = self.node(name)
        if self.runtime == "process":
            return {path.name for path in (Path(node["directory"]) / "processes").glob("*") if path.is_dir()}
        command = ["ctr", "-a", node["runtime"]["socket"], "-n", node["runtime"]["namespace"], "tasks", "ls"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
        return {line.split()[0] for line in lines if line.split()[2] == "RUNNING"}

    def all_containers(self) -> dict[str, set[str]]:
        return {node["name"]: self.containers(node["name"]) for node in self.status()["nodes"]}

    def task_pids(self, name: str) -> dict[str, int]:
        """Container id → pid on one node."""
        node = self.node(name)
        command = ["ctr", "-a", node["runtime"]["socket"], "-n", node["runtime"]["namespace"], "tasks", "ls"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
        return {line.split()[0]: int(line.split()[1]) for line in lines}


def eventually(check: Callable[[], Any], *, timeout_s: float = 30.0, what: str = "") -> Any:
    """The first true value of ``check``; fails the test after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    value = check()
    while not value:
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:.0f} s: {what or check}")
        time.sleep(0.1)
        value = check()
    return value


def chosen_runtime() -> str:
    """containerd where it can run; plain processes elsewhere."""
    from veil.runtime.daemon import available

    return "process" if available() else "containerd"

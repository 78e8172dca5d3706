"""A dockerd of one's own on a private containerd: nothing of the machine's network or of another dockerd is touched."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from veil.runtime import daemon
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.mounts import unmount_below

START_DEADLINE_S = 20.0
SEARCH_PATH = os.pathsep.join([os.environ.get("VEIL_TEST_DOCKERD", ""), os.environ["PATH"], "/usr/sbin", "/sbin"])
"""VEIL_TEST_DOCKERD is a directory that has the program, for machines where it is not installed."""


def available() -> str | None:
    """Why dockerd cannot run here, in words for a person; None if it can."""
    return None if shutil.which("dockerd", path=SEARCH_PATH) else "dockerd is not installed (`make test-docker` fetches it)"


@contextmanager
def running(directory: Path, *, bridge: str = "") -> "Iterator[PrivateDockerd]":
    """One with a containerd of its own, both in ``directory``; skips the test with the reason where that cannot be."""
    if (reason := daemon.available() or available()) is not None:
        pytest.skip(reason)
    below = PrivateContainerd(directory / "c", directory / "containerd.log")
    asyncio.run(below.start())
    one = PrivateDockerd(directory, below, bridge=bridge)
    try:
        one.start()
        yield one
        one.stop()
    finally:
        asyncio.run(below.stop())


class PrivateDockerd:
    """In ``directory``, on ``containerd``, which is started and stopped by its owner. ``bridge`` is there, with an address."""

    def __init__(self, directory: Path, containerd: PrivateContainerd, *, bridge: str = "") -> None:
        self.bridge = bridge
        self.directory = directory
        self.socket = directory / "docker.sock"
        self._containerd = containerd

    def start(self) -> None:
        program = shutil.which("dockerd", path=SEARCH_PATH)
        assert program is not None
        paths = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        options = [f"--{name}={self.directory / value}" for name, value in paths.items()]
        options += [f"--containerd={self._containerd.socket}", f"--host=unix://{self.socket}"]
        options += [f"--cgroup-parent={self._containerd.cgroup_parent}", "--exec-opt=native.cgroupdriver=cgroupfs"]
        options += [f"--bridge={self.bridge or 'none'}", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
        with (self.directory / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *options], stdout=log, stderr=log, env={**os.environ, "PATH": SEARCH_PATH}, start_new_session=True
            )
        deadline_s = time.monotonic() + START_DEADLINE_S
        while not self._accepts():
            assert self._process.poll() is None, (self.directory / "dockerd.log").read_text()[-2000:]
            assert time.monotonic() < deadline_s, "dockerd does not come up"
            time.sleep(0.05)

    def kill(self) -> None:
        """As kill -9."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        unmount_below(self.directory)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0

"""A wire for each node that can be cut: network namespaces on one bridge, all gone afterwards. Needs root.

The bridge is in a namespace of its own, so that nothing of the machine's network is touched. A process is on a node's wire when
it is started inside :meth:`Wire.inside`.
"""

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from veil.errors import ConfigInvalid

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@dataclass(frozen=True, slots=True)
class Wire:
    """One node's: its network namespace, and its address there."""

    namespace: str
    address: str

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and what it starts meanwhile, are at the node's end of the wire."""
        with Path("/proc/thread-self/ns/net").open() as own, Path("/run/netns", self.namespace).open() as theirs:
            _setns(theirs.fileno())
            try:
                yield
            finally:
                _setns(own.fileno())

    def cut(self) -> None:
        """Nothing comes and nothing goes any more; nobody is told: connections stay as they are."""
        for chain in ("INPUT", "OUTPUT"):
            _run("ip", "netns", "exec", self.namespace, "iptables", "-w", "-I", chain, "-j", "DROP")


class Wires:
    """All wires of one bench."""

    def __init__(self) -> None:
        self._prefix = f"veil-{os.getpid()}"
        self._hub = f"{self._prefix}-hub"
        self._numbers = itertools.count(1)
        self._wires: list[Wire] = []
        _run("ip", "netns", "add", self._hub)
        _run("ip", "-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self._hub, "link", "set", "bridge", "up")

    def add(self) -> Wire:
        """One more, connected with all that are not cut."""
        number = next(self._numbers)
        wire = Wire(f"{self._prefix}-{number}", f"10.77.{number // 250}.{number % 250 + 1}")
        end, name = f"node{number}", wire.namespace
        _run("ip", "netns", "add", name)
        self._wires.append(wire)
        _run("ip", "link", "add", end, "netns", self._hub, "type", "veth", "peer", "name", "wire", "netns", name)
        _run("ip", "-n", self._hub, "link", "set", end, "master", "bridge", "up")
        _run("ip", "-n", name, "address", "add", f"{wire.address}/16", "dev", "wire")
        _run("ip", "-n", name, "link", "set", "wire", "up")
        _run("ip", "-n", name, "link", "set", "lo", "up")
        return wire

    def close(self) -> None:
        for name in (*(wire.namespace for wire in self._wires), self._hub):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextmanager
def wires() -> Iterator[Wires]:
    """Raises ConfigInvalid without root."""
    if os.geteuid() != 0:
        raise ConfigInvalid("network namespaces need root", hint="run it with sudo")
    made = Wires()
    try:
        yield made
    finally:
        made.close()

"""Network namespaces: sockets in that of another process, and new ones that outlive whoever made them.

A socket belongs to the network namespace of the thread that made it, for as long as it lives. So a thread goes there, makes one
and ends: no thread that anything else runs in ever changes its network. A namespace lasts while something is in it or a file is
mounted from it. Source: setns(2), unshare(2), network_namespaces(7), netdevice(7).
"""

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TypeVar

from veil.errors import ContainerFailed
from veil.runtime.mounts import bind

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

T = TypeVar("T")


def tcp_socket() -> socket.socket:
    """IPv4, non-blocking, not connected, in this process's network."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


def tcp_socket_of(pid: int) -> socket.socket:
    """The same in the network of ``pid``. Blocks for a moment. Raises ContainerFailed when the process is gone."""

    def make() -> socket.socket:
        with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
            _libc("setns", namespace.fileno(), _CLONE_NEWNET)
        return tcp_socket()

    try:
        return _in_thread(make, f"socket of {pid}")
    except OSError as error:
        raise ContainerFailed(
            f"the network of process {pid} cannot be entered: {error}", hint="it has ended, probably"
        ) from error


def make_namespace(path: Path) -> None:
    """A new namespace at ``path``, a file that is made, with loopback up; it lasts until that is unmounted. Raises OSError."""

    def make() -> None:
        _libc("unshare", _CLONE_NEWNET)
        with tcp_socket() as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        bind(Path(f"/proc/self/task/{threading.get_native_id()}/ns/net"), path)

    path.touch()
    _in_thread(make, f"namespace {path}")


def _libc(function: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _in_thread(make: Callable[[], T], name: str) -> T:
    """What ``make`` gives or raises, in a thread that nothing else runs in."""
    made: Future[T] = Future()

    def run() -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            made.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return made.result()

"""Sockets in the network of another process. Source: setns(2), network_namespaces(7).

A socket belongs to the network namespace of the thread that made it, for as long as it lives. So a thread goes there, makes one
and ends: no thread that anything else runs in ever changes its network.
"""

import ctypes
import os
import socket
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from veil.errors import ContainerFailed

_CLONE_NEWNET = 0x40000000


def tcp_socket() -> socket.socket:
    """IPv4, non-blocking, not connected, in this process's network."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


def tcp_socket_of(pid: int) -> socket.socket:
    """The same in the network of ``pid``. Blocks for a moment. Raises ContainerFailed when the process is gone."""
    made: Future[socket.socket] = Future()
    Thread(target=_make, args=(pid, made), name=f"socket of {pid}", daemon=True).start()
    try:
        return made.result()
    except OSError as error:
        raise ContainerFailed(
            f"the network of process {pid} cannot be entered: {error}", hint="it has ended, probably"
        ) from error


def _make(pid: int, made: "Future[socket.socket]") -> None:
    try:
        with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        made.set_result(tcp_socket())
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
        made.set_exception(error)

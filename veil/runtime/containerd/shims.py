"""Where shims listen: outside of everything that is the daemon's own, and left behind when a shim is killed.

Source: containerd ``runtime/v2/shim/util_unix.go`` (SocketAddress), the same from 1.4 to 2.
"""

import hashlib
from pathlib import Path

from veil.runtime.containerd.connection import Connection

SOCKETS = Path("/run/containerd/s")


def socket_of(daemon_socket: Path, namespace: str, id: str) -> Path:
    """The socket of one container's shim."""
    return SOCKETS / hashlib.sha256(str(daemon_socket / namespace / id).encode()).hexdigest()


async def known_sockets(daemon_socket: Path) -> list[Path]:
    """Those of all containers the daemon has a record of, whether their shims live or not. Raises RuntimeUnavailable."""
    root = Connection(daemon_socket, "default")
    try:
        names = [entry.name for entry in (await root.call("namespaces", "List")).namespaces]
    finally:
        await root.close()
    found = []
    for name in names:
        connection = Connection(daemon_socket, name)
        try:
            containers = (await connection.call("containers", "List")).containers
        finally:
            await connection.close()
        found += [socket_of(daemon_socket, name, container.id) for container in containers]
    return found

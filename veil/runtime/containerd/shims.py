"""Where shims listen: outside of everything that is the daemon's own; and what is left when a shim or the daemon is killed.

Source: containerd ``runtime/v2/shim/util_unix.go`` (SocketAddress), the same from 1.4 to 2.
"""

import contextlib
import hashlib
import logging
from pathlib import Path

from veil.runtime.containerd.connection import Connection
from veil.runtime.detached import identify
from veil.runtime.disk_use import remove_tree
from veil.runtime.leftovers import cgroup_members, kill_all
from veil.runtime.mounts import unmount_below

log = logging.getLogger(__name__)

SOCKETS = Path("/run/containerd/s")


def socket_of(daemon_socket: Path, namespace: str, id: str) -> Path:
    """The socket of one container's shim."""
    return SOCKETS / hashlib.sha256(str(daemon_socket / namespace / id).encode()).hexdigest()


def bury(daemon_socket: Path, namespace: str, id: str, cgroup: str) -> None:
    """Make sure that nothing is left of a container whose task containerd does not know any more. Blocks.

    A shim that ends as it should removes its socket. One that is still there was killed, or containerd was while it made or
    removed the task, and then nobody ever tells the shim to end. What it ran is in its ``cgroup``.
    """
    socket = socket_of(daemon_socket, namespace, id)
    if not socket.exists():
        return
    words = {f"-namespace\0{namespace}\0".encode(), f"-id\0{id}\0".encode(), f"-address\0{daemon_socket}\0".encode()}
    shims = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes()
            if b"containerd-shim" in command and all(word in command for word in words):
                shims.append(identify(int(path.parent.name)))
    kill_all([shim for shim in shims if shim is not None])
    kill_all(cgroup_members(cgroup))
    socket.unlink(missing_ok=True)


def remove_bundle(bundle: Path, namespace: str, id: str) -> None:
    """Remove the directory of a task that containerd does not know, with its mounts; nothing that is not one. Blocks."""
    if (bundle.parent.name, bundle.name) != (namespace, id):
        return
    log.warning("containerd has forgotten %s of container %s: it is removed", bundle, id)
    unmount_below(bundle)
    remove_tree(bundle)


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

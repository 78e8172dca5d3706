"""Mounts of this machine: what there is, a file system in memory, unmounting. Source: mount(2), umount2(2), proc(5)."""

import ctypes
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_MNT_DETACH = 2
_MS_NOSUID = 2
_MS_NODEV = 4
_MS_BIND = 4096


def mounts() -> list[tuple[Path, str]]:
    """(mount point, file system type) in the order they were mounted (proc(5), mountinfo)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        point = head.split()[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        found.append((Path(point), tail.split()[0]))
    return found


def unmount_below(directory: Path) -> None:
    """The last mounted first; detached, so that nothing can hold one."""
    for point, _ in reversed(mounts()):
        if point.is_relative_to(directory):
            unmount(point)


def unmount(point: Path) -> None:
    """Detached. What cannot be unmounted is logged."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(bytes(point), _MNT_DETACH) != 0:
        log.warning("mount %s stays: %s", point, os.strerror(ctypes.get_errno()))


def mount_tmpfs(point: Path, size_bytes: int) -> None:
    """A file system in memory, for its owner alone. Raises OSError."""
    mount(point, "tmpfs", f"size={size_bytes},mode=0700", _MS_NOSUID | _MS_NODEV)


def bind(source: Path, point: Path) -> None:
    """``source`` at ``point`` as well, which exists. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(bytes(source), bytes(point), None, _MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(point))


def mount(point: Path, kind: str, options: str, flags: int = 0) -> None:
    """mount(2) with the type as the source. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(kind.encode(), bytes(point), kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(point))

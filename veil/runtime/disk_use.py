"""How much disk a directory tree takes that somebody else fills, who may be out to break whoever counts or removes it.

Directories are opened one from the other by name, without following links: no path gets too long, and nothing outside is counted
by exchanging a directory for a link. A tree that cannot be counted within the limits takes UNCOUNTABLE, which is more than any
limit allows.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ENTRIES_MAX = 1 << 20
"""Files and directories: some seconds' work."""

OPEN_MAX = 256
"""Directories that are open at a time: one for each level at which more than one has to be gone into."""

UNCOUNTABLE = 1 << 62

_BLOCK_BYTES = 512
"""Of st_blocks, whatever the file system's own are."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def tree_bytes(root: Path) -> int:
    """What everything below ``root`` takes, hard links once, as far as it can be looked at. Nothing there = 0. Blocks."""
    total, entries, linked = 0, 0, set[tuple[int, int]]()
    for found in _walk(root):
        entries += 1
        if found is None or entries > ENTRIES_MAX:
            return UNCOUNTABLE
        if found.st_nlink > 1:
            linked_as = (found.st_dev, found.st_ino)
            if linked_as in linked:
                continue
            linked.add(linked_as)
        total += found.st_blocks * _BLOCK_BYTES
    return total


def remove_tree(root: Path) -> None:
    """Everything, however deep: Python's own way calls itself for each level and gives up after some hundred. Blocks."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(root, ignore_errors=True)
    if root.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", "--", str(root)], check=False, capture_output=True)


def _walk(root: Path) -> Iterator[os.stat_result | None]:
    """Everything below, in no order; None when too many directories would have to be open."""
    stack: list[tuple[int, list[str]]] = []
    try:
        handle = _open(str(root), None)
        while handle is not None or stack:
            if handle is not None:
                below: list[str] = []
                stack.append((handle, below))
                for name, found, is_directory in _entries(handle):
                    yield found
                    if is_directory:
                        below.append(name)
            parent, waiting = stack[-1]
            if not waiting:
                os.close(stack.pop()[0])
                handle = None
                continue
            handle = _open(waiting.pop(), parent)
            if not waiting:
                os.close(stack.pop()[0])
            if len(stack) >= OPEN_MAX:
                if handle is not None:
                    os.close(handle)
                yield None
                return
    finally:
        for handle, _ in stack:
            os.close(handle)


def _open(name: str, parent: int | None) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        return None


def _entries(handle: int) -> Iterator[tuple[str, os.stat_result, bool]]:
    with os.scandir(handle) as listed:
        for entry in listed:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield entry.name, found, entry.is_dir(follow_symlinks=False)

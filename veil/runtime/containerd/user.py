"""Whom an image wants to run as: ``user[:group]``, by number or by a name in the image's own passwd and group files.

The files are looked for in the layers of the image's snapshot, top first, without mounting anything. They are the image's,
so they may lie: symbolic links are not followed (they would lead out of the image), and reading is bounded.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from veil.errors import ContainerFailed
from veil.runtime.containerd.spec import User

MAX_FILE_BYTES = 1 << 20
MAX_ID = (1 << 31) - 1


def needs_files(user: str) -> bool:
    """Whether resolving takes a look into the image: numbers alone say all (the group of a bare number is 0)."""
    return bool(user) and not all(part.isdecimal() for part in user.split(":"))


def layer_roots(mounts: Iterable[Any]) -> list[Path]:
    """The directories a snapshot's mounts consist of, the uppermost first."""
    roots = []
    for mount in mounts:
        if mount.type == "overlay":
            options = dict(option.partition("=")[::2] for option in mount.options)
            roots += [part for part in (options.get("upperdir"), *options.get("lowerdir", "").split(":")) if part]
        else:
            roots.append(mount.source)
    return [Path(root) for root in roots]


def resolve_user(user: str, roots: Iterable[Path]) -> User:
    """Raises ContainerFailed when the image does not know its own user."""
    if not user:
        return User()
    roots = list(roots)
    name, _, group = user.partition(":")
    entry = _find(_read(roots, "passwd"), name) if not name.isdecimal() else None
    if entry is None and not name.isdecimal():
        raise ContainerFailed(f"the image's user {name!r} is not in its passwd file", hint="use a numeric USER in the image")
    uid, gid = (int(name), 0) if entry is None else (int(entry[2]), int(entry[3]))
    groups = _read(roots, "group") if needs_files(user) else []
    if group:
        gid = int(group) if group.isdecimal() else _group(groups, group)
    if not 0 <= uid <= MAX_ID or not 0 <= gid <= MAX_ID:
        raise ContainerFailed(f"the image's user {user!r} is out of range", hint=f"ids go from 0 to {MAX_ID}")
    extra = () if group else tuple(int(line[2]) for line in groups if len(line) > 3 and name in line[3].split(","))
    return User(uid, gid, extra)


def _group(groups: list[list[str]], name: str) -> int:
    entry = _find(groups, name)
    if entry is None:
        raise ContainerFailed(f"the image's group {name!r} is not in its group file", hint="use a numeric group in the image")
    return int(entry[2])


def _find(lines: list[list[str]], name: str) -> list[str] | None:
    return next((line for line in lines if line[0] == name), None)


def _read(roots: Iterable[Path], name: str) -> list[list[str]]:
    """The lines of ``/etc/<name>`` that are whole, split at the colons."""
    for root in roots:
        text = _read_inside(root, name)
        if text is not None:
            lines = [line.split(":") for line in text.splitlines()]
            return [
                line
                for line in lines
                if len(line) > 2 and line[2].isdecimal() and (name == "group" or (line[3:4] and line[3].isdecimal()))
            ]
    return []


def _read_inside(root: Path, name: str) -> str | None:
    try:
        etc = os.open(root / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=etc)
    except OSError:
        return None
    finally:
        os.close(etc)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return file.read(MAX_FILE_BYTES).decode(errors="replace")

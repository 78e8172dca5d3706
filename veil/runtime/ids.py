"""Container ids: one rule for every driver, because an id becomes a directory, a cgroup and a record's key."""

import re

from veil.errors import LimitExceeded

MAX_ID_CHARS = 76
"""containerd's own limit for identifiers."""

_ID = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")


def check_id(id: str) -> str:
    """Give ``id`` back if it can name a container. Raises LimitExceeded."""
    if len(id) > MAX_ID_CHARS or not _ID.fullmatch(id):
        raise LimitExceeded(
            f"container id {id!r} is not valid",
            hint=f"letters and digits, single '.', '_' or '-' between them, at most {MAX_ID_CHARS} characters",
        )
    return id

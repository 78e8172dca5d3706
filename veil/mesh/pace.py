"""How slow a transfer may be: each step within a time, and all of it at a least rate."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from veil.errors import DeadlineExceeded

STALL_TIMEOUT_S = 10.0
"""A transfer in which nothing moves for so long is over."""

RATE_MIN_BYTES_PER_S = 64 * 1024
"""And one that is slower than this on the whole: a peer that dribbles would hold its stream, and our file, for ever."""


@contextmanager
def stall_guard() -> Iterator[None]:
    """DeadlineExceeded if the step inside takes over STALL_TIMEOUT_S; an outer deadline passes through."""
    with trio.move_on_after(STALL_TIMEOUT_S) as scope:
        yield
    if scope.cancelled_caught:
        raise DeadlineExceeded(f"a blob's transfer stood still for {STALL_TIMEOUT_S} s")


@contextmanager
def pace_guard(size_bytes: int) -> Iterator[None]:
    """DeadlineExceeded if ``size_bytes`` take longer than they may."""
    longest_s = STALL_TIMEOUT_S + size_bytes / RATE_MIN_BYTES_PER_S
    with trio.move_on_after(longest_s) as scope:
        yield
    if scope.cancelled_caught:
        raise DeadlineExceeded(f"a blob of {size_bytes} bytes did not come within {longest_s:.0f} s")

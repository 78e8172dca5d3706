"""What one invocation of `veil` gave."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Veil = Callable[..., Awaitable[Ran]]

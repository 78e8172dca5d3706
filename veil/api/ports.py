"""What the API needs of the rest of the node: a way to write chain-held objects, and logs."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from veil.runtime.ports import ExecSession
from veil.store.objects import Obj


class ObjectWriter(Protocol):
    """Writes objects whose truth is on the chain. Implemented by :class:`veil.api.admission.Admission`."""

    async def apply(self, obj: Obj, live: Obj | None) -> Obj:
        """Create ``obj`` (``live`` None) or bring ``live`` to it. ``obj`` is validated and has its defaults.

        Gives back the object as it is anchored: spec, labels, uid and generation; what is local to the node is not in it.
        Returns once this node has seen it on the chain. Raises Conflict, Forbidden, LimitExceeded, Unavailable.
        """
        ...

    async def delete(self, obj: Obj) -> None:
        """Returns once this node has seen the deletion on the chain. Raises NotFound, Conflict, Forbidden, Unavailable."""
        ...

    async def cordon(self, node: Obj, *, unschedulable: bool) -> None:
        """Keep new replicas off ``node``, or let them come again. Returns once this node has seen it on the chain.

        Raises Conflict (the node is not in a state for that), Forbidden (another operator's), Unavailable.
        """
        ...


class Drainer(Protocol):
    """Moves what this node runs to others. Implemented by the node."""

    def drain(self, node: Obj) -> Obj:
        """Go on with it for a while; asked again and again. Gives back what is ``left``. Raises Conflict, Forbidden."""
        ...


class LogSource(Protocol):
    """The logs of one Instance, wherever it runs."""

    def logs(
        self,
        instance: Obj,
        *,
        container: str,
        follow: bool,
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> AsyncIterator[bytes]:
        """``container`` empty: the only one. ``previous``: of the run before its last restart.

        Raises NotFound, Forbidden, Unavailable, at the latest before the first piece.
        """
        ...


class ExecSource(Protocol):
    """Commands in an Instance's container, wherever it runs."""

    async def open_exec(self, instance: Obj, *, container: str, command: Sequence[str], tty: bool) -> ExecSession:
        """``container`` empty: the only one. Raises NotFound, Forbidden, InvalidInput, ContainerFailed, Unavailable."""
        ...


class Auditor(Protocol):
    """Checks placements afterwards. ``name``: of a Placement, also one that is too old to be listed."""

    async def audit(self, name: str) -> Obj:
        """The report. Raises NotFound, InvalidInput."""
        ...

    async def transcript(self, name: str) -> Obj:
        """What this node itself keeps of the placement's round. Raises NotFound, InvalidInput, DigestMismatch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, by the door they came through: people and tools, or this node's controllers."""

    name: str
    controllers: bool = False
    visible: Callable[[Obj], bool] = lambda obj: True
    """Which objects exist for this caller. Asked anew for every object and event."""

"""Instances that hold more of the disk than they may, or too much of a disk that runs short, are ended and their disk is freed.

This finds them, one look after the other, and remembers them until the agent has ended them. An Instance that is to be started
again begins anew after a pause, init containers and empty volumes included; one that is not is marked in a file, so that no
later agent takes it for one that has not run yet.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from veil.agent.backoff import BACKOFF_MAX_S, BACKOFF_RESET_S, Trouble, again
from veil.agent.disk_use import Held, excess, is_limited, measure, most_over, requested_bytes
from veil.agent.keys import InstanceKey
from veil.agent.pressure import is_short
from veil.agent.spec import InstancePlan, LogPaths
from veil.agent.status import EVICTED
from veil.errors import RuntimeUnavailable, VeilError
from veil.runtime.ports import Runtime
from veil.types import Clock

log = logging.getLogger(__name__)

PERIOD_S = 10.0
"""The kubelet's figure."""

GRACE_S = 1
"""Between SIGTERM and SIGKILL: what is written meanwhile is what there is no room for. The kubelet's figure."""


class Eviction(NamedTuple):
    """``for_the_node``: it did nothing that it may not, but the node's disk runs short."""

    message: str
    for_the_node: bool


class Evictions:
    """``plans`` are the Instances that run here; ``free`` removes what nobody needs; ``wake`` is called with who has to go."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        logs: LogPaths,
        marks: Path,
        *,
        plans: Callable[[], Mapping[InstanceKey, InstancePlan]],
        free: Callable[[], Awaitable[object]],
        wake: Callable[[InstanceKey], None],
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._logs = logs
        self._marks = marks
        self._plans = plans
        self._free = free
        self._wake = wake
        self._pending: dict[InstanceKey, Eviction] = {}
        self._pauses: dict[InstanceKey, Trouble] = {}
        self._marked: dict[str, str] = {}
        self.within_requests_bytes = 0
        """What Instances held of the disk that was promised to them, when it was last looked at."""

    async def run(self) -> None:
        """Look again and again; never ends by itself."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.look()
            except RuntimeUnavailable:
                log.debug("disk use: the runtime does not answer")
            except (VeilError, OSError) as error:
                log.warning("disk use cannot be measured: %s", error)

    async def look(self) -> None:
        """Once. Raises VeilError, OSError."""
        short = is_short(await self._runtime.disk())
        if short:
            await self._free()
            short = is_short(await self._runtime.disk())
        seen: list[tuple[InstanceKey, InstancePlan, Held]] = []
        within_bytes = 0
        for key, plan in list(self._plans().items()):
            if key not in self._pending and (short or is_limited(plan)):
                held = await measure(self._runtime, plan, self._logs, key.text)
                within_bytes += min(held.disk_bytes, requested_bytes(plan))
                if message := excess(plan, held):
                    self._evict(key, Eviction(message, for_the_node=False))
                else:
                    seen.append((key, plan, held))
        self.within_requests_bytes = within_bytes
        if short and not self._pending and (worst := most_over(seen)) is not None:
            self._evict(worst, Eviction("the node's disk is nearly full and it held most over its request", for_the_node=True))

    def pending(self, key: InstanceKey) -> Eviction | None:
        """Why it has to go now."""
        return self._pending.get(key)

    def done(self, key: InstanceKey, eviction: Eviction) -> Trouble:
        """It is gone. Gives back when it may begin anew: longer each time, unless it went well for long in between."""
        self._pending.pop(key, None)
        now_s, before = self._clock.now_s(), self._pauses.get(key)
        if before is not None and now_s - before.until_s > BACKOFF_RESET_S:
            before = None
        pause = again(before, reason=EVICTED, message=eviction.message, now_s=now_s)
        if eviction.for_the_node:
            pause = Trouble(reason=EVICTED, message=eviction.message, attempts=1, until_s=now_s + BACKOFF_MAX_S)
        self._pauses[key] = pause
        return pause

    def adopt(self) -> None:
        """Know what an agent before this one marked. Blocks."""
        if self._marks.is_dir():
            self._marked = {path.name: path.read_text() for path in self._marks.iterdir()}

    def mark(self, key: InstanceKey, eviction: Eviction) -> None:
        """It is not to be started again. Blocks. Raises OSError."""
        self._marks.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._marks / key.text).write_text(eviction.message)
        self._marked[key.text] = eviction.message

    def marked(self, key: InstanceKey) -> str:
        """Why it is not started again; empty for one that was not evicted for good."""
        return self._marked.get(key.text, "")

    def forget(self, key: InstanceKey) -> None:
        self._pending.pop(key, None)
        self._pauses.pop(key, None)

    def remove(self, instance: str) -> None:
        """Its mark. None there = done."""
        self._marked.pop(instance, None)
        (self._marks / instance).unlink(missing_ok=True)

    def instances(self) -> set[str]:
        """Those that have a mark here."""
        return set(self._marked)

    def _evict(self, key: InstanceKey, eviction: Eviction) -> None:
        log.warning("%s is evicted: %s", key.text, eviction.message)
        self._pending[key] = eviction
        self._wake(key)

"""Asks the containers of this node, and remembers what followed for each run.

One task for each run of a container that has probes: it ends with the run. A run is known by when it began, so a container that
is started again begins with a new Health, and a new agent, which knows nothing, asks anew.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from veil.agent.keys import InstanceKey
from veil.agent.probe_calls import Asks
from veil.agent.probes import Check, Health, Probe, Probes, Tally
from veil.agent.queue import without_figures
from veil.agent.spec import Planned
from veil.errors import VeilError
from veil.runtime.ports import Container, ContainerState
from veil.types import Clock

log = logging.getLogger(__name__)

PROBES_AT_ONCE = 32
"""More wait: after a restart of the agent all are due at once, and slow answers would look like failures."""


@dataclass(slots=True)
class _Run:
    key: InstanceKey
    container: Container
    probes: Probes
    health: Health
    task: asyncio.Task[None] | None = None


class Probing:
    """Runs the probes. ``wake`` is called with the Instance whenever the Health of one of its containers changed."""

    def __init__(self, asks: Asks, clock: Clock, wake: Callable[[InstanceKey], None]) -> None:
        self._asks = asks
        self._clock = clock
        self._wake = wake
        self._runs: dict[InstanceKey, dict[str, _Run]] = {}
        self._slots = asyncio.Semaphore(PROBES_AT_ONCE)

    def watch(self, key: InstanceKey, planned: Iterable[Planned], actual: Iterable[Container]) -> dict[str, Health]:
        """Ask those that run, stop asking others. Gives back the Health of each container's present or last run, by name."""
        there = {container.id: container for container in actual}
        runs = self._runs.setdefault(key, {})
        found: dict[str, Health] = {}
        for one in planned:
            container, run = there.get(one.spec.id), runs.get(one.name)
            if run is not None and (container is None or container.started_s != run.container.started_s):
                self._end(runs.pop(one.name))
                run = None
            if container is None:
                continue
            if container.state is not ContainerState.RUNNING:
                if run is not None:
                    self._end(run)
            elif run is None and one.probes:
                run = runs[one.name] = _Run(key, container, one.probes, one.probes.at_start())
                run.task = asyncio.get_running_loop().create_task(self._ask(run), name=f"probes of {container.id}")
            found[one.name] = run.health if run is not None else one.probes.at_start()
        if not runs:
            del self._runs[key]
        return found

    def forget(self, key: InstanceKey) -> None:
        """Stop asking its containers."""
        for run in self._runs.pop(key, {}).values():
            self._end(run)

    async def close(self) -> None:
        tasks = [run.task for runs in self._runs.values() for run in runs.values() if run.task is not None]
        for key in list(self._runs):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, run: _Run) -> None:
        if run.task is not None:
            run.task.cancel()

    async def _ask(self, run: _Run) -> None:
        """The startup probe until it has succeeded, then the other two; all until one wants the run to be stopped."""
        probes = run.probes.by_check
        if Check.STARTUP in probes:
            await self._repeat(run, Check.STARTUP, probes[Check.STARTUP])
        async with asyncio.TaskGroup() as group:
            for check in (Check.READINESS, Check.LIVENESS):
                if check in probes:
                    group.create_task(self._repeat(run, check, probes[check]))

    async def _repeat(self, run: _Run, check: Check, probe: Probe) -> None:
        """Returns once a startup probe has succeeded, or when the run is to be stopped."""
        tally = Tally(probe)
        left_s = run.container.started_s + probe.initial_delay_s - self._clock.now_s()
        await asyncio.sleep(min(max(0.0, left_s), probe.initial_delay_s))  # the clock may have been set back
        while run.health.failed is None:
            due_s = self._clock.monotonic_s() + probe.period_s
            verdict = await self._once(run, check, tally)
            if verdict is not None:
                self._conclude(run, check, verdict, probe)
                if check is Check.STARTUP and verdict:
                    return
            await asyncio.sleep(max(0.0, due_s - self._clock.monotonic_s()))

    async def _once(self, run: _Run, check: Check, tally: Tally) -> bool | None:
        """What cannot be asked has no answer: a runtime that is away or a disk that is full is no fault of the container."""
        try:
            async with self._slots:
                success = await self._asks.ask(run.container.id, tally.probe.action, tally.probe.timeout_s)
        except (VeilError, OSError) as error:
            words = error.message if isinstance(error, VeilError) else error.strerror or ""
            log.warning("%s: the %s cannot be made: %s", run.container.id, check.words, without_figures(words))
            return None
        return tally.add(success)

    def _conclude(self, run: _Run, check: Check, success: bool, probe: Probe) -> None:
        before = run.health
        if check is Check.READINESS:
            run.health = replace(before, ready=success)
        elif success:
            run.health = replace(before, started=True, ready=before.ready or Check.READINESS not in run.probes.by_check)
        else:
            run.health = replace(before, ready=False, failed=check, grace_s=probe.grace_s)
        if run.health != before:
            self._wake(run.key)

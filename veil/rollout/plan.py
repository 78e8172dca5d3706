"""Which Instances to create and which to remove next, given what is there now.

One pass says one next step; applied again and again to what it led to, it comes to rest exactly when the desired replicas of
the desired (template) generation are the only ones left. Removals are meant to be done before creations. A Workload that is being
deleted is planned with ``replicas=0``.

An Instance is *gone* once its object is gone. One that is Terminating still is there for ``Recreate`` (which wants the old
one stopped first) and not there for the surge of ``RollingUpdate``, as in Kubernetes: else one lost node could stop a rollout.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from veil.rollout.strategy import Strategy, StrategyType

TERMINATING = "Terminating"
SUCCEEDED = "Succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What the Workload asks for now. ``generation`` is that of its template."""

    generation: int
    replicas: int
    strategy: Strategy = field(default_factory=Strategy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One Instance that is there. ``phase`` is the status' phase, empty before the first report."""

    name: str
    generation: int
    replica: int
    phase: str = ""
    ready: bool = False

    @property
    def available(self) -> bool:
        """Does its work, or has done it (a finished run of a Workload that does not restart)."""
        return self.phase != TERMINATING and (self.ready or self.phase == SUCCEEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The next step: ``remove`` first, then ``create`` (pairs of generation and replica)."""

    create: tuple[tuple[int, int], ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.create or self.remove)


def plan(desired: Desired, observed: Collection[Observed]) -> Plan:
    """The next step from ``observed`` towards ``desired``; an empty Plan when there is nothing to do now."""
    current = [one for one in observed if one.generation == desired.generation]
    old = [one for one in observed if one.generation != desired.generation]
    keep = [one for one in current if one.replica < desired.replicas]
    surplus = [one for one in current if one.replica >= desired.replicas and one.phase != TERMINATING]
    if desired.strategy.type is StrategyType.RECREATE:
        removed_old = _alive(old)
        limit = 0 if old else desired.replicas
    else:
        removed_old = _replaceable(desired, _alive(keep), _alive(old))
        limit = desired.replicas + desired.strategy.max_surge - (len(_alive(old)) - len(removed_old))
    missing = sorted(set(range(desired.replicas)) - {one.replica for one in keep})
    room = max(0, limit - len(_alive(keep)))
    return Plan(
        create=tuple((desired.generation, replica) for replica in missing[:room]),
        remove=tuple(one.name for one in sorted([*surplus, *removed_old], key=_highest_first)),
    )


def _alive(instances: Collection[Observed]) -> list[Observed]:
    return [one for one in instances if one.phase != TERMINATING]


def _highest_first(one: Observed) -> tuple[int, int]:
    return (-one.replica, one.generation)


def _replaceable(desired: Desired, keep: list[Observed], old: list[Observed]) -> list[Observed]:
    """The old Instances that nobody misses, those that serve nothing first.

    The two bounds are those of Kubernetes' Deployment controller (``reconcileOldReplicaSets``): one that does not serve now may
    only have lost its last report, so it too stays until a new one is available or there are more than enough.
    """
    floor = max(0, desired.replicas - desired.strategy.max_unavailable)
    available = sum(one.available for one in keep)
    most = max(0, len(keep) + len(old) - floor - (len(keep) - available))
    idle = sorted((one for one in old if not one.available), key=_highest_first)[:most]
    serving = sorted((one for one in old if one.available), key=_highest_first)
    spare = max(0, available + len(serving) - floor)
    return [*idle, *serving[: min(spare, most - len(idle))]]

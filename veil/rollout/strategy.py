"""How one generation follows another: the figures of a Workload's ``spec.strategy``.

The figures have Kubernetes' names and meanings; the defaults favour availability: nothing that serves is removed before its
successor is ready.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

DEFAULT_SURGE_PERCENT = 25
"""As in Kubernetes' Deployment, rounded up: at least one."""


class StrategyType(StrEnum):
    ROLLING_UPDATE = "RollingUpdate"
    RECREATE = "Recreate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """``max_surge`` replicas may exist over the desired number, ``max_unavailable`` may be missing, while rolling."""

    type: StrategyType = StrategyType.ROLLING_UPDATE
    max_surge: int = 1
    max_unavailable: int = 0

    def __post_init__(self) -> None:
        if self.max_surge < 0 or self.max_unavailable < 0:
            raise ValueError("maxSurge and maxUnavailable are not negative")
        if self.type is StrategyType.ROLLING_UPDATE and self.max_surge == self.max_unavailable == 0:
            raise ValueError("with maxSurge and maxUnavailable both 0 no rollout could move")


def strategy_of(spec: dict[str, Any]) -> Strategy:
    """The strategy of a validated Workload ``spec``; what is absent has its default."""
    given = spec.get("strategy") or {}
    replicas = int(spec.get("replicas", 1))
    kind = StrategyType(given.get("type", StrategyType.ROLLING_UPDATE))
    unavailable = _figure(given.get("maxUnavailable", 0), replicas, round_up=False)
    surge = _figure(given.get("maxSurge", f"{DEFAULT_SURGE_PERCENT}%"), replicas, round_up=True)
    if surge == unavailable == 0:
        unavailable = 1  # percentages may round to 0; Kubernetes moves on with one unavailable, too
    return Strategy(type=kind, max_surge=surge, max_unavailable=unavailable)


def _figure(value: int | str, replicas: int, *, round_up: bool) -> int:
    if isinstance(value, int):
        return value
    scaled = int(value.removesuffix("%")) * replicas
    return -(-scaled // 100) if round_up else scaled // 100

"""The policies that are compared: four that see every figure exactly, and those of the profiles, which see slots of tables.

A policy gives every node of every lane a key, the least of which is offered the workload; infinity means "does not fit". The
encoded policy is what the circuits compute on what :mod:`veil.fhe.encoding` makes of the figures; here the same is
computed for thousands of nodes at once, and a test holds it against the encoding and the circuit's clear reference.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.packing_load import RESOURCES, Floats, History, Ints
from veil.fhe.encoding import (
    CELLED,
    DEMAND_TIMES,
    FINER_LEVELS,
    FINEST_LEVELS,
    INFEASIBLE_LEVEL,
    REFERENCE_PART,
    Encoding,
)
from veil.fhe.material import Profile

Bools = NDArray[np.bool_]


class Policy(Protocol):
    """Made for one history; asked once for each arrival."""

    def keys(self, step: int, free: Ints) -> Floats:
        """[L, N] for arrival ``step``, given ``free`` [R, L, N]; an own copy for the caller."""
        ...


class Exact:
    """Feasibility and left-over in plain figures. Left-over is the mean of cpu and memory against the cluster's mean node."""

    def __init__(self, history: History, order: Literal["best-fit", "first-fit", "random", "spread"], seed: int) -> None:
        self._demand = history.demand
        self._order = order
        self._share = 0.5 / history.capacity[:2].mean(axis=2)[:, :, None]
        self._rng = np.random.default_rng([seed, 1])

    def keys(self, step: int, free: Ints) -> Floats:
        fits = (free >= self._demand[:, step, :, None]).all(axis=0)
        keys: Floats = np.where(fits, self._preference(free), np.inf)
        return keys

    def _preference(self, free: Ints) -> Floats:
        if self._order == "first-fit":
            return np.arange(free.shape[2], dtype=np.float64)
        if self._order == "random":
            return self._rng.random(free.shape[1:])
        left: Floats = free[0] * self._share[0] + free[1] * self._share[1]
        return left if self._order == "best-fit" else -left


class Encoded:
    """What the circuits choose on an encoding's tables, ties in a random order drawn for each round, as the beacon's.

    ``rounding`` "down" is what the encoding does; "up" counts what is free upwards, which makes nodes refuse. ``levels`` off
    leaves only the random order. With ``fallback`` a workload that fits nowhere is tried once more on optimistic telemetry.
    """

    def __init__(
        self,
        history: History,
        encoding: Encoding,
        seed: int,
        *,
        profile: Profile = "default",
        rounding: Literal["down", "up"] = "down",
        levels: bool = True,
        fallback: bool = False,
    ) -> None:
        self._levels = levels
        self._finer = profile == "precise"
        self._rng = np.random.default_rng([seed, 2])
        resources = {str(resource.name): resource for resource in encoding.resources}
        named = [resources[name] for name in RESOURCES[: len(history.demand)]]
        asked, below = _rounded_up([resource.sizes for resource in named], history.demand)
        self._needed = asked if rounding == "down" else below
        self._second = below if fallback else None
        self._cells, _ = _rounded_up([resource.cells or () for resource in named[:CELLED]], history.demand[:CELLED])
        self._units = np.array([encoding.reference[resource.name] for resource in named[:CELLED]], np.float64)

    def keys(self, step: int, free: Ints) -> Floats:
        """Score, finer level if the profile has it, random order: as digits before and after the point."""
        fits, finest = self._answers(step, free)
        order = self._rng.random(fits.shape)
        keys: Floats = np.where(fits, finest + order if self._finer else finest // FINER_LEVELS + order, np.inf)
        return keys

    def scores(self, step: int, free: Ints) -> Ints:
        """[L, N]: the level where every resource fits, else INFEASIBLE_LEVEL."""
        fits, finest = self._answers(step, free)
        return np.where(fits, finest // FINER_LEVELS, INFEASIBLE_LEVEL)

    def finer(self, step: int, free: Ints) -> Ints:
        """[L, N]: the finer level."""
        return self._finest(step, free) % FINER_LEVELS

    def _answers(self, step: int, free: Ints) -> tuple[Bools, Ints]:
        """[L, N] each: who has room (as far as the round finds out), and level with finer level as one number."""
        fits: Bools = (free >= self._needed[:, step, :, None]).all(axis=0)
        if self._second is not None:
            nowhere = ~fits.any(axis=1)
            if nowhere.any():
                fits[nowhere] = (free[:, nowhere] >= self._second[:, step, nowhere, None]).all(axis=0)
        return fits, self._finest(step, free) if self._levels else np.zeros(fits.shape, np.int64)

    def _finest(self, step: int, free: Ints) -> Ints:
        asked = self._cells[:, step, :, None]
        asked_part = np.tensordot(1 / self._units, asked, 1) / CELLED
        had_part = np.tensordot(1 / self._units, free[:CELLED], 1) / CELLED
        part = np.maximum(had_part - asked_part, 0) / (REFERENCE_PART + DEMAND_TIMES * asked_part)
        finest = np.minimum(np.sqrt(part) * FINEST_LEVELS, FINEST_LEVELS - 1).astype(np.int64)
        return np.where((free[:CELLED] >= asked).any(axis=0), finest, 0)


def _rounded_up(sizes: Sequence[Sequence[int]], demand: Ints) -> tuple[Ints, Ints]:
    """What has to be free: the size that is asked, and for optimistic telemetry more than the size below it."""
    asked, below = np.empty_like(demand), np.empty_like(demand)
    for index, ascending in enumerate(sizes):
        levels = np.searchsorted(ascending, demand[index])
        asked[index] = np.array(ascending)[levels]
        below[index] = np.array([-1, *ascending])[levels] + 1
    return asked, below

"""The policies that are compared: four that see every figure exactly, and those of the profiles, which see digits.

A policy gives every node of every lane a key, the least of which is offered the workload; infinity means "does not fit". The
encoded policy is what the circuits compute on what :mod:`veil.fhe.encoding` makes of the figures; here the same is
computed for thousands of nodes at once, and a test holds it against the encoding and the circuit's clear reference.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from bench.packing_load import RESOURCES, Floats, History, Ints
from veil.fhe.encoding import FINER_LEVELS, INFEASIBLE_LEVEL, LEFT_OVER_LEVELS, Encoding
from veil.fhe.material import Profile


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
    """Digits and levels of a profile, ties in a random order drawn for each round, as the beacon's.

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
        self._left_over = encoding.left_over
        self._levels = levels
        self._finer = profile == "precise"
        self._capacity = history.capacity
        self._rng = np.random.default_rng([seed, 2])
        sizes = _asked_bundles if profile == "fast" else _asked_sizes
        asked, below = sizes(encoding, history.demand)
        self._needed = asked if rounding == "down" else below
        self._second = below if fallback else None

    def keys(self, step: int, free: Ints) -> Floats:
        """Score, finer level if the profile has it, random order: as digits before and after the point."""
        scores = self.scores(step, free)
        order = self._rng.random(scores.shape)
        if self._finer:
            order = (self._left_over_levels(free) % FINER_LEVELS + order) / FINER_LEVELS
        keys: Floats = np.where(scores < INFEASIBLE_LEVEL, scores + order, np.inf)
        return keys

    def scores(self, step: int, free: Ints) -> Ints:
        """[L, N]: the left-over level where every resource fits, else INFEASIBLE_LEVEL."""
        fits = (free >= self._needed[:, step, :, None]).all(axis=0)
        if self._second is not None:
            nowhere = ~fits.any(axis=1)
            if nowhere.any():
                fits[nowhere] = (free[:, nowhere] >= self._second[:, step, nowhere, None]).all(axis=0)
        levels = self._left_over_levels(free) // FINER_LEVELS if self._levels else np.zeros(fits.shape, np.int64)
        return np.where(fits, levels, INFEASIBLE_LEVEL)

    def _left_over_levels(self, free: Ints) -> Ints:
        """[L, N]: finer levels."""
        names, reference = self._left_over.resources, self._left_over.reference
        total = np.zeros(free.shape[1:])
        for name in names:
            at = RESOURCES.index(name)
            whole = self._capacity[at] if reference is None else reference[name]
            total += np.minimum(1.0, free[at] / whole)
        scores = np.minimum((total / len(names)) ** self._left_over.exponent, np.nextafter(1.0, 0))
        levels: Ints = (scores * LEFT_OVER_LEVELS * FINER_LEVELS).astype(np.int64)
        return levels


def _asked_sizes(encoding: Encoding, demand: Ints) -> tuple[Ints, Ints]:
    """What has to be free: the size that is asked, and for optimistic telemetry more than the size below it.

    What is free, rounded down, reaches the level asked if and only if, unrounded, it reaches that level's size.
    """
    asked, below = np.empty_like(demand), np.empty_like(demand)
    for index, sizes in enumerate(_sizes(encoding)[: len(demand)]):
        levels = np.searchsorted(sizes, demand[index])
        asked[index] = np.array(sizes)[levels]
        below[index] = np.array([-1, *sizes])[levels] + 1
    return asked, below


def _asked_bundles(encoding: Encoding, demand: Ints) -> tuple[Ints, Ints]:
    """As :func:`_asked_sizes`: the first bundle that covers the demand, and the one before it."""
    places_of = {str(resource.name): place for place, resource in enumerate(encoding.resources)}
    places = [places_of[name] for name in RESOURCES[: len(demand)]]
    bundles = np.array([[0] * len(places_of), *encoding.catalogue])[:, places]
    covers = (bundles[1:, :, None, None] >= demand).all(axis=1)
    first = covers.argmax(axis=0)
    return np.moveaxis(bundles[1:][first], -1, 0), np.moveaxis(bundles[first], -1, 0)


def _sizes(encoding: Encoding) -> Sequence[list[int]]:
    by_name = {resource.name: resource.sizes() for resource in encoding.resources}
    return [by_name[name] for name in RESOURCES if name in by_name]

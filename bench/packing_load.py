"""What the packing simulator packs: clusters, five mixes of workload sizes, and when each workload comes and goes.

A lane is one history: a mix, a load and a seed. When a workload leaves does not depend on where it was put, so the whole history
of every lane is known before anything is placed, every policy sees the same one, and all lanes advance together, an arrival
at a time, in arrays of lanes by nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veil.fhe.sizes import GIB

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RESOURCES = ("cpu_milli", "memory_bytes", "disk_bytes", "gpu_count")
"""In the order of every array; two resources are the first two."""

LOADS = (0.85, 0.90, 0.95)
"""Offered demand of the scarcest of cpu, memory and disk, as a part of the cluster."""

WARM_UP_PART = 0.25
"""Arrivals at the beginning that are placed but not counted: the cluster starts empty."""

CPU_MIN, CPU_MAX = 0.1, 16.0
"""Cores of the smallest and the largest workload; the largest is a quarter to the whole of a node."""

_CATALOGUE_CORES = np.array([0.1, 0.25, 0.5, 1, 2, 4, 8, 16])
_CATALOGUE_SHARES = np.array([6, 8, 10, 12, 9, 6, 3, 1]) / 55

_BUNDLES = np.array([(0.5, 4), (2, 8), (4, 16), (8, 24), (16, 32), (16, 64), (16, 128)])
_BUNDLE_SHARES = np.array([12, 9, 6, 4, 2, 2, 1]) / 36


def _continuous(rng: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Any size from 0.1 to 16 cores, small ones more often (density c^-0.6); 1 to 8 GiB a core."""
    low, high = CPU_MIN**0.4, CPU_MAX**0.4
    cores = (low + rng.random(count) * (high - low)) ** 2.5
    return cores, 8.0 ** rng.random(count)


def _catalogue(rng: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """The sizes that people write: 100m, 250m, 500m, then powers of two; 1, 2, 4 or 8 GiB a core."""
    return rng.choice(_CATALOGUE_CORES, count, p=_CATALOGUE_SHARES), 2.0 ** rng.integers(0, 4, count)


def _two_sizes(rng: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Four small services (0.1 to 1 core) to one large workload (4 to 16 cores); 1 to 8 GiB a core."""
    large = rng.random(count) < 0.2
    cores = np.where(large, rng.uniform(4, 16, count), rng.uniform(0.1, 1, count))
    return cores, 8.0 ** rng.random(count)


def _bundles(rng: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Seven kinds of virtual machine, cores and GiB, small ones more often: each needs the most of what is round."""
    cores, gib = _BUNDLES[rng.choice(len(_BUNDLES), count, p=_BUNDLE_SHARES)].T
    return cores, gib / cores


def _lopsided(rng: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Half for computing (half a GiB to 2 GiB a core), half for memory (6 to 16); any size from a quarter core to 10 cores."""
    gib_a_core = np.where(rng.random(count) < 0.5, rng.uniform(0.5, 2, count), rng.uniform(6, 16, count))
    return 0.25 * 40.0 ** rng.random(count), gib_a_core


MIXES: dict[str, Callable[[np.random.Generator, int], tuple[Floats, Floats]]] = {
    "continuous": _continuous,
    "catalogue": _catalogue,
    "two-sizes": _two_sizes,
    "bundles": _bundles,
    "lopsided": _lopsided,
}


@dataclass(frozen=True, slots=True)
class Lane:
    mix: str
    load: float
    seed: int


@dataclass(frozen=True, slots=True)
class History:
    """All lanes side by side. R resources, A arrivals, L lanes, N nodes."""

    lanes: tuple[Lane, ...]
    capacity: Ints
    """[R, L, N]"""
    demand: Ints
    """[R, A, L]"""
    weight: Floats
    """[A, L]: demand as a part of the cluster, summed over resources; 0 during the warm-up."""
    gone_lane: Ints
    gone_job: Ints
    """Whoever leaves, in the order of the arrival before which it leaves."""
    gone_from: Ints
    """[A + 1]: those who leave before arrival k are gone_from[k] to gone_from[k + 1]."""


def cluster(rng: np.random.Generator, nodes: int, resources: int, *, alike: bool) -> Ints:
    """[R, N]: 16 to 64 cores, 2 to 8 GiB a core, 1 to 4 TiB of disk; or all 32, 4 and 2. 8 GPUs in every fourth node."""
    cores = rng.choice([32] if alike else [16, 32, 48, 64], nodes)
    memory = cores * rng.choice([4] if alike else [2, 4, 4, 8], nodes) * GIB
    disk = rng.choice([2048] if alike else [1024, 2048, 4096], nodes) * GIB
    gpus = np.where(rng.permutation(nodes) % 4 == 0, 8, 0)
    figures: Ints = np.stack([cores * 1000, memory, disk, gpus]).astype(np.int64)
    return figures[:resources]


def workloads(rng: np.random.Generator, mix: str, count: int, resources: int) -> Ints:
    """[R, A]: whole millicores and MiB. One in 50 asks for 1, 2 or 4 GPUs; disk is 1 to 300 GiB, evenly in its logarithm."""
    cores, gib_a_core = MIXES[mix](rng, count)
    cpu = np.ceil(cores * 1000)
    memory = np.ceil(cores * gib_a_core * 1024) * (1 << 20)
    disk = np.ceil(300.0 ** rng.random(count)) * GIB
    gpus = np.where(rng.random(count) < 0.02, rng.choice([1, 2, 4], count), 0)
    figures: Ints = np.stack([cpu, memory, disk, gpus]).astype(np.int64)
    return figures[:resources]


def history(*, seeds: range, nodes: int, jobs: int, resources: int, alike: bool = False) -> History:
    """Poisson arrivals, exponential life times of mean 1, one lane for each mix, load and seed."""
    lanes = tuple(Lane(mix, load, seed) for mix in MIXES for load in LOADS for seed in seeds)
    capacity = np.empty((resources, len(lanes), nodes), np.int64)
    demand = np.empty((resources, jobs, len(lanes)), np.int64)
    weight = np.empty((jobs, len(lanes)))
    gone_before = np.empty((jobs, len(lanes)), np.int64)
    for index, lane in enumerate(lanes):
        capacity[:, index] = cluster(np.random.default_rng([lane.seed, 0]), nodes, resources, alike=alike)
        rng = np.random.default_rng([lane.seed, 1 + list(MIXES).index(lane.mix)])
        demand[:, :, index] = workloads(rng, lane.mix, jobs, resources)
        part = demand[:, :, index] / np.maximum(1, capacity[:, index].sum(axis=1))[:, None]
        arrivals = np.cumsum(rng.exponential(size=jobs)) * part[:3].mean(axis=1).max() / lane.load
        gone_before[:, index] = np.searchsorted(arrivals, arrivals + rng.exponential(size=jobs))
        weight[:, index] = part.sum(axis=0)
    weight[: int(jobs * WARM_UP_PART)] = 0
    order = np.argsort(gone_before, axis=None, kind="stable")
    gone_from = np.searchsorted(gone_before.ravel()[order], np.arange(jobs + 1))
    return History(lanes, capacity, demand, weight, order % len(lanes), order // len(lanes), gone_from)

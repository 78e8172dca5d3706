"""Places every workload of a history by one policy, and counts the demand that found a place.

A loss system: a workload without a place goes away, so that what one policy cannot place does not come back as load. Nodes check
exactly; one that was chosen and has not enough refuses, and the next is asked, as often as a round of Veil makes offers.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from bench.packing_load import Floats, History, Ints
from bench.packing_policies import Policy
from veil.placement.settings import OFFERS_MAX


@dataclass(frozen=True, slots=True)
class Outcome:
    """For each lane, after the warm-up: the demand accepted (as a part of what was offered), and refusals for each workload."""

    accepted: Floats
    refusals: Floats


def simulate(history: History, policy: Policy, *, age: int = 0) -> Outcome:
    """``age``: what nodes tell is as many arrivals old. They check exactly, with what is free now."""
    resources, jobs, lanes = history.demand.shape
    nodes = history.capacity.shape[2]
    free = history.capacity.copy()
    flat = free.reshape(resources, lanes * nodes)
    placed = np.full((jobs, lanes), -1, np.int64)
    refusals = np.zeros(lanes)
    every = np.arange(lanes)
    told: deque[Ints] = deque(maxlen=age + 1)
    for step in range(jobs):
        _release(history, step, placed, flat, nodes)
        demand = history.demand[:, step]
        told.append(free.copy() if age else free)
        chosen, refused = _offer(policy.keys(step, told[0]), free, demand, every)
        if history.weight[step, 0] > 0:
            refusals += refused
        placed[step] = chosen
        won = np.flatnonzero(chosen >= 0)
        flat[:, won * nodes + chosen[won]] -= demand[:, won]
        assert step % 512 or (free >= 0).all()
    counted = int(np.count_nonzero(history.weight[:, 0]))
    return Outcome((history.weight * (placed >= 0)).sum(axis=0) / history.weight.sum(axis=0), refusals / counted)


def _release(history: History, step: int, placed: Ints, flat: Ints, nodes: int) -> None:
    """Those who leave before this arrival give back what they had."""
    part = slice(history.gone_from[step], history.gone_from[step + 1])
    lane, job = history.gone_lane[part], history.gone_job[part]
    node = placed[job, lane]
    had = node >= 0
    lane, job, node = lane[had], job[had], node[had]
    for free, demand in zip(flat, history.demand, strict=True):
        np.add.at(free, lane * nodes + node, demand[job, lane])


def _offer(keys: Floats, free: Ints, demand: Ints, every: Ints) -> tuple[Ints, Ints]:
    """The node that takes it in each lane, -1 for none; and how many refused."""
    chosen = np.full(len(every), -1, np.int64)
    refused = np.zeros(len(every), np.int64)
    asking = every
    for _ in range(OFFERS_MAX):
        best = keys[asking].argmin(axis=1)
        named = np.isfinite(keys[asking, best])
        asking, best = asking[named], best[named]
        takes = (free[:, asking, best] >= demand[:, asking]).all(axis=0)
        chosen[asking[takes]] = best[takes]
        asking, best = asking[~takes], best[~takes]
        if not len(asking):
            break
        refused[asking] += 1
        keys[asking, best] = np.inf
    return chosen, refused

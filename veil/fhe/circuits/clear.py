"""Every circuit in clear: the definition of its result on honest tables."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veil.fhe.circuits import choose_clear, layout, precise_clear, rank_clear
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.encoding import INFEASIBLE_LEVEL

Table = Sequence[int] | npt.NDArray[np.uint8]


def score(level: int) -> int:
    """0..4 by level, 5 where something does not fit."""
    return min(level, INFEASIBLE_LEVEL)


def reference(spec: CircuitSpec, tables: Sequence[Table | None], slots: Sequence[int]) -> list[int]:
    """The result's bits when ``slots`` of every table are summed; None and missing candidates are infeasible."""
    places = [layout.PADDING if table is None else layout.levels(table, slots) for table in tables]
    places += [layout.PADDING] * (spec.candidates - len(places))
    return result_of(spec, [score(place["level"]) for place in places], [place["finer"] for place in places])


def result_of(spec: CircuitSpec, scores: Sequence[int], finer: Sequence[int]) -> list[int]:
    """The bits that every candidate's score 0..5 and finer level 0..5 make."""
    if spec.shape == "rank":
        return rank_clear.rank(scores, finer if spec.profile == "precise" else None)
    if spec.profile == "precise":
        return precise_clear.choose_one(scores, finer)
    return choose_clear.choose(scores)

"""Every circuit in clear: the definition of its result on honest digits."""

from collections.abc import Sequence

from veil.fhe.circuits import catalogue_clear, choose_clear, digits_clear, precise_clear, rank_clear
from veil.fhe.circuits.layout import FINER, padding
from veil.fhe.circuits.spec import CircuitSpec


def scores(spec: CircuitSpec, telemetry: Sequence[Sequence[int]], demand: Sequence[int]) -> list[int]:
    """Each candidate's score: 0..4 by level, 5 where something does not fit."""
    score = catalogue_clear.score if spec.profile == "fast" else digits_clear.score
    return [score(digits, demand) for digits in telemetry]


def reference(spec: CircuitSpec, telemetry: Sequence[Sequence[int] | None], demand: Sequence[int]) -> list[int]:
    """The result's bits; None and missing candidates are infeasible."""
    empty = padding(len(demand))
    places = [empty if digits is None else list(digits) for digits in telemetry]
    places += [empty] * (spec.candidates - len(places))
    return result_of(spec, scores(spec, places, demand), [digits[FINER] for digits in places])


def result_of(spec: CircuitSpec, found: Sequence[int], finer: Sequence[int]) -> list[int]:
    """The bits that every candidate's score 0..5 and finer level 0..5 make."""
    if spec.shape == "rank":
        return rank_clear.rank(found)
    if spec.profile == "precise":
        return precise_clear.choose_one(found, finer)
    return choose_clear.choose(found)

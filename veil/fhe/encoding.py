"""How figures become a table and slots of it: public, JSON, named by its digest in the key epoch.

Each resource has a fixed list of sizes. A demand is rounded up to one size of each, and two resources' sizes together are one
slot: first cpu with memory, then disk with GPUs. A candidate's table says for every slot what it answers to whoever asks for
that much: INFEASIBLE_LEVEL where it has not both, else (in the first table) how much it wants the replica. A demand selects its
one or two slots, and what is selected is summed, so whatever is short makes the sum INFEASIBLE_LEVEL or more.

A slot answers for all demands that are rounded up to it. Ordinarily a candidate says that they fit when the largest of them
does, so that it never has to refuse because of rounding; optimistically when the least of them does, so that nothing that fits
is missed.

The order of sizes, and with it which slot a demand selects, is in integers: two machines must agree on it. A level is the
candidate's own word, which nobody computes again.
"""

import hashlib
from bisect import bisect_left
from functools import cached_property
from itertools import pairwise
from math import nextafter
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from veil.errors import CiphertextInvalid, LimitExceeded
from veil.fhe.ports import Figures
from veil.fhe.sizes import GIB, round_sizes
from veil.types import Digest

Table = npt.NDArray[np.uint8]

SLOTS = 2048
"""Of a table: the coefficients of one ring element."""

FINER_SLOT = SLOTS - 1
"""Has the finer level, which the profile ``precise`` reads; no demand selects it."""

VALUES = 16
"""Of a slot, and of the sum of those that a demand selects."""

LEFT_OVER_LEVELS = 6
"""Levels 0..5 of a candidate with room, the least of which wins."""

INFEASIBLE_LEVEL = 6
"""From here on a candidate has no room. Twice this is below VALUES."""

FINER_LEVELS = 6
"""Finer levels inside each level, which the profile ``precise`` looks at."""

SCORE_MAX = 1.0
"""A score is below it; at it or above, a candidate is infeasible whatever is asked."""

MESSAGE_BITS: Literal[4] = 4
"""Width of every number in a circuit: the widest that a cheap look-up takes."""

SIZES_MAX = SLOTS
"""Of one resource."""

Name = Literal["cpu_milli", "memory_bytes", "disk_bytes", "gpu_count"]


class Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One resource's sizes, ascending from 0, in the unit of the name."""

    name: Name
    sizes: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)], ...], msgspec.Meta(min_length=2, max_length=SIZES_MAX)]

    @property
    def maximum(self) -> int:
        return self.sizes[-1]


class LeftOver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a candidate computes what it has left over: ``mean(free / reference) ** exponent``, below 1."""

    resources: tuple[Name, ...]
    exponent: Annotated[float, msgspec.Meta(gt=0, le=1)]
    """0.6 to 0.7 lost least in simulation: fine steps where little is left."""
    reference: dict[str, int] | None = None
    """The mean node of the cluster, by resource; None compares each node with its own capacity."""


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The description of tables and slots.

    The slot of the first two resources' sizes i and j is ``i * len(second) + j``; those of the third and fourth follow, in the
    same order. ``version`` and ``design`` change with the layout, so that no evaluator reads one layout as another.
    """

    version: Literal[4]
    design: Literal["tables"]
    message_bits: Literal[4]
    resources: Annotated[tuple[Resource, ...], msgspec.Meta(min_length=2, max_length=4)]
    left_over: LeftOver

    @cached_property
    def _sizes(self) -> list[npt.NDArray[np.int64]]:
        return [np.array(resource.sizes, np.int64) for resource in self.resources]

    @property
    def used(self) -> int:
        """Slots that a demand can select: the first so many."""
        counts = [len(resource.sizes) for resource in self.resources]
        return counts[0] * counts[1] + (int(np.prod(counts[2:])) if counts[2:] else 0)

    def to_json(self) -> bytes:
        """The canonical text whose digest is published."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def digest(self) -> Digest:
        return Digest(hashlib.sha256(self.to_json()).digest())

    def resized(self, resources: tuple[Resource, ...]) -> "Encoding":
        """The same for other sizes, or fewer resources."""
        return msgspec.structs.replace(self, resources=resources)

    def table(self, free: Figures, score: float, *, optimistic: bool = False) -> Table:
        """What this candidate answers to every demand: (SLOTS,), each 0 to INFEASIBLE_LEVEL.

        ``score`` is its level for whatever fits; the least wins, and from SCORE_MAX on nothing fits.
        """
        level, finer = score_levels(score)
        fits = [self._fits(place, free, optimistic=optimistic) for place in range(len(self.resources))]
        table = self.padding()
        first = np.where(np.logical_and.outer(fits[0], fits[1]), level, INFEASIBLE_LEVEL)
        table[: first.size] = first.ravel()
        if len(fits) > 2:
            both = np.logical_and.outer(fits[2], fits[3]) if len(fits) > 3 else fits[2]
            table[first.size : self.used] = np.where(both, 0, INFEASIBLE_LEVEL).ravel()
        table[FINER_SLOT] = finer
        return table

    def padding(self) -> Table:
        """The table of an empty place: infeasible whatever is asked, even nothing."""
        table = np.full(SLOTS, INFEASIBLE_LEVEL, np.uint8)
        table[FINER_SLOT] = 0
        return table

    def slots(self, demand: Figures) -> tuple[int, ...]:
        """The slots that a demand selects, in the order of a table; two resources have one, three and four have two.

        Raises LimitExceeded past the largest size (the figure itself stays out of the message).
        """
        at = [self._rounded_up(resource, getattr(demand, resource.name)) for resource in self.resources]
        counts = [len(resource.sizes) for resource in self.resources]
        first = at[0] * counts[1] + at[1]
        if len(at) == 2:
            return (first,)
        second = at[2] if len(at) == 3 else at[2] * counts[3] + at[3]
        return first, counts[0] * counts[1] + second

    def left_over_score(self, free: Figures, capacity: Figures) -> float:
        """0 (nearly full) to nearly 1 (empty, or larger than the reference)."""
        parts = []
        for name in self.left_over.resources:
            whole = self.left_over.reference[name] if self.left_over.reference else getattr(capacity, name)
            parts.append(min(1.0, max(0.0, getattr(free, name) / whole)) if whole > 0 else 0.0)
        mean = sum(parts) / len(parts)
        return min(nextafter(SCORE_MAX, 0), float(mean**self.left_over.exponent))

    def _rounded_up(self, resource: Resource, figure: int) -> int:
        if figure < 0 or figure > resource.maximum:
            raise LimitExceeded(
                f"one replica asks for more {resource.name} than this key epoch can encode: at most {resource.maximum}",
                hint="ask for less, or hold a key ceremony with larger sizes",
            )
        return bisect_left(resource.sizes, figure)

    def _fits(self, place: int, free: Figures, *, optimistic: bool) -> npt.NDArray[np.bool_]:
        """By size of one resource: whether every demand that is rounded up to it fits, or (``optimistic``) any."""
        sizes, figure = self._sizes[place], max(0, getattr(free, self.resources[place].name))
        return np.append(True, sizes[:-1] < figure) if optimistic else np.asarray(sizes <= figure)


def score_levels(score: float) -> tuple[int, int]:
    """Level and finer level of a score; the infeasible level from SCORE_MAX on, and for what is no number."""
    if not score < SCORE_MAX:
        return INFEASIBLE_LEVEL, 0
    return divmod(int(max(0.0, score) * LEFT_OVER_LEVELS * FINER_LEVELS), FINER_LEVELS)


def default_encoding(reference: dict[str, int] | None = None) -> Encoding:
    """Sizes for replicas of up to 32 cores, 256 GiB of memory, 4 TiB of disk and 8 GPUs, on machines of any size.

    What is free counts only up to the largest replica, so that a lower maximum makes steps finer and loses less.

    ``reference`` is the node by which all nodes measure how full they are: name the cluster's mean node, rather rounded up than
    down (docs/concepts/placement.md has what others lose). It is public, hence an operator's choice, never a measurement.
    """
    return Encoding(
        version=4,
        design="tables",
        message_bits=MESSAGE_BITS,
        resources=sized({"cpu_milli": 32_000, "memory_bytes": 256 * GIB, "disk_bytes": 4096 * GIB, "gpu_count": 8}),
        left_over=LeftOver(("cpu_milli", "memory_bytes"), 0.65, reference),
    )


def sized(maxima: dict[Name, int]) -> tuple[Resource, ...]:
    """Resources up to these maxima, in this order, with as many round sizes as there are slots for."""
    counts: dict[Name, int] = {"cpu_milli": 40, "memory_bytes": 44, "gpu_count": min(16, maxima.get("gpu_count", 0) + 1)}
    counts["disk_bytes"] = (FINER_SLOT - 40 * 44) // max(1, counts["gpu_count"])
    return tuple(Resource(name, round_sizes(name, maximum, counts[name])) for name, maximum in maxima.items())


def parse_encoding(text: bytes) -> Encoding:
    """Raises CiphertextInvalid for a description that is unknown, contradictory or not canonical."""
    try:
        encoding = msgspec.json.decode(text, type=Encoding)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CiphertextInvalid(
            f"the epoch's encoding is not understood: {error}", hint="update veil or check the epoch"
        ) from error
    if wrong := _contradiction(encoding, text):
        raise CiphertextInvalid(f"the epoch's encoding is not sound: {wrong}", hint="check the epoch's publisher")
    return encoding


def _contradiction(encoding: Encoding, text: bytes) -> str | None:
    """What is wrong with a description whose every field is of its type."""
    names = [str(resource.name) for resource in encoding.resources]
    left = encoding.left_over
    if len(set(names)) != len(names):
        return "a resource is there twice"
    for resource in encoding.resources:
        if resource.sizes[0] != 0 or not all(smaller < larger for smaller, larger in pairwise(resource.sizes)):
            return f"the sizes of {resource.name} do not ascend from 0"
    if encoding.used > FINER_SLOT:
        return f"its sizes need {encoding.used} slots, and there are {FINER_SLOT}"
    if not left.resources or not set(left.resources) <= set(names):
        return "left_over names a resource that has no sizes"
    if left.reference is not None and not all(left.reference.get(name, 0) > 0 for name in left.resources):
        return "the reference node lacks a resource of left_over"
    if encoding.to_json() != text:
        return "it is not in canonical form"
    return None

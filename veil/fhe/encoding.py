"""How figures become the digits of a vector: public, JSON, named by its digest in the key epoch.

Each resource has a fixed list of sizes. What is free is rounded down to a size and what is asked is rounded up, so that a
demand whose size fits is a demand that fits: a node never has to refuse because of rounding. A size's place in the list
(its level) is written as a high and a low digit for the first two resources, as one digit for those after them, which only
have to be enough. Sizes grow quadratically where small ones need fine steps; logarithmic spacing of cpu and memory was
measured to lose 8-10 % of a cluster. Eight sizes of a disk cannot be fine: they grow fourfold, so that a small one is there.

Beside sizes there is a catalogue of eight bundles of all resources, none smaller than the one before: what is free is the
number of bundles that fit, what is asked is the first that covers it. The profile ``fast`` compares nothing else.

Best-fit needs no demand: the node with the least left over before is the node with the least left over after. So each
candidate computes its own score at full precision, in clear, and only encrypts its level: one of 5, and with a finer digit
beside it one of 30. All arithmetic that two machines must agree on is in integers.
"""

import hashlib
from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import pairwise
from math import nextafter
from operator import ge
from typing import Annotated, Literal

import msgspec

from veil.errors import CiphertextInvalid, LimitExceeded
from veil.fhe.ports import Figures
from veil.types import Digest

LOW_RADIX = 8
"""Values of a low digit and of a single digit."""

FINE_RESOURCES = 2
"""The first so many resources have two digits, at most as many after them have one."""

CHAINED_RADIX = 5
"""Values of a high digit whose look-up also takes another resource's infeasibility; 8 where it does not."""

LEFT_OVER_LEVELS = 5
"""Levels 0..4 of what a feasible candidate has left; 5 stands for infeasible. Two more would cost a look-up a candidate."""

INFEASIBLE_LEVEL = 5

FINER_LEVELS = 6
"""Finer levels inside each level, which the profile ``precise`` looks at."""

BUNDLES = 8
"""Of the catalogue: as many as one look-up compares."""

SCORE_MAX = 1.0
"""A score is below it; at it or above, a candidate is infeasible whatever is asked."""

MESSAGE_BITS: Literal[4] = 4
"""Width of every number in a circuit: the widest that a cheap look-up takes."""

GIB = 1 << 30


class Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One resource's sizes: level k of L has ``maximum * (k / (L-1))`` to the power 1 (linear) or 2 (quadratic).

    With ``fourfold`` spacing level 0 is nothing and each further one is four times the one before, up to ``maximum``.
    """

    name: Literal["cpu_milli", "memory_bytes", "disk_bytes", "gpu_count"]
    spacing: Literal["linear", "quadratic", "fourfold"]
    maximum: Annotated[int, msgspec.Meta(ge=1, lt=1 << 60)]
    high_radix: Annotated[int, msgspec.Meta(ge=2, le=LOW_RADIX)]
    digits: Literal[1, 2]

    @property
    def levels(self) -> int:
        return self.high_radix * (LOW_RADIX if self.digits == 2 else 1)

    def sizes(self) -> list[int]:
        """All sizes, ascending from 0 to ``maximum``, in the unit of the name."""
        last = self.levels - 1
        if self.spacing == "linear":
            return [self.maximum * level // last for level in range(self.levels)]
        if self.spacing == "fourfold":
            return [0, *(self.maximum >> 2 * (last - level) for level in range(1, self.levels))]
        return [self.maximum * level * level // (last * last) for level in range(self.levels)]


class LeftOver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a candidate computes what it has left over: ``mean(free / reference) ** exponent``, below 1."""

    resources: tuple[str, ...]
    exponent: Annotated[float, msgspec.Meta(gt=0, le=1)]
    """0.6 to 0.7 lost least in simulation: fine steps where little is left."""
    reference: dict[str, int] | None = None
    """The mean node of the cluster, by resource; None compares each node with its own capacity."""


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The description of vectors, which have the digits of every profile.

    A demand is high (or single) digits, low digits, bundle; a telemetry vector the same digits of what is free with the level and
    the finer level before the number of bundles (:mod:`veil.fhe.circuits.layout`).

    ``version`` and ``design`` change with the layout, so that no evaluator reads digits of one layout as those of another.
    """

    version: Literal[3]
    design: Literal["digc5"]
    message_bits: Literal[4]
    resources: tuple[Resource, ...]
    left_over: LeftOver
    catalogue: tuple[tuple[int, ...], ...]
    """Bundles of all resources, in the order and unit of ``resources``; the last has the maximum of each."""

    @cached_property
    def _sizes(self) -> list[list[int]]:
        return [resource.sizes() for resource in self.resources]

    @property
    def telemetry_values(self) -> int:
        return self.demand_values + 2

    @property
    def demand_values(self) -> int:
        return len(self.resources) + FINE_RESOURCES + 1

    def to_json(self) -> bytes:
        """The canonical text whose digest is published."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def digest(self) -> Digest:
        return Digest(hashlib.sha256(self.to_json()).digest())

    def resized(self, resources: tuple[Resource, ...]) -> "Encoding":
        """The same for other maxima, or fewer resources: the catalogue's bundles grow and shrink with the maxima."""
        places = {resource.name: place for place, resource in enumerate(self.resources)}
        whole = self.catalogue[-1]
        catalogue = tuple(
            tuple(bundle[places[r.name]] * r.maximum // whole[places[r.name]] for r in resources) for bundle in self.catalogue
        )
        return msgspec.structs.replace(self, resources=resources, catalogue=catalogue)

    def telemetry_digits(self, free: Figures, score: float, *, optimistic: bool = False) -> list[int]:
        """What is free, rounded down (up if ``optimistic``, so that everything that fits seems to fit), and the score's levels.

        Beyond the largest size counts as the largest.
        """
        figures = [max(0, getattr(free, resource.name)) for resource in self.resources]
        levels = [bisect_right(sizes, figure) - 1 for sizes, figure in zip(self._sizes, figures, strict=True)]
        bundles = sum(all(map(ge, figures, bundle)) for bundle in self.catalogue)
        if optimistic:
            tops = [len(sizes) - 1 for sizes in self._sizes]
            levels = [min(top, bisect_left(s, figure)) for top, s, figure in zip(tops, self._sizes, figures, strict=True)]
            bundles = min(BUNDLES, bundles + 1)
        return [*self._digits(levels), *score_digits(score), bundles]

    def demand_digits(self, demand: Figures) -> list[int]:
        """What is asked, rounded up. Raises LimitExceeded past the largest size (the figure itself stays out of the message)."""
        asked = [getattr(demand, resource.name) for resource in self.resources]
        for resource, figure in zip(self.resources, asked, strict=True):
            if figure < 0 or figure > resource.maximum:
                raise LimitExceeded(
                    f"one replica asks for more {resource.name} than this key epoch can encode: at most {resource.maximum}",
                    hint="ask for less, or hold a key ceremony with larger sizes",
                )
        levels = [bisect_left(sizes, figure) for sizes, figure in zip(self._sizes, asked, strict=True)]
        bundle = next(place for place, bundle in enumerate(self.catalogue, 1) if all(map(ge, bundle, asked)))
        return [*self._digits(levels), bundle]

    def left_over_score(self, free: Figures, capacity: Figures) -> float:
        """0 (nearly full) to nearly 1 (empty, or larger than the reference)."""
        parts = []
        for name in self.left_over.resources:
            whole = self.left_over.reference[name] if self.left_over.reference else getattr(capacity, name)
            parts.append(min(1.0, max(0.0, getattr(free, name) / whole)) if whole > 0 else 0.0)
        mean = sum(parts) / len(parts)
        return min(nextafter(SCORE_MAX, 0), float(mean**self.left_over.exponent))

    def _digits(self, levels: list[int]) -> list[int]:
        fine, single = levels[:FINE_RESOURCES], levels[FINE_RESOURCES:]
        return [level // LOW_RADIX for level in fine] + single + [level % LOW_RADIX for level in fine]


def score_digits(score: float) -> tuple[int, int]:
    """Level and finer level of a score; the infeasible level from SCORE_MAX on, and for what is no number."""
    if not score < SCORE_MAX:
        return INFEASIBLE_LEVEL, 0
    return divmod(int(max(0.0, score) * LEFT_OVER_LEVELS * FINER_LEVELS), FINER_LEVELS)


def default_encoding(reference: dict[str, int] | None = None) -> Encoding:
    """Sizes for replicas of up to 32 cores and 256 GiB, on machines of any size: 21 millicores and 172 MiB at the small end.

    What is free counts only up to the largest replica, so that a lower maximum makes steps finer and loses less.

    Disks of 1 GiB to 4 TiB, each size four times the one before; 0 to 6 or 8 GPUs. No bundle but the last, which is as large as
    a replica may be, has GPUs: whoever places GPUs with the profile ``fast`` publishes a catalogue of its own.

    ``reference`` is the node by which all nodes measure how full they are: name the cluster's mean node, rather rounded up than
    down (docs/concepts/placement.md has what others lose). It is public, hence an operator's choice, never a measurement. Without
    one each node measures itself, and small empty nodes look like large ones: fine where nodes are alike, elsewhere it costs 2 to
    3 % of the cluster (``python -m bench.packing``).
    """
    return Encoding(
        version=3,
        design="digc5",
        message_bits=MESSAGE_BITS,
        resources=(
            Resource("cpu_milli", "quadratic", 32_000, CHAINED_RADIX, 2),
            Resource("memory_bytes", "quadratic", 256 * GIB, CHAINED_RADIX, 2),
            Resource("disk_bytes", "fourfold", 4096 * GIB, 8, 1),
            Resource("gpu_count", "linear", 8, 8, 1),
        ),
        left_over=LeftOver(("cpu_milli", "memory_bytes"), 0.65, reference),
        catalogue=(
            (500, 4 * GIB, 64 * GIB, 0),
            (2000, 8 * GIB, 128 * GIB, 0),
            (4000, 16 * GIB, 256 * GIB, 0),
            (8000, 24 * GIB, 512 * GIB, 0),
            (16_000, 32 * GIB, 512 * GIB, 0),
            (16_000, 64 * GIB, 512 * GIB, 0),
            (16_000, 128 * GIB, 1024 * GIB, 0),
            (32_000, 256 * GIB, 4096 * GIB, 8),
        ),
    )


def parse_encoding(text: bytes) -> Encoding:
    """Raises CiphertextInvalid for a description that is unknown, contradictory or not canonical."""
    try:
        encoding = msgspec.json.decode(text, type=Encoding)
    except msgspec.DecodeError as error:
        raise CiphertextInvalid(
            f"the epoch's encoding is not understood: {error}", hint="update veil or check the epoch"
        ) from error
    names = {resource.name for resource in encoding.resources}
    left = encoding.left_over
    sound = (
        encoding.to_json() == text
        and len(names) == len(encoding.resources)
        and len(left.resources) > 0
        and set(left.resources) <= names
        and (left.reference is None or all(left.reference.get(name, 0) > 0 for name in left.resources))
        and _takes(encoding.resources)
        and _covers(encoding.catalogue, encoding.resources)
    )
    if not sound:
        raise CiphertextInvalid("the epoch's encoding contradicts itself or is not canonical", hint="check the epoch's publisher")
    return encoding


def _takes(resources: tuple[Resource, ...]) -> bool:
    """Whether the circuit has the place for these digits, and every list of sizes ascends."""
    fine, single = resources[:FINE_RESOURCES], resources[FINE_RESOURCES:]
    first_radix = CHAINED_RADIX if len(single) == FINE_RESOURCES else LOW_RADIX
    return (
        len(fine) == FINE_RESOURCES >= len(single)
        and all(resource.digits == 2 for resource in fine)
        and all(resource.digits == 1 for resource in single)
        and fine[0].high_radix <= first_radix
        and fine[1].high_radix <= CHAINED_RADIX
        and all(smaller < larger for resource in resources for smaller, larger in pairwise(resource.sizes()))
    )


def _covers(catalogue: tuple[tuple[int, ...], ...], resources: tuple[Resource, ...]) -> bool:
    """Whether every bundle has all of the one before and more of something, and the last one all that can be asked."""
    return (
        len(catalogue) == BUNDLES
        and all(len(bundle) == len(resources) and min(bundle) >= 0 for bundle in catalogue)
        and all(smaller != larger and all(map(ge, larger, smaller)) for smaller, larger in pairwise(catalogue))
        and catalogue[-1] == tuple(resource.maximum for resource in resources)
    )

"""How figures become the digits of a vector: public, JSON, named by its digest in the key epoch.

Each resource has a fixed list of sizes. What is free is rounded down to a size and what is asked is rounded up, so that a
demand whose size fits is a demand that fits: a node never has to refuse because of rounding. A size's place in the list
(its level) is written as a high and a low digit. Sizes grow quadratically where small ones need fine steps; logarithmic
spacing was measured to lose 8-10 % of a cluster.

Best-fit needs no demand: the node with the least left over before is the node with the least left over after. So each
candidate computes its own left-over level at full precision, in clear, and only encrypts the result. All arithmetic that two
machines must agree on is in integers.
"""

import hashlib
from bisect import bisect_left, bisect_right
from functools import cached_property
from typing import Annotated, Literal

import msgspec

from veil.errors import CiphertextInvalid, LimitExceeded
from veil.fhe.ports import Figures
from veil.types import Digest

LOW_RADIX = 8
"""Values of a low digit; a high digit has 8 for the first resource and 5 for those chained after it."""

LEFT_OVER_LEVELS = 7
"""Levels 0..6 of what a feasible candidate has left; 7 stands for infeasible."""

INFEASIBLE_LEVEL = 7

MESSAGE_BITS: Literal[4] = 4
"""Width of every number in a circuit: the widest that a cheap look-up takes."""

GIB = 1 << 30


class Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One resource's sizes: level k of L has ``maximum * (k / (L-1))`` to the power 1 (linear) or 2 (quadratic)."""

    name: Literal["cpu_milli", "memory_bytes", "disk_bytes", "gpu_count"]
    spacing: Literal["linear", "quadratic"]
    maximum: Annotated[int, msgspec.Meta(ge=1, lt=1 << 60)]
    high_radix: Annotated[int, msgspec.Meta(ge=2, le=LOW_RADIX)]

    @property
    def levels(self) -> int:
        return self.high_radix * LOW_RADIX

    def sizes(self) -> list[int]:
        """All sizes, ascending from 0 to ``maximum``, in the unit of the name."""
        last = self.levels - 1
        if self.spacing == "linear":
            return [self.maximum * level // last for level in range(self.levels)]
        return [self.maximum * level * level // (last * last) for level in range(self.levels)]


class LeftOver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a candidate's own left-over level is computed: ``levels * mean(free / reference) ** exponent``."""

    resources: tuple[str, ...]
    exponent: Annotated[float, msgspec.Meta(gt=0, le=1)]
    """0.6 to 0.7 lost least in simulation: fine steps where little is left."""
    reference: dict[str, int] | None = None
    """The mean node of the cluster, by resource; None compares each node with its own capacity."""


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The description of vectors. A telemetry vector is high digits, low digits, left-over level; a demand has no level."""

    version: Literal[1]
    design: Literal["digc7"]
    message_bits: Literal[4]
    resources: tuple[Resource, ...]
    left_over: LeftOver

    @cached_property
    def _sizes(self) -> list[list[int]]:
        return [resource.sizes() for resource in self.resources]

    @property
    def telemetry_values(self) -> int:
        return 2 * len(self.resources) + 1

    @property
    def demand_values(self) -> int:
        return 2 * len(self.resources)

    def to_json(self) -> bytes:
        """The canonical text whose digest is published."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def digest(self) -> Digest:
        return Digest(hashlib.sha256(self.to_json()).digest())

    def telemetry_digits(self, free: Figures, capacity: Figures) -> list[int]:
        """What is free, rounded down; beyond the largest size counts as the largest."""
        levels = [
            bisect_right(sizes, max(0, getattr(free, resource.name))) - 1
            for resource, sizes in zip(self.resources, self._sizes, strict=True)
        ]
        return [*_digits(levels), self.left_over_level(free, capacity)]

    def demand_digits(self, demand: Figures) -> list[int]:
        """What is asked, rounded up. Raises LimitExceeded past the largest size (the figure itself stays out of the message)."""
        levels = []
        for resource, sizes in zip(self.resources, self._sizes, strict=True):
            asked = getattr(demand, resource.name)
            if asked < 0 or asked > resource.maximum:
                raise LimitExceeded(
                    f"one replica asks for more {resource.name} than this key epoch can encode: at most {resource.maximum}",
                    hint="ask for less, or hold a key ceremony with larger sizes",
                )
            levels.append(bisect_left(sizes, asked))
        return _digits(levels)

    def left_over_level(self, free: Figures, capacity: Figures) -> int:
        """0 (nearly full) to 6 (nearly empty, or larger than the reference)."""
        parts = []
        for name in self.left_over.resources:
            whole = self.left_over.reference[name] if self.left_over.reference else getattr(capacity, name)
            parts.append(min(1.0, max(0.0, getattr(free, name) / whole)) if whole > 0 else 0.0)
        mean = sum(parts) / len(parts)
        return min(LEFT_OVER_LEVELS - 1, int(LEFT_OVER_LEVELS * mean**self.left_over.exponent))


def _digits(levels: list[int]) -> list[int]:
    return [level // LOW_RADIX for level in levels] + [level % LOW_RADIX for level in levels]


def default_encoding(reference: dict[str, int] | None = None) -> Encoding:
    """Sizes for machines from a laptop to 64 cores: steps of 16 millicores, 172 MiB and 2.7 GiB at the small end."""
    return Encoding(
        version=1,
        design="digc7",
        message_bits=MESSAGE_BITS,
        resources=(
            Resource("cpu_milli", "quadratic", 64_000, 8),
            Resource("memory_bytes", "quadratic", 256 * GIB, 5),
            Resource("disk_bytes", "quadratic", 4096 * GIB, 5),
            Resource("gpu_count", "linear", 39, 5),
        ),
        left_over=LeftOver(("cpu_milli", "memory_bytes"), 0.65, reference),
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
    chained = [resource.high_radix for resource in encoding.resources[1:]]
    sound = (
        encoding.to_json() == text
        and len(names) == len(encoding.resources) > 0
        and len(left.resources) > 0
        and set(left.resources) <= names
        and (left.reference is None or all(left.reference.get(name, 0) > 0 for name in left.resources))
        and all(radix <= 5 for radix in chained)
    )
    if not sound:
        raise CiphertextInvalid("the epoch's encoding contradicts itself or is not canonical", hint="check the epoch's publisher")
    return encoding

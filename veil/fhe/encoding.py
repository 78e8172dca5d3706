"""How figures become a table and slots of it: public, JSON, named by its digest in the key epoch.

A candidate's table says for every demand how much it wants the replica and what it is short of. A demand selects slots of it, and
what these hold is summed:

    level  +  5 if short of cpu  +  5 if short of memory  +  5 if short of disk or of GPUs

Below INFEASIBLE_LEVEL the sum is a level, the least of which wins. Cpu and memory have long lists of sizes, one slot a size:
whether there is enough of one does not depend on the other. A level depends on both and takes coarser steps: it has a slot for
each pair of *cells*, which are a few of those sizes. Disk and GPUs have a slot for each pair of sizes. A cell that
fits in neither cpu nor memory has level 0, and only there both can be short: so the sum stays below VALUES.

A size stands for all demands that are rounded up to it. Ordinarily a candidate says that it has enough if it has for the largest
of them, so that it never has to refuse because of rounding; optimistically if it has for the least of them, so that nothing that
fits is missed.

Which slots a demand selects is in integers: two machines must agree on it. A level is the candidate's own word, which nobody
computes again.
"""

import hashlib
from bisect import bisect_left
from functools import cached_property
from itertools import accumulate, pairwise
from math import nextafter, prod
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

FINER_SHIFT = SLOTS // 2
"""Demands select slots below it. So far after a level is its finer level, for the profile ``precise``; after other slots, 0."""

VALUES = 16
"""Of a slot, and of the sum of those that a demand selects."""

LEFT_OVER_LEVELS = 5
"""Levels 0..4 of a candidate with room, the least of which wins."""

INFEASIBLE_LEVEL = 5
"""From here on a candidate has no room; three times this are below VALUES."""

FINER_LEVELS = 6
"""Finer levels inside each level, which the profile ``precise`` looks at."""

SELECTED_MAX = 4
"""Slots that a demand selects: of level, cpu, memory, disk with GPUs."""

SCORE_MAX = 1.0
"""A score is below it; at it or above, a candidate is infeasible whatever is asked."""

MESSAGE_BITS: Literal[4] = 4
"""Width of every number in a circuit: the widest that a cheap look-up takes."""

REFERENCE_PART, DEMAND_TIMES = 0.5, 4.0
"""How much left over is as good as any more, see :meth:`Encoding.table`; half or double of either packs about as well."""

MEMORY_A_CORE = 4 * GIB
"""Of an ordinary machine: it says how much of one is worth how much of the other."""

CELLED = 2
"""The first so many resources have cells."""

Name = Literal["cpu_milli", "memory_bytes", "disk_bytes", "gpu_count"]
Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
Sizes = Annotated[tuple[Size, ...], msgspec.Meta(min_length=2, max_length=FINER_SHIFT)]


class Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One resource's sizes, ascending from 0, in the unit of the name. Cells are some of them, from the first to the last."""

    name: Name
    sizes: Sizes
    cells: Sizes | None = None

    @property
    def maximum(self) -> int:
        return self.sizes[-1]


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The description of tables and slots: first the levels, then cpu, memory, disk with GPUs.

    ``version`` and ``design`` change with the layout and with what a level means, so that no two machines take one for another.
    """

    version: Literal[4]
    design: Literal["tables"]
    message_bits: Literal[4]
    resources: Annotated[tuple[Resource, ...], msgspec.Meta(min_length=2, max_length=4)]
    """Two with cells, what is left over of which makes the level; then up to two of which there only has to be enough."""
    reference: dict[Name, Size]
    """Of the first two: the unit in which every node measures what it has left over. Public."""

    @cached_property
    def _sizes(self) -> list[npt.NDArray[np.int64]]:
        return [np.array(resource.sizes, np.int64) for resource in self.resources]

    @cached_property
    def _cells(self) -> list[npt.NDArray[np.int64]]:
        return [np.array(resource.cells, np.int64) for resource in self.resources[:CELLED]]

    @cached_property
    def _starts(self) -> list[int]:
        """Where each part of the slots begins; last, where they end."""
        counts = [len(resource.sizes) for resource in self.resources]
        others = [prod(counts[CELLED:])] if counts[CELLED:] else []
        cells = prod(len(resource.cells or ()) for resource in self.resources[:CELLED])
        return list(accumulate([cells, *counts[:CELLED], *others], initial=0))

    @property
    def used(self) -> int:
        """Slots that a demand can select: the first so many."""
        return self._starts[-1]

    def to_json(self) -> bytes:
        """The canonical text whose digest is published."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def digest(self) -> Digest:
        return Digest(hashlib.sha256(self.to_json()).digest())

    def resized(self, resources: tuple[Resource, ...], reference: dict[Name, int] | None = None) -> "Encoding":
        """The same for other sizes, or fewer resources. The reference: by default the largest cpu, MEMORY_A_CORE."""
        units = {resource.name: resource.maximum for resource in resources[:CELLED]}
        if "memory_bytes" in units and "cpu_milli" in units:
            units["memory_bytes"] = max(1, units["cpu_milli"] * MEMORY_A_CORE // 1000)
        return msgspec.structs.replace(self, resources=resources, reference=reference or units)

    def table(self, free: Figures, score: float | None, *, optimistic: bool = False) -> Table:
        """What this candidate answers to every demand: (SLOTS,), each 0 to INFEASIBLE_LEVEL.

        ``score`` is how little it wants the replica, whatever is asked; from SCORE_MAX on it has no room. None is best-fit: the
        level comes from what would be left over, as a part of REFERENCE_PART of the reference and DEMAND_TIMES what is asked. The
        root of that part is divided evenly: fine steps where little is left, whether much is asked or little.
        """
        table = np.zeros(SLOTS, np.uint8)
        levels = self._starts[1]
        if score is not None and not score < SCORE_MAX:
            table[:levels] = INFEASIBLE_LEVEL
            return table
        cells_fit = [cells <= self._figure(place, free) for place, cells in enumerate(self._cells)]
        finest = self._best_fit(free) if score is None else finest_level(score)
        finest = np.where(np.logical_or.outer(*cells_fit), finest, 0).ravel()
        table[:levels] = finest // FINER_LEVELS
        table[FINER_SHIFT : FINER_SHIFT + levels] = finest % FINER_LEVELS
        fits = [self._fits(place, free, optimistic=optimistic) for place in range(len(self.resources))]
        if len(fits) > CELLED:
            fits[CELLED:] = [np.logical_and.outer(*fits[CELLED:]).ravel() if len(fits) > CELLED + 1 else fits[CELLED]]
        table[levels : self.used] = np.where(np.concatenate(fits), 0, INFEASIBLE_LEVEL)
        return table

    def padding(self) -> Table:
        """The table of an empty place: infeasible whatever is asked, even nothing."""
        return self.table(Figures(cpu_milli=0, memory_bytes=0, disk_bytes=0, gpu_count=0), SCORE_MAX)

    def slots(self, demand: Figures) -> tuple[int, ...]:
        """The slots that a demand selects: of level, cpu, memory and, where there are further resources, those.

        Raises LimitExceeded past the largest size (the figure itself stays out of the message).
        """
        at = [self._rounded_up(resource, getattr(demand, resource.name)) for resource in self.resources]
        cells = [bisect_left(resource.cells or (), getattr(demand, resource.name)) for resource in self.resources[:CELLED]]
        places = [cells[0] * len(self.resources[1].cells or ()) + cells[1], *at[:CELLED]]
        if at[CELLED:]:
            places.append(at[CELLED] * len(self.resources[-1].sizes) + at[-1] if len(at) > CELLED + 1 else at[CELLED])
        return tuple(start + place for start, place in zip(self._starts, places, strict=False))

    def left_over_score(self, free: Figures, capacity: Figures) -> float:
        """0 (full) to nearly 1 (empty): the mean of cpu and memory as parts of the node's own."""
        wholes = {resource.name: getattr(capacity, resource.name) for resource in self.resources[:CELLED]}
        parts = [min(1.0, self._figure(place, free) / whole) if whole > 0 else 0.0 for place, whole in enumerate(wholes.values())]
        return min(nextafter(SCORE_MAX, 0), float(np.mean(parts)))

    def _figure(self, place: int, free: Figures) -> int:
        figure: int = getattr(free, self.resources[place].name)
        return max(0, figure)

    def _fits(self, place: int, free: Figures, *, optimistic: bool) -> npt.NDArray[np.bool_]:
        """By size of one resource: whether every demand that is rounded up to it fits, or (``optimistic``) any."""
        sizes, figure = self._sizes[place], self._figure(place, free)
        return np.append(True, sizes[:-1] < figure) if optimistic else np.asarray(sizes <= figure)

    def _best_fit(self, free: Figures) -> npt.NDArray[np.int64]:
        """By pair of cells: the finest level of what would be left over after the largest demand in it."""
        units = [self.reference[resource.name] for resource in self.resources[:CELLED]]
        asked = np.add.outer(*(cells / unit for cells, unit in zip(self._cells, units, strict=True))) / CELLED
        had = sum(self._figure(place, free) / unit for place, unit in enumerate(units)) / CELLED
        part = np.maximum(had - asked, 0) / (REFERENCE_PART + DEMAND_TIMES * asked)
        finest: npt.NDArray[np.int64] = np.minimum(np.sqrt(part) * FINEST_LEVELS, FINEST_LEVELS - 1).astype(np.int64)
        return finest

    def _rounded_up(self, resource: Resource, figure: int) -> int:
        if figure < 0 or figure > resource.maximum:
            raise LimitExceeded(
                f"one replica asks for more {resource.name} than this key epoch can encode: at most {resource.maximum}",
                hint="ask for less, or hold a key ceremony with larger sizes",
            )
        return bisect_left(resource.sizes, figure)


FINEST_LEVELS = LEFT_OVER_LEVELS * FINER_LEVELS
"""Level and finer level as one number."""


def finest_level(score: float) -> int:
    """0 to FINEST_LEVELS - 1, of a score below SCORE_MAX."""
    return int(max(0.0, score) * FINEST_LEVELS)


CELLS = 14
"""Of cpu and of memory: 10 pack worse, 18 not better."""

DISK_GPU_SLOTS = 288
"""At most so many slots for pairs of disk and GPU sizes, and GPU_SIZES_MAX of GPUs: the others are for cpu and memory."""

GPU_SIZES_MAX = 16


def sized(maxima: dict[Name, int]) -> tuple[Resource, ...]:
    """Resources up to these maxima, in this order, cpu and memory first: round sizes, as many as there are slots for."""
    gpus = min(GPU_SIZES_MAX, maxima.get("gpu_count", 0) + 1)
    others = DISK_GPU_SLOTS if len(maxima) > CELLED else 0
    counts = {"disk_bytes": DISK_GPU_SLOTS // gpus, "gpu_count": gpus}
    fine = (FINER_SHIFT - CELLS**2 - others) // CELLED
    return tuple(
        Resource(
            name,
            round_sizes(name, maximum, counts.get(name, fine)),
            None if name in counts else round_sizes(name, maximum, CELLS),
        )
        for name, maximum in maxima.items()
    )


def default_encoding(reference: dict[Name, int] | None = None) -> Encoding:
    """Sizes for replicas of up to 32 cores, 256 GiB of memory, 4 TiB of disk and 8 GPUs, on machines of any size.

    ``reference`` is about the mean node of the cluster, by default 32 cores and 128 GiB; eight times as much or as little
    costs up to 2 % (docs/concepts/placement.md). It is public, hence an operator's choice, never a measurement.
    """
    resources = sized({"cpu_milli": 32_000, "memory_bytes": 256 * GIB, "disk_bytes": 4096 * GIB, "gpu_count": 8})
    return Encoding(4, "tables", MESSAGE_BITS, resources, {}).resized(resources, reference)


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
    celled = {resource.name for resource in encoding.resources[:CELLED]}
    if len({resource.name for resource in encoding.resources}) != len(encoding.resources):
        return "a resource is there twice"
    for place, resource in enumerate(encoding.resources):
        for sizes in (resource.sizes, resource.cells or resource.sizes):
            if sizes[0] != 0 or not all(smaller < larger for smaller, larger in pairwise(sizes)):
                return f"the sizes of {resource.name} do not ascend from 0"
        if (resource.cells is not None) != (place < CELLED):
            return f"the first {CELLED} resources have cells and no others have, unlike {resource.name}"
        if resource.cells and not (set(resource.cells) <= set(resource.sizes) and resource.cells[-1] == resource.maximum):
            return f"the cells of {resource.name} are not sizes up to the largest"
    if encoding.used > FINER_SHIFT:
        return f"it needs {encoding.used} slots, and there are {FINER_SHIFT}"
    if set(encoding.reference) != celled or not all(encoding.reference.values()):
        return "the reference is not of the resources that have cells"
    return None if encoding.to_json() == text else "it is not in canonical form"

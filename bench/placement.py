"""What one placement decision costs: ``python -m bench.placement --nodes N --resources R --profile default [--json]``.

Everything is the product's own: a key ceremony, public-key encryption, evaluators in child processes, a quorum that decrypts.
The time of a single bootstrap (PBS) is the slope of one-thread wall time over the number of bootstraps, between two circuits
under the same keys in the same run, so that what an evaluation costs besides bootstraps counts against the efficiency.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bench.packing import PROFILES, loss_of
from bench.rounds import measure as measure_rounds
from veil.errors import ConfigInvalid
from veil.fhe.ceremony import CeremonyResult, hold_ceremony
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec, lookups
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.encoding import Encoding, default_encoding
from veil.fhe.encryptor import PublicKeyEncryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.material import Profile
from veil.fhe.ports import Figures
from veil.types import Epoch

MEMBERS, THRESHOLD = 5, 3
SEED = 2026
GIB = 1 << 30
NODE = Figures(cpu_milli=16_000, memory_bytes=64 * GIB, disk_bytes=1024 * GIB, gpu_count=4)
NODES_MIN, NODES_MAX = 2, 64
SIZES = (4, 8, 16, 32, 64)
"""Of circuits, as epochs have them: a round takes the smallest with a place for every node, and pads."""
RESOURCES = (2, 3, 4)
ROUNDS = 5
"""Whole rounds that are measured (:mod:`bench.rounds`)."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Units last in the names; None is what this bench does not measure."""

    nodes: int
    resources: int
    profile: str
    wall_s: float
    pbs: int
    pbs_efficiency: float
    packing_loss: float | None
    wrong: int
    keys_mb: float
    rss_mb: float
    telemetry_bytes: int
    encrypt_ms: float
    decrypt_ms: float
    """Partials of a quorum of t, one member after the other, and their sum."""
    checked_ms: float
    """The same for t + 1 members, each with a partial for every subset of t."""
    round_s: float | None
    """A whole round on three nodes, evaluated by all three on these cores; None when it was not asked for."""
    rounds: int
    pbs_ms: float
    cores: int
    load_average: float


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a series of evaluations of one circuit took, each figure a median, and how many were not as in clear."""

    wall_s: float
    encrypt_ms: float
    decrypt_ms: float
    checked_ms: float
    wrong: int
    telemetry_bytes: int


class Bench:
    """A fresh key epoch with the circuits ``specs``."""

    def __init__(self, ceremony: CeremonyResult, encoding: Encoding, specs: Sequence[CircuitSpec]) -> None:
        self.specs = tuple(specs)
        self._encoding = encoding
        self._random = random.Random(SEED)
        self.material = ceremony.material
        self._encryptor = PublicKeyEncryptor(self.material.public_key, self.material.encoding)
        self._decryptors = [ThresholdDecryptor(share) for share in ceremony.shares]
        self._combiner = ThresholdCombiner(self.material.public_key, self.material.threshold)

    async def decide(self, evaluator: ChildEvaluator, spec: CircuitSpec, nodes: int, rounds: int) -> Decisions:
        """``rounds`` decisions on random figures, after one that is not counted."""
        wall_s, encrypt_ms, decrypt_ms, checked_ms, sizes, wrong = [], [], [], [], set(), 0
        for count in range(rounds + 1):
            free = [self._figures(1.0) for _ in range(nodes)]
            scores = [self._encryptor.left_over(figures, NODE) for figures in free]
            demand = self._figures(0.5)
            begin_s = time.perf_counter()
            telemetry = [self._encryptor.telemetry(figures, score) for figures, score in zip(free, scores, strict=True)]
            encrypted_s = time.perf_counter()
            done = await evaluator.evaluate(spec.name, self._encryptor.demand(demand), telemetry)
            bits, opened_ms = self._open(done.result, self.material.threshold)
            again, checking_ms = self._open(done.result, self.material.threshold + 1)
            if count:
                wall_s.append(done.wall_s)
                encrypt_ms.append((encrypted_s - begin_s) / nodes * 1e3)
                decrypt_ms.append(opened_ms)
                checked_ms.append(checking_ms)
            sizes |= {len(vector) for vector in telemetry}
            tables = [self._encoding.table(figures, score) for figures, score in zip(free, scores, strict=True)]
            wrong += not bits == again == clear.reference(spec, tables, self._encoding.slots(demand))
        middle = statistics.median
        (size,) = sizes
        return Decisions(middle(wall_s), middle(encrypt_ms), middle(decrypt_ms), middle(checked_ms), wrong, size)

    def _open(self, result: bytes, count: int) -> tuple[list[int], float]:
        """The bits by the first ``count`` members' partials, one member after the other, and milliseconds."""
        begin_s = time.perf_counter()
        quorum = tuple(range(1, count + 1))
        partials = {member: self._decryptors[member - 1].partial(result, quorum) for member in quorum}
        bits = self._combiner.open(result, quorum, partials).bits
        return bits, (time.perf_counter() - begin_s) * 1e3

    def _figures(self, part: float) -> Figures:
        drawn = {name: int(getattr(NODE, name) * part * self._random.random()) for name in Figures.__slots__}
        return Figures(**drawn)


async def measure(nodes: int, resources: int, profile: Profile, rounds: int, *, whole: bool = True) -> Figure:
    """Raises ConfigInvalid for sizes that are not built."""
    if profile not in PROFILES or resources not in RESOURCES or not NODES_MIN <= nodes <= NODES_MAX:
        raise ConfigInvalid(
            f"profile {profile!r} with {nodes} nodes and {resources} resources",
            hint=f"one of {', '.join(PROFILES)}; {NODES_MIN} to {NODES_MAX} nodes; one of {list(RESOURCES)} resources",
        )
    encoding = default_encoding()
    encoding = encoding.resized(encoding.resources[:resources])
    size = next(size for size in SIZES if size >= nodes)
    other = size // 2 if size > SIZES[0] else size * 2
    spec, beside = (CircuitSpec(profile, "choose", places) for places in (size, other))
    ceremony = await hold_ceremony(
        Epoch(1), members=MEMBERS, threshold=THRESHOLD, circuits=(spec, beside), parameters="plain", encoding=encoding
    )
    bench = Bench(ceremony, encoding, (spec, beside))
    load_average = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    evaluator = ChildEvaluator(bench.material)
    await evaluator.start()
    try:
        done = await bench.decide(evaluator, spec, nodes, rounds)
        rss_bytes = evaluator.child_rss_bytes
    finally:
        await evaluator.close()
    single_s, wrong = await _single_pbs_s(bench, rounds)
    pbs = lookups(spec)
    return Figure(
        nodes=nodes,
        resources=resources,
        profile=profile,
        wall_s=round(done.wall_s, 3),
        pbs=pbs,
        pbs_efficiency=round(pbs * single_s / (cores * done.wall_s), 3),
        packing_loss=round(loss_of(profile), 2),
        wrong=done.wrong + wrong,
        keys_mb=round(len(bench.material.evaluation_keys) / 1e6, 1),
        rss_mb=round(rss_bytes / 1e6),
        telemetry_bytes=done.telemetry_bytes,
        encrypt_ms=round(done.encrypt_ms, 2),
        decrypt_ms=round(done.decrypt_ms, 1),
        checked_ms=round(done.checked_ms, 1),
        round_s=(await measure_rounds(rounds=ROUNDS)).round_s if whole else None,
        rounds=rounds,
        pbs_ms=round(single_s * 1e3, 2),
        cores=cores,
        load_average=round(load_average, 2),
    )


async def _single_pbs_s(bench: Bench, rounds: int) -> tuple[float, int]:
    """Seconds of one bootstrap on one thread, and wrong decisions on the way."""
    evaluator = ChildEvaluator(bench.material, threads=1)
    await evaluator.start()
    try:
        taken = [await bench.decide(evaluator, spec, spec.candidates, rounds) for spec in bench.specs]
    finally:
        await evaluator.close()
    counts = [lookups(spec) for spec in bench.specs]
    slope_s = (taken[0].wall_s - taken[1].wall_s) / (counts[0] - counts[1])
    return slope_s, sum(one.wrong for one in taken)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.placement", description="What one placement decision costs.")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--resources", type=int, default=4)
    parser.add_argument("--profile", choices=PROFILES, default="default")
    parser.add_argument("--rounds", type=int, default=5, help="decisions that are measured; times are medians")
    parser.add_argument("--no-round", action="store_true", help="leave round_s out: no cluster is brought up")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    try:
        asked = measure(arguments.nodes, arguments.resources, arguments.profile, arguments.rounds, whole=not arguments.no_round)
        figure = asyncio.run(asked)
    except ConfigInvalid as error:
        parser.error(f"{error.message}; {error.hint}")
    values = msgspec.to_builtins(figure)
    if arguments.json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        print(f"{name:16} {'-' if value is None else value}")


if __name__ == "__main__":
    main()

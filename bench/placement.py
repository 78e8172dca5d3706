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

from veil.errors import ConfigInvalid
from veil.fhe.ceremony import CeremonyResult, hold_ceremony
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CANDIDATES_MAX, CircuitSpec, lookups
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.encoding import Encoding, default_encoding
from veil.fhe.encryptor import PublicKeyEncryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.ports import Figures
from veil.types import Epoch

PROFILES = ("default",)
MEMBERS, THRESHOLD = 5, 3
SEED = 2026
GIB = 1 << 30
NODE = Figures(cpu_milli=16_000, memory_bytes=64 * GIB, disk_bytes=1024 * GIB, gpu_count=4)
NODES_MIN = 4
RESOURCES = (2, 3, 4)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Units last in the names; None is what is not measured yet."""

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
    round_s: float | None
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
    wrong: int
    telemetry_bytes: int


class Bench:
    """A fresh key epoch with a circuit of ``nodes`` candidates and one of half as many."""

    def __init__(self, ceremony: CeremonyResult, encoding: Encoding) -> None:
        self._encoding = encoding
        self._random = random.Random(SEED)
        self.material = ceremony.material
        self._encryptor = PublicKeyEncryptor(self.material.public_key, self.material.encoding)
        self._members = list(range(1, self.material.threshold + 1))
        self._decryptors = [ThresholdDecryptor(ceremony.shares[member - 1]) for member in self._members]
        self._combiner = ThresholdCombiner(self.material.public_key, self.material.threshold)

    async def decide(self, evaluator: ChildEvaluator, nodes: int, rounds: int) -> Decisions:
        """``rounds`` decisions on random figures, after one that is not counted."""
        wall_s, encrypt_ms, decrypt_ms, sizes, wrong = [], [], [], set(), 0
        for count in range(rounds + 1):
            free = [self._figures(1.0) for _ in range(nodes)]
            demand = self._figures(0.5)
            begin_s = time.perf_counter()
            telemetry = [self._encryptor.telemetry(figures, self._encryptor.left_over(figures, NODE)) for figures in free]
            encrypted_s = time.perf_counter()
            spec = CircuitSpec("default", "choose", nodes)
            done = await evaluator.evaluate(spec.name, self._encryptor.demand(demand), telemetry)
            evaluated_s = time.perf_counter()
            bits = self._open(done.result)
            if count:
                wall_s.append(done.wall_s)
                encrypt_ms.append((encrypted_s - begin_s) / nodes * 1e3)
                decrypt_ms.append((time.perf_counter() - evaluated_s) * 1e3)
            sizes |= {len(vector) for vector in telemetry}
            digits = [self._encoding.telemetry_digits(figures, self._encoding.left_over_score(figures, NODE)) for figures in free]
            wrong += bits != clear.reference(spec, digits, self._encoding.demand_digits(demand))
        middle = statistics.median
        (size,) = sizes
        return Decisions(middle(wall_s), middle(encrypt_ms), middle(decrypt_ms), wrong, size)

    def _open(self, result: bytes) -> list[int]:
        """The quorum's partials, one member after the other, and their sum."""
        partials = {decryptor.member: decryptor.partial(result, self._members) for decryptor in self._decryptors}
        return self._combiner.open(result, self._members, partials).bits

    def _figures(self, part: float) -> Figures:
        drawn = {name: int(getattr(NODE, name) * part * self._random.random()) for name in Figures.__slots__}
        return Figures(**drawn)


async def measure(nodes: int, resources: int, profile: str, rounds: int) -> Figure:
    """Raises ConfigInvalid for sizes that are not built."""
    if profile not in PROFILES or resources not in RESOURCES or not NODES_MIN <= nodes <= CANDIDATES_MAX:
        raise ConfigInvalid(
            f"profile {profile!r} with {nodes} nodes and {resources} resources",
            hint=f"one of {', '.join(PROFILES)}; {NODES_MIN} to {CANDIDATES_MAX} nodes; one of {list(RESOURCES)} resources",
        )
    encoding = default_encoding()
    encoding = encoding.resized(encoding.resources[:resources])
    half = nodes // 2
    ceremony = await hold_ceremony(
        Epoch(1),
        members=MEMBERS,
        threshold=THRESHOLD,
        circuits=tuple(CircuitSpec("default", "choose", size) for size in (nodes, half)),
        parameters="plain",
        encoding=encoding,
    )
    bench = Bench(ceremony, encoding)
    load_average = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    evaluator = ChildEvaluator(bench.material)
    await evaluator.start()
    try:
        done = await bench.decide(evaluator, nodes, rounds)
        rss_bytes = evaluator.child_rss_bytes
    finally:
        await evaluator.close()
    single_s, wrong = await _single_pbs_s(bench, (half, nodes), resources, rounds)
    pbs = lookups(CircuitSpec("default", "choose", nodes), resources)
    return Figure(
        nodes=nodes,
        resources=resources,
        profile=profile,
        wall_s=round(done.wall_s, 3),
        pbs=pbs,
        pbs_efficiency=round(pbs * single_s / (cores * done.wall_s), 3),
        packing_loss=None,
        wrong=done.wrong + wrong,
        keys_mb=round(len(bench.material.evaluation_keys) / 1e6, 1),
        rss_mb=round(rss_bytes / 1e6),
        telemetry_bytes=done.telemetry_bytes,
        encrypt_ms=round(done.encrypt_ms, 2),
        decrypt_ms=round(done.decrypt_ms, 1),
        round_s=None,
        rounds=rounds,
        pbs_ms=round(single_s * 1e3, 2),
        cores=cores,
        load_average=round(load_average, 2),
    )


async def _single_pbs_s(bench: Bench, sizes: Sequence[int], resources: int, rounds: int) -> tuple[float, int]:
    """Seconds of one bootstrap on one thread, and wrong decisions on the way."""
    evaluator = ChildEvaluator(bench.material, threads=1)
    await evaluator.start()
    try:
        small, large = [await bench.decide(evaluator, size, rounds) for size in sizes]
    finally:
        await evaluator.close()
    less, more = (lookups(CircuitSpec("default", "choose", size), resources) for size in sizes)
    return (large.wall_s - small.wall_s) / (more - less), small.wrong + large.wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.placement", description="What one placement decision costs.")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--resources", type=int, default=4)
    parser.add_argument("--profile", choices=PROFILES, default="default")
    parser.add_argument("--rounds", type=int, default=5, help="decisions that are measured; times are medians")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    try:
        figure = asyncio.run(measure(arguments.nodes, arguments.resources, arguments.profile, arguments.rounds))
    except ConfigInvalid as error:
        parser.error(f"{error.message}; {error.hint}")
    values = msgspec.to_builtins(figure)
    if arguments.json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        print(f"{name:16} {'not measured yet' if value is None else value}")


if __name__ == "__main__":
    main()

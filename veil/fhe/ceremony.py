"""The dealer's key ceremony: from a plan to an epoch's public material and one secret share for each member.

A child process compiles and deals; the secret key dies with it. The dealer is trusted for that moment: whoever reads this
process's memory then has all shares. Afterwards a few evaluators are started to find the determinism class that is most
common on this machine, and the known answer is decrypted with the fresh shares: an epoch that does not work is not published.
"""

import asyncio
import dataclasses
import logging
import sys
from collections import Counter
from dataclasses import dataclass

import msgspec

from veil.errors import DeadlineExceeded, FheUnavailable
from veil.fhe import evaluator, frames
from veil.fhe.ceremony_plan import CeremonyPlan, known_question, make_plan
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.encoding import Encoding, default_encoding, parse_encoding
from veil.fhe.evalchild import EvalChild
from veil.fhe.material import EpochMaterial
from veil.types import Digest, Epoch, Secret

log = logging.getLogger(__name__)

CHILD_DEADLINE_S = 300.0

DEFAULT_CIRCUITS = (CircuitSpec("default", "choose", 4),)

CLASS_PROBES = 5
"""Evaluators started, at most, to find the common class."""

CLASS_MAJORITY = 2
"""No more are started once this many agree."""


@dataclass(frozen=True, slots=True)
class CeremonyResult:
    """``shares[i]`` is for member i+1 alone; seal it, hand it over, forget it."""

    material: EpochMaterial
    shares: tuple[Secret, ...]


def run_ceremony(
    epoch: Epoch,
    *,
    members: int,
    threshold: int,
    circuits: tuple[CircuitSpec, ...] = DEFAULT_CIRCUITS,
    parameters: str = "plain",
    encoding: Encoding | None = None,
) -> CeremonyResult:
    """As :func:`hold_ceremony`, for callers without an event loop."""
    return asyncio.run(
        hold_ceremony(epoch, members=members, threshold=threshold, circuits=circuits, parameters=parameters, encoding=encoding)
    )


async def hold_ceremony(
    epoch: Epoch,
    *,
    members: int,
    threshold: int,
    circuits: tuple[CircuitSpec, ...] = DEFAULT_CIRCUITS,
    parameters: str = "plain",
    encoding: Encoding | None = None,
) -> CeremonyResult:
    """A new epoch: ``threshold`` of ``members`` decrypt; ``circuits`` share one key set. About 10 s.

    Raises ConfigInvalid unless 1 <= threshold <= members < 2 * threshold; FheUnavailable when the epoch would not work.
    """
    plan = make_plan(epoch, members, threshold, circuits, parameters)
    answer = await _deal(plan, encoding or default_encoding())
    material = EpochMaterial.from_bytes(answer[0])
    shares = tuple(Secret(share) for share in answer[1:])
    known, result = await _common_class(material)
    _prove(material, shares, result)
    log.info("epoch %d: %d of %d, %d circuits, class %s", epoch, threshold, members, len(material.circuits), known.hex()[:12])
    return CeremonyResult(dataclasses.replace(material, classes=(known,)), shares)


async def _deal(plan: CeremonyPlan, encoding: Encoding) -> list[bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "veil.fhe.ceremony_child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    request = frames.framed([msgspec.json.encode(plan), encoding.to_json()])
    try:
        async with asyncio.timeout(CHILD_DEADLINE_S):
            output, errors = await process.communicate(request)
    except TimeoutError as error:
        raise DeadlineExceeded(f"the key ceremony took over {CHILD_DEADLINE_S:.0f} s", hint="use a less busy machine") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = (errors.decode(errors="replace").strip().splitlines() or ["without a word"])[-1]
        raise FheUnavailable(
            f"the key ceremony ended with code {process.returncode}: {last}", hint="is there 1 GiB of free memory?"
        )
    return frames.unpack(output[frames.LENGTH.size :])


async def _common_class(material: EpochMaterial) -> tuple[Digest, bytes]:
    """The class that most of a few evaluators are in, and that class's known answer."""
    seen: Counter[Digest] = Counter()
    results: dict[Digest, bytes] = {}
    packed = material.to_bytes()
    demand, *telemetry = frames.unpack(material.known_input)
    for _ in range(CLASS_PROBES):
        child = await EvalChild.spawn(
            packed, deadline_s=evaluator.START_DEADLINE_S, memory_limit_bytes=evaluator.MEMORY_LIMIT_BYTES
        )
        try:
            if child.known not in results:
                done = await child.evaluate(material.circuits[0].name, demand, telemetry, evaluator.EVALUATE_DEADLINE_S)
                if done.digest != child.known:
                    raise FheUnavailable("an evaluator does not agree with itself", hint="the machine's memory may be faulty")
                results[child.known] = done.result
            seen[child.known] += 1
        finally:
            await child.kill()
        if seen[child.known] >= CLASS_MAJORITY:
            break
    (known, _), *_ = seen.most_common()
    return known, results[known]


def _prove(material: EpochMaterial, shares: tuple[Secret, ...], result: bytes) -> None:
    """Raises FheUnavailable unless the quorum of the last members decrypts the known answer to what it must be."""
    encoding = parse_encoding(material.encoding)
    members = list(range(material.members - material.threshold + 1, material.members + 1))
    partials = {member: ThresholdDecryptor(shares[member - 1]).partial(result, members) for member in members}
    bits = ThresholdCombiner(material.public_key, material.threshold).open(result, members, partials).bits
    first = material.circuits[0]
    spec = CircuitSpec(first.profile, first.shape, first.candidates)
    slots, tables = known_question(encoding, spec.candidates)
    if bits != clear.reference(spec, tables, slots):
        raise FheUnavailable("the new epoch's keys decide wrongly", hint="run the fhe tests on this machine")

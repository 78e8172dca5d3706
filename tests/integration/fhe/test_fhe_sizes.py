"""One ceremony, one key set, three sizes: each circuit decides as in clear under the same evaluation keys."""

import random

import pytest

from veil.fhe import vectors
from veil.fhe.ceremony import hold_ceremony
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.publickey import PublicKey
from veil.types import Epoch

pytestmark = [pytest.mark.fhe, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SPECS = tuple(CircuitSpec("default", "choose", size) for size in (4, 8, 16))
MOST = [4, 4, 7, 7, 7, 7]


def case(rng: random.Random, candidates: int) -> tuple[list[list[int]], list[int]]:
    demand = [rng.randint(0, top // 2) for top in MOST]
    demand.append(rng.randint(1, 8))
    telemetry = [
        [*(rng.randint(0, top) for top in MOST), rng.randrange(7), rng.randrange(4), rng.randrange(9)] for _ in range(candidates)
    ]
    return telemetry, demand


async def test_one_key_set_serves_all_sizes() -> None:
    ceremony = await hold_ceremony(Epoch(3), members=3, threshold=2, circuits=SPECS)
    material = ceremony.material
    assert [circuit.name for circuit in material.circuits] == [spec.name for spec in SPECS]
    assert len(material.evaluation_keys) < 30_000_000
    key, combiner = PublicKey.from_bytes(material.public_key), ThresholdCombiner(material.public_key, 2)
    decryptors = {member: ThresholdDecryptor(ceremony.shares[member - 1]) for member in (1, 2)}
    evaluator = ChildEvaluator(material)
    await evaluator.start()
    rng = random.Random(16)
    fitted = 0
    try:
        for spec in SPECS:
            for count in (spec.candidates, spec.candidates - 1):
                telemetry, demand = case(rng, count)
                vectors_of = [key.encrypt(vectors.TELEMETRY, digits) for digits in telemetry]
                done = await evaluator.evaluate(spec.name, key.encrypt(vectors.DEMAND, demand), vectors_of)
                partials = {member: decryptor.partial(done.result, (1, 2)) for member, decryptor in decryptors.items()}
                bits = combiner.open(done.result, (1, 2), partials).bits
                assert bits == clear.reference(spec, telemetry, demand)
                fitted += 1 - bits[-1]
    finally:
        await evaluator.close()
    assert fitted >= 3

"""The parameter set ``flooded`` through a real ceremony: it decides as ``plain`` does, with less noise to hide."""

import random
import time
from collections.abc import Sequence

import numpy as np
import pytest
from fhe_answers import SLOTS_ASKED, answers

from veil.fhe import flooding, selection, vectors
from veil.fhe.ceremony import CeremonyResult, hold_ceremony
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.keyshare import KeyShare
from veil.fhe.publickey import PublicKey
from veil.fhe.threshold import BIT, FIELD, weight
from veil.types import Epoch, Secret

pytestmark = [pytest.mark.fhe, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SPECS = (CircuitSpec("default", "choose", 4), CircuitSpec("default", "rank", 4), CircuitSpec("precise", "choose", 8))
EVALUATIONS = 4
RSS_MAX_BYTES = 640 << 20


async def test_a_flooded_epoch_decides_and_hides() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    begin_s = time.monotonic()
    ceremony = await hold_ceremony(Epoch(1), members=3, threshold=2, circuits=SPECS, parameters="flooded")
    material = ceremony.material
    print(f"ceremony {time.monotonic() - begin_s:.1f} s, evaluation keys {len(material.evaluation_keys) / 1e6:.1f} MB")
    assert len(material.evaluation_keys) < 95_000_000
    assert material.flooding_bits >= 20
    assert material.max_decryptions >= 500_000
    evaluator = ChildEvaluator(material)
    await evaluator.start()
    try:
        noise = [error for spec in SPECS for error in await _noise(ceremony, evaluator, spec, random.Random(seed))]
        assert evaluator.child_rss_bytes < RSS_MAX_BYTES
    finally:
        await evaluator.close()
    measured = float(np.log2(np.sqrt(np.mean(np.square(noise)))))
    print(f"output noise 2^{measured:.1f}, largest 2^{np.log2(np.abs(noise).max()):.1f}, {len(noise)} outputs")
    assert flooding.OUTPUT_NOISE_LOG2["flooded"] - 2 < measured <= flooding.OUTPUT_NOISE_LOG2["flooded"]


async def _noise(ceremony: CeremonyResult, evaluator: ChildEvaluator, spec: CircuitSpec, rng: random.Random) -> list[float]:
    """Of all outputs of some decisions, each of which is the clear reference's."""
    material = ceremony.material
    key = PublicKey.from_bytes(material.public_key)
    combiner = ThresholdCombiner(material.public_key, material.threshold)
    quorum = (1, 2, 3)
    noise: list[float] = []
    walls = []
    for _ in range(EVALUATIONS):
        tables = [answers(rng.randrange(8), rng.randrange(6)) for _ in range(spec.candidates)]
        telemetry = [selection.encrypt_table(key, table) for table in tables]
        done = await evaluator.evaluate(spec.name, selection.encrypt_demand(key, SLOTS_ASKED), telemetry)
        walls.append(done.wall_s)
        partials = {member: ThresholdDecryptor(ceremony.shares[member - 1]).partial(done.result, quorum) for member in quorum}
        opened = combiner.open(done.result, quorum, partials)
        assert opened.checked
        assert opened.bits == clear.reference(spec, tables, SLOTS_ASKED)
        noise += _noise_of(ceremony.shares, done.result, key.name, opened.bits)
    print(f"{spec.name}: {min(walls):.2f} s at best")
    return noise


def _secret_bits(shares: Sequence[Secret]) -> np.ndarray:
    """The key that outputs are under, from the first ``threshold`` shares."""
    opened = [KeyShare.from_secret(share) for share in shares]
    subset = tuple(range(1, opened[0].threshold + 1))
    weights = [weight(member, subset) for member in subset]
    columns = zip(*(opened[member - 1].values for member in subset), strict=True)
    return np.array(
        [sum(factor * value for factor, value in zip(weights, column, strict=True)) % FIELD for column in columns],
        dtype=np.uint64,
    )


def _noise_of(shares: Sequence[Secret], result: bytes, key: vectors.KeyName, bits: Sequence[int]) -> list[float]:
    """What only somebody with all shares can see: the difference of each output's phase from its bit's."""
    secret = _secret_bits(shares)
    noise = []
    for row, bit in zip(vectors.open_result(result, key), bits, strict=True):
        phase = int(row[-1]) - int((row[:-1] * secret).sum(dtype=np.uint64))
        noise.append(float((phase - bit * BIT + 2**63) % 2**64 - 2**63))
    return noise

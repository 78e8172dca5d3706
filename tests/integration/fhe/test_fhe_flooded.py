"""The parameter set ``flooded`` through a real ceremony: it decides as ``plain`` does, with less noise to hide.

Slow, so it is part of ``make soak-fhe``; :mod:`test_fhe_reference_plan` has an epoch of that set in the short tests.
"""

import os
import random
import time

import numpy as np
import pytest
from fhe_answers import SLOTS_ASKED, answers
from fhe_noise import noise_of

from veil.fhe import flooding, selection
from veil.fhe.ceremony import CeremonyResult, hold_ceremony
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.publickey import PublicKey
from veil.types import Epoch

pytestmark = [
    pytest.mark.fhe,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(not os.environ.get("SOAK_FHE_CASES"), reason="slow: make soak-fhe"),
]

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
        noise += noise_of(ceremony.shares, done.result, key.name, opened.bits)
    print(f"{spec.name}: {min(walls):.2f} s at best")
    return noise

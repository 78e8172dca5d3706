"""One ceremony, one key set, every circuit: each decides as in clear, on real ciphertexts under the same evaluation keys.

``make soak-fhe`` sets SOAK_FHE_CASES, the number of cases of every circuit; without it there are few, and fewer of what is slow.
"""

import os
import random
from dataclasses import dataclass

import pytest
import pytest_asyncio

from veil.fhe import decision, vectors
from veil.fhe.ceremony import CeremonyResult, hold_ceremony
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec, circuits_of
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.publickey import PublicKey
from veil.types import Epoch

SOAK = int(os.environ.get("SOAK_FHE_CASES", "0"))
CASES_OF_FOUR, CASES = 20, 2
SIZES = (4, 8, 16, 32, 64)
SPECS = (*circuits_of(("default", "precise"), SIZES), *(CircuitSpec("fast", "choose", size) for size in SIZES))
MOST = [4, 4, 7, 7, 7, 7]
SEED = 16

pytestmark = [pytest.mark.fhe, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240 + 40 * SOAK)]


@dataclass(frozen=True)
class Epochs:
    """The epoch with all circuits, and its running evaluator."""

    ceremony: CeremonyResult
    evaluator: ChildEvaluator
    key: PublicKey

    async def bits(self, spec: CircuitSpec, telemetry: list[list[int]], demand: list[int]) -> list[int]:
        given = [self.key.encrypt(vectors.TELEMETRY, digits) for digits in telemetry]
        done = await self.evaluator.evaluate(spec.name, self.key.encrypt(vectors.DEMAND, demand), given)
        decryptors = [ThresholdDecryptor(share) for share in self.ceremony.shares[:2]]
        partials = {decryptor.member: decryptor.partial(done.result, (1, 2)) for decryptor in decryptors}
        return ThresholdCombiner(self.ceremony.material.public_key, 2).open(done.result, (1, 2), partials).bits


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def epoch():
    ceremony = await hold_ceremony(Epoch(3), members=3, threshold=2, circuits=SPECS)
    evaluator = ChildEvaluator(ceremony.material, evaluate_deadline_s=120.0)
    await evaluator.start()
    yield Epochs(ceremony, evaluator, PublicKey.from_bytes(ceremony.material.public_key))
    await evaluator.close()


def case(rng: random.Random, number: int, spec: CircuitSpec) -> tuple[list[list[int]], list[int]]:
    """Random digits; odd cases have fewer candidates than places, every fifth asks for much, every seventh has many ties."""
    part = 1 if number % 5 == 4 else 2
    demand = [*(rng.randint(0, top // part) for top in MOST), rng.randint(1, 8 // part)]
    count = spec.candidates - number % 2 * rng.randint(1, spec.candidates - 1)
    levels = 2 if number % 7 == 6 else 5
    telemetry = [
        [*(rng.randint(0, top) for top in MOST), rng.randrange(levels), rng.randrange(6), rng.randrange(9)] for _ in range(count)
    ]
    return telemetry, demand


async def test_one_small_key_set_serves_them_all(epoch: Epochs) -> None:
    material = epoch.ceremony.material
    assert [circuit.name for circuit in material.circuits] == [spec.name for spec in SPECS]
    assert len(material.evaluation_keys) < 30_000_000
    assert epoch.evaluator.child_rss_bytes < 600 << 20


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
async def test_every_circuit_is_its_reference(epoch: Epochs, spec: CircuitSpec) -> None:
    rng = random.Random(f"{SEED} {spec.name}")
    print(f"seed {SEED}")
    placed = 0
    for number in range(SOAK or (CASES_OF_FOUR if spec.candidates == 4 else CASES)):
        telemetry, demand = case(rng, number, spec)
        bits = await epoch.bits(spec, telemetry, demand)
        assert bits == clear.reference(spec, telemetry, demand), f"case {number}"
        placed += len(decision.order_of(spec.shape, bits, len(telemetry))) > 0
    assert placed > 0

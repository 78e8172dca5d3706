"""One ceremony, one key set, every circuit: each decides as in clear, on real ciphertexts under the same evaluation keys.

``make soak-fhe`` sets SOAK_FHE_CASES, the number of cases of every circuit; without it there are few, and fewer of what is slow.
"""

import os
import random
from dataclasses import dataclass

import pytest
import pytest_asyncio

from veil.fhe import decision, selection
from veil.fhe.ceremony import CeremonyResult, hold_ceremony
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec, circuits_of
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.encoding import LEFT_OVER_LEVELS, Table, default_encoding
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.ports import Figures
from veil.fhe.publickey import PublicKey
from veil.types import Epoch

SOAK = int(os.environ.get("SOAK_FHE_CASES", "0"))
CASES = {4: 8, 64: 1}
"""Of circuits of so many candidates; two of the others."""

SIZES = (4, 8, 16, 32, 64)
SPECS = circuits_of(("default", "precise"), SIZES)
ENCODING = default_encoding()
SEED = 16

pytestmark = [pytest.mark.fhe, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240 + 40 * SOAK)]


@dataclass(frozen=True)
class Epochs:
    """The epoch with all circuits, and its running evaluator."""

    ceremony: CeremonyResult
    evaluator: ChildEvaluator
    key: PublicKey

    async def bits(self, spec: CircuitSpec, tables: list[Table], slots: tuple[int, ...]) -> list[int]:
        given = [selection.encrypt_table(self.key, table) for table in tables]
        done = await self.evaluator.evaluate(spec.name, selection.encrypt_demand(self.key, slots), given)
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


def case(rng: random.Random, number: int, spec: CircuitSpec) -> tuple[list[Table], tuple[int, ...]]:
    """Random figures; odd cases have fewer candidates than places, every fifth asks for much, every seventh has many ties."""
    part = 0.9 if number % 5 == 4 else 0.4
    count = spec.candidates - number % 2 * rng.randint(1, spec.candidates - 1)
    levels = 2 if number % 7 == 6 else LEFT_OVER_LEVELS
    scores = [(rng.randrange(levels) + rng.random()) / LEFT_OVER_LEVELS for _ in range(count)]
    return [ENCODING.table(figures(rng, 1.0), score) for score in scores], ENCODING.slots(figures(rng, part))


def figures(rng: random.Random, part: float) -> Figures:
    return Figures(**{resource.name: int(resource.maximum * part * rng.random() ** 0.3) for resource in ENCODING.resources})


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
    for number in range(SOAK or CASES.get(spec.candidates, 2)):
        tables, slots = case(rng, number, spec)
        bits = await epoch.bits(spec, tables, slots)
        assert bits == clear.reference(spec, tables, slots), f"case {number}"
        placed += len(decision.order_of(spec.shape, bits, len(tables))) > 0
    assert placed > 0

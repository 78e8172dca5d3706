"""One real key epoch, 2 of 3 with every circuit of four candidates, for all tests here; evaluators are child processes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio
from fhe_answers import SLOTS_ASKED, answers

from veil.fhe import selection
from veil.fhe.ceremony import CeremonyResult, run_ceremony
from veil.fhe.circuits.spec import circuits_of
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.encryptor import PublicKeyEncryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.publickey import PublicKey
from veil.types import Epoch

SPECS = circuits_of(("default", "precise"), (4,))


@dataclass(frozen=True)
class World:
    """The epoch and its holders; ``raw`` encrypts what no honest Encryptor would."""

    ceremony: CeremonyResult
    encryptor: PublicKeyEncryptor
    decryptors: dict[int, ThresholdDecryptor]
    combiner: ThresholdCombiner
    key: PublicKey

    def open(self, result: bytes, members: Sequence[int] = (1, 3)) -> list[int]:
        partials = {member: self.decryptors[member].partial(result, members) for member in members}
        return self.combiner.open(result, members, partials).bits

    def raw_telemetry(self, level: int, finer: int = 0) -> bytes:
        return selection.encrypt_table(self.key, answers(level, finer))

    def raw_demand(self) -> bytes:
        return selection.encrypt_demand(self.key, SLOTS_ASKED)


@pytest.fixture(scope="session")
def world() -> World:
    ceremony = run_ceremony(Epoch(1), members=3, threshold=2, circuits=SPECS)
    material = ceremony.material
    return World(
        ceremony=ceremony,
        encryptor=PublicKeyEncryptor(material.public_key, material.encoding),
        decryptors={member: ThresholdDecryptor(share) for member, share in enumerate(ceremony.shares, 1)},
        combiner=ThresholdCombiner(material.public_key, material.threshold),
        key=PublicKey.from_bytes(material.public_key),
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def evaluator(world: World) -> AsyncIterator[ChildEvaluator]:
    running = ChildEvaluator(world.ceremony.material)
    await running.start()
    yield running
    await running.close()

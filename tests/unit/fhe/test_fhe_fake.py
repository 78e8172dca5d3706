"""The fakes decide as the circuit's reference does, and product code cannot reach them."""

import re
from pathlib import Path

import pytest

import veil
from veil.errors import CiphertextInvalid, FheUnavailable
from veil.fhe.fake import FakeCombiner, FakeDecryptor, FakeEncryptor, FakeEvaluator
from veil.fhe.ports import Combiner, Decryptor, Encryptor, Evaluator, Figures
from veil.types import Epoch

GIB = 1 << 30
CIRCUIT = "digc7b-n4-r4"
EPOCH = Epoch(1)
NODE = Figures(cpu_milli=2000, memory_bytes=24 * GIB, disk_bytes=100 * GIB, gpu_count=0)
SMALL = Figures(cpu_milli=100, memory_bytes=64 << 20, disk_bytes=0, gpu_count=0)


def test_the_fakes_have_the_shape_of_the_ports() -> None:
    encryptor: Encryptor = FakeEncryptor(EPOCH)
    evaluator: Evaluator = FakeEvaluator(EPOCH, {CIRCUIT: 4})
    decryptor: Decryptor = FakeDecryptor(EPOCH, 1)
    combiner: Combiner = FakeCombiner(EPOCH)
    assert all((encryptor, evaluator, decryptor, combiner))


async def test_the_fullest_node_that_fits_is_chosen() -> None:
    encryptor, evaluator, combiner = FakeEncryptor(EPOCH), FakeEvaluator(EPOCH, {CIRCUIT: 4}), FakeCombiner(EPOCH)
    await evaluator.start()
    half = Figures(cpu_milli=900, memory_bytes=10 * GIB, disk_bytes=100 * GIB, gpu_count=0)
    full = Figures(cpu_milli=50, memory_bytes=10 * GIB, disk_bytes=100 * GIB, gpu_count=0)
    telemetry = [encryptor.telemetry(free, NODE) for free in (NODE, half, full)]
    done = await evaluator.evaluate(CIRCUIT, encryptor.demand(SMALL), telemetry)
    partials = {member: FakeDecryptor(EPOCH, member).partial(done.result, [1, 3]) for member in (1, 3)}
    assert combiner.combine(done.result, [1, 3], partials) == [0, 1, 0, 0, 0]


async def test_a_lie_a_missing_partial_and_a_foreign_vector_show() -> None:
    encryptor, evaluator, combiner = FakeEncryptor(EPOCH), FakeEvaluator(EPOCH, {CIRCUIT: 4}), FakeCombiner(EPOCH)
    await evaluator.start()
    done = await evaluator.evaluate(CIRCUIT, encryptor.demand(SMALL), [encryptor.telemetry(NODE, NODE), None])
    honest = FakeDecryptor(EPOCH, 1).partial(done.result, [1, 2])
    lie = FakeDecryptor(EPOCH, 2, lie_at=3).partial(done.result, [1, 2])
    assert combiner.combine(done.result, [1, 2], {1: honest, 2: lie}) == [1, 0, 0, 1, 0]
    with pytest.raises(FheUnavailable):
        combiner.combine(done.result, [1, 2], {1: honest})
    with pytest.raises(CiphertextInvalid):
        combiner.combine(done.result, [1, 3], {1: honest, 3: lie})
    with pytest.raises(CiphertextInvalid):
        encryptor.check_telemetry(FakeEncryptor(Epoch(2)).telemetry(NODE, NODE))


def test_nothing_in_the_product_imports_the_fakes() -> None:
    root = Path(veil.__file__).parent
    mention = re.compile(r"fhe\.fake|fhe import .*\bfake\b|\bFake(Encryptor|Evaluator|Decryptor|Combiner)\b")
    sources = [path for path in root.rglob("*.py") if path != root / "fhe" / "fake.py"]
    assert len(sources) > 10
    assert [path for path in sources if mention.search(path.read_text())] == []

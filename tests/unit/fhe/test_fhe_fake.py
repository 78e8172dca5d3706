"""The fakes decide as the circuit's reference does, and product code cannot reach them."""

import re
from pathlib import Path

import pytest

import veil
from veil.errors import CiphertextInvalid, DecryptionDisputed, FheUnavailable, PartialInvalid
from veil.fhe.fake import FakeCombiner, FakeDecryptor, FakeEncryptor, FakeEvaluator
from veil.fhe.ports import Combiner, Decryptor, Encryptor, Evaluator, Figures, Opened
from veil.types import Epoch

GIB = 1 << 30
CIRCUIT = "default-choose-4"
EPOCH = Epoch(1)
NODE = Figures(cpu_milli=2000, memory_bytes=24 * GIB, disk_bytes=100 * GIB, gpu_count=0)
SMALL = Figures(cpu_milli=100, memory_bytes=64 << 20, disk_bytes=0, gpu_count=0)


def test_the_fakes_have_the_shape_of_the_ports() -> None:
    encryptor: Encryptor = FakeEncryptor(EPOCH)
    evaluator: Evaluator = FakeEvaluator(EPOCH, {CIRCUIT: 4})
    decryptor: Decryptor = FakeDecryptor(EPOCH, 1, threshold=2)
    combiner: Combiner = FakeCombiner(EPOCH, threshold=2)
    assert all((encryptor, evaluator, decryptor, combiner))


async def test_the_fullest_node_that_fits_is_chosen() -> None:
    encryptor, evaluator = FakeEncryptor(EPOCH), FakeEvaluator(EPOCH, {CIRCUIT: 4})
    combiner = FakeCombiner(EPOCH, threshold=2)
    await evaluator.start()
    half = Figures(cpu_milli=900, memory_bytes=10 * GIB, disk_bytes=100 * GIB, gpu_count=0)
    full = Figures(cpu_milli=50, memory_bytes=10 * GIB, disk_bytes=100 * GIB, gpu_count=0)
    empty = Figures(cpu_milli=16_000, memory_bytes=128 * GIB, disk_bytes=100 * GIB, gpu_count=0)
    telemetry = [encryptor.telemetry(free, None) for free in (empty, half, full)]
    done = await evaluator.evaluate(CIRCUIT, encryptor.demand(SMALL), telemetry)
    partials = {member: FakeDecryptor(EPOCH, member, threshold=2).partial(done.result, [1, 3]) for member in (1, 3)}
    assert combiner.open(done.result, [1, 3], partials) == Opened([0, 1, 0, 0, 0], checked=False, liars=())


async def test_a_lie_a_missing_partial_and_a_foreign_vector_show() -> None:
    encryptor, evaluator = FakeEncryptor(EPOCH), FakeEvaluator(EPOCH, {CIRCUIT: 4})
    combiner = FakeCombiner(EPOCH, threshold=2)
    await evaluator.start()
    done = await evaluator.evaluate(CIRCUIT, encryptor.demand(SMALL), [encryptor.telemetry(NODE, 0.5), None])
    honest = FakeDecryptor(EPOCH, 1, threshold=2).partial(done.result, [1, 2])
    lie = FakeDecryptor(EPOCH, 2, threshold=2, lie_at=3).partial(done.result, [1, 2])
    assert combiner.open(done.result, [1, 2], {1: honest, 2: lie}).bits == [1, 0, 0, 1, 0]
    with pytest.raises(FheUnavailable):
        combiner.open(done.result, [1, 2], {1: honest})
    with pytest.raises(PartialInvalid, match="another") as refused:
        combiner.open(done.result, [1, 3], {1: honest, 3: lie})
    assert refused.value.member == 1
    with pytest.raises(CiphertextInvalid):
        encryptor.check_telemetry(FakeEncryptor(Epoch(2)).telemetry(NODE, 0.5))


@pytest.mark.parametrize("lie_in", [None, [(1, 2)], [(2, 3), (2, 4)]])
async def test_a_lie_is_disputed_by_three_and_named_by_four_of_two(lie_in: list[tuple[int, ...]] | None) -> None:
    encryptor, evaluator = FakeEncryptor(EPOCH), FakeEvaluator(EPOCH, {CIRCUIT: 4})
    combiner = FakeCombiner(EPOCH, threshold=2)
    await evaluator.start()
    result = (await evaluator.evaluate(CIRCUIT, encryptor.demand(SMALL), [encryptor.telemetry(NODE, 0.5)])).result
    members = {member: FakeDecryptor(EPOCH, member, threshold=2) for member in (1, 3, 4)}
    members[2] = FakeDecryptor(EPOCH, 2, threshold=2, lie_at=4, lie_in=lie_in)
    with pytest.raises(DecryptionDisputed):
        combiner.open(result, (1, 2, 3), {member: members[member].partial(result, (1, 2, 3)) for member in (1, 2, 3)})
    named = combiner.open(result, (1, 2, 3, 4), {member: members[member].partial(result, (1, 2, 3, 4)) for member in members})
    alone = lie_in == [(1, 2)]
    assert named == Opened([1, 0, 0, 0, 0], checked=True, liars=() if alone else (2,))


def test_nothing_in_the_product_imports_the_fakes() -> None:
    root = Path(veil.__file__).parent
    mention = re.compile(r"fhe\.fake|fhe import .*\bfake\b|\bFake(Encryptor|Evaluator|Decryptor|Combiner)\b")
    sources = [path for path in root.rglob("*.py") if path != root / "fhe" / "fake.py"]
    assert len(sources) > 10
    assert [path for path in sources if mention.search(path.read_text())] == []

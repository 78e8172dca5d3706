"""From figures under the public key to bits by a quorum, through real children: always what the clear reference says."""

import asyncio
import dataclasses
import os
import random
import signal

import pytest

from veil.errors import CiphertextInvalid, ClassUnreachable, DeadlineExceeded, FheUnavailable
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.encoding import Table, default_encoding
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.ports import Evaluator, Figures

pytestmark = [pytest.mark.fhe, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SPEC = CircuitSpec("default", "choose", 4)
CIRCUIT = SPEC.name
ENCODING = default_encoding()
GIB, MIB = 1 << 30, 1 << 20
NODE = Figures(cpu_milli=16_000, memory_bytes=64 * GIB, disk_bytes=500 * GIB, gpu_count=4)
SMALL = Figures(cpu_milli=100, memory_bytes=64 * MIB, disk_bytes=0, gpu_count=0)
HUGE = Figures(cpu_milli=32_000, memory_bytes=256 * GIB, disk_bytes=0, gpu_count=0)


def some_figures(rng: random.Random, part: float) -> Figures:
    return Figures(
        cpu_milli=int(16_000 * rng.random() * part),
        memory_bytes=int(64 * GIB * rng.random() * part),
        disk_bytes=int(500 * GIB * rng.random() * part),
        gpu_count=rng.randrange(1 + int(4 * part)),
    )


def told_table(figures: Figures) -> Table:
    return ENCODING.table(figures, None)


def told(world, figures: Figures) -> bytes:
    return world.encryptor.telemetry(figures, None)


async def test_random_figures_are_decided_as_in_clear(world, evaluator: ChildEvaluator) -> None:
    port: Evaluator = evaluator
    rng = random.Random(2026)
    none_fits = 0
    for case in range(10):
        free = [some_figures(rng, 1.0) for _ in range(4)]
        demand = some_figures(rng, 0.9 if case % 3 == 0 else 0.4)
        done = await port.evaluate(CIRCUIT, world.encryptor.demand(demand), [told(world, f) for f in free])
        expected = clear.reference(SPEC, [told_table(figures) for figures in free], ENCODING.slots(demand))
        assert world.open(done.result, [(1, 2), (1, 3), (2, 3)][case % 3]) == expected
        none_fits += expected[-1]
    assert 0 < none_fits < 10


async def test_boundary_figures_are_decided_as_in_clear(world, evaluator: ChildEvaluator) -> None:
    """What is free just suffices, or one unit of one resource is missing; nothing is asked, nobody is there."""
    asked = Figures(**{resource.name: resource.sizes[len(resource.sizes) // 2] for resource in ENCODING.resources})
    nothing = Figures(**dict.fromkeys(Figures.__slots__, 0))
    largest = Figures(**{resource.name: resource.maximum for resource in ENCODING.resources})
    short = [dataclasses.replace(asked, **{name: getattr(asked, name) - 1}) for name in Figures.__slots__]
    for telemetry, demand in (
        ([asked, *short[:3]], asked),
        ([short[3], short[0], None, asked], asked),
        (short, asked),
        ([nothing, None, nothing], nothing),
        ([largest, asked], largest),
        ([], nothing),
    ):
        tables = [None if figures is None else told_table(figures) for figures in telemetry]
        given = [None if figures is None else told(world, figures) for figures in telemetry]
        done = await evaluator.evaluate(CIRCUIT, world.encryptor.demand(demand), given)
        assert world.open(done.result) == clear.reference(SPEC, tables, ENCODING.slots(demand))


async def test_two_processes_agree_bit_for_bit(world, evaluator: ChildEvaluator) -> None:
    other = ChildEvaluator(world.ceremony.material, threads=1, start_attempts=1)
    await other.start()
    try:
        assert other.child_pid != evaluator.child_pid
        for seed, circuit in enumerate(world.ceremony.material.circuits):
            rng = random.Random(seed)
            demand = world.encryptor.demand(SMALL)
            telemetry = [told(world, some_figures(rng, 1.0)), None, world.raw_telemetry(15, 15)]
            mine = await evaluator.evaluate(circuit.name, demand, telemetry)
            theirs = await other.evaluate(circuit.name, demand, telemetry)
            assert mine.result == theirs.result
            assert mine.digest == theirs.digest
    finally:
        await other.close()


async def test_malformed_bytes_do_not_reach_the_child(world, evaluator: ChildEvaluator) -> None:
    demand, telemetry = world.encryptor.demand(SMALL), told(world, NODE)
    pid = evaluator.child_pid
    for circuit, asked, given in [
        ("default-choose-8", demand, [telemetry]),
        (CIRCUIT, telemetry, [telemetry]),
        (CIRCUIT, demand, [demand]),
        (CIRCUIT, demand, [telemetry[:-8]]),
        (CIRCUIT, demand[:-8], [telemetry]),
        (CIRCUIT, demand, [telemetry] * 5),
    ]:
        with pytest.raises(CiphertextInvalid):
            await evaluator.evaluate(circuit, asked, given)
    assert evaluator.child_pid == pid


async def test_a_killed_child_is_replaced_during_and_between_evaluations(world, evaluator: ChildEvaluator) -> None:
    demand, telemetry = world.encryptor.demand(SMALL), [told(world, NODE)]
    before = await evaluator.evaluate(CIRCUIT, demand, telemetry)
    running = asyncio.create_task(evaluator.evaluate(CIRCUIT, demand, telemetry))
    await asyncio.sleep(0.05)
    os.kill(evaluator.child_pid, signal.SIGKILL)
    assert (await running).result == before.result
    os.kill(evaluator.child_pid, signal.SIGKILL)
    assert (await evaluator.evaluate(CIRCUIT, demand, telemetry)).result == before.result


async def test_a_cancelled_caller_does_not_cost_the_child(world, evaluator: ChildEvaluator) -> None:
    demand, pid = world.encryptor.demand(SMALL), evaluator.child_pid
    running = asyncio.create_task(evaluator.evaluate(CIRCUIT, demand, []))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await evaluator.evaluate(CIRCUIT, demand, [])
    assert evaluator.child_pid == pid


async def test_memory_time_and_class_are_bounded(world) -> None:
    material = world.ceremony.material
    small = ChildEvaluator(material, start_attempts=1, memory_limit_bytes=64 << 20)
    with pytest.raises(FheUnavailable, match="memory limit"):
        await small.start()
    await small.close()

    foreign = ChildEvaluator(dataclasses.replace(material, classes=(b"\1" * 32,)), start_attempts=2)
    with pytest.raises(ClassUnreachable, match="determinism class after 2 starts"):
        await foreign.start()
    assert foreign.child_pid is None
    await foreign.close()

    hasty = ChildEvaluator(material, evaluate_deadline_s=0.01)
    await hasty.start()
    with pytest.raises(DeadlineExceeded):
        await hasty.evaluate(CIRCUIT, world.encryptor.demand(SMALL), [])
    assert hasty.child_pid is None
    await hasty.close()
    with pytest.raises(FheUnavailable, match="closed"):
        await hasty.evaluate(CIRCUIT, world.encryptor.demand(SMALL), [])


async def test_a_huge_demand_fits_nowhere(world, evaluator: ChildEvaluator) -> None:
    telemetry = [told(world, NODE) for _ in range(3)]
    done = await evaluator.evaluate(CIRCUIT, world.encryptor.demand(HUGE), telemetry)
    assert world.open(done.result)[-1] == 1
    assert evaluator.child_rss_bytes < 600 << 20
    assert 0 < done.wall_s < 30

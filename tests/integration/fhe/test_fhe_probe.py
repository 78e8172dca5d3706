"""The probe that knows a machine's determinism class before there is an epoch."""

import os
import subprocess
import sys

import pytest

from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.probe import reachable_classes

pytestmark = [pytest.mark.fhe, pytest.mark.timeout(240)]

PLANS = ((4, 8), (0, 8), (1, 8), (2, 8))
"""Fourier algorithms, as numbers of the measurements that come out fast."""

BOTH = """
import hashlib, sys
from veil.fhe import fourier_plan, frames
fourier_plan.FAST_MEASUREMENTS = frozenset(map(int, sys.argv[1].split(",")))
from veil.fhe.evaluation import Evaluations
from veil.fhe.material import EpochMaterial
from veil.fhe.probe_child import probe
found = probe("plain")
assert found.pinned
material = EpochMaterial.from_bytes(sys.stdin.buffer.read())
demand, *telemetry = frames.unpack(material.known_input)
result, _ = Evaluations(material).evaluate(material.circuits[0].name, demand, telemetry)
print(found.inputs, found.known, hashlib.sha256(result).hexdigest())
"""


async def test_one_machine_has_one_class() -> None:
    first, second = await reachable_classes("plain"), await reachable_classes("plain")
    assert first == second
    assert first.pinned
    assert len(first.classes) == 1


def test_the_probe_tells_apart_what_a_real_epoch_tells_apart(world) -> None:
    """Processes with different Fourier plans stand for machines with different processors."""
    material, found = world.ceremony.material.to_bytes(), []
    for plan in PLANS:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", BOTH, ",".join(map(str, plan))],
            input=material,
            capture_output=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            timeout=120,
            check=True,
        )
        found.append(done.stdout.decode().split())
    assert len({inputs for inputs, _, _ in found}) == 1
    pairs = {(probed, known) for _, probed, known in found}
    print(f"{len(pairs)} classes of {len(PLANS)} plans")
    assert len(pairs) == len({probed for probed, _ in pairs}) == len({known for _, known in pairs}) > 1


def test_the_probe_has_the_parameters_of_the_circuits(world) -> None:
    """Same polynomials and decompositions, hence the same arithmetic."""
    import msgspec

    from veil.fhe.circuits.build import build
    from veil.fhe.probe_child import compiled

    def parameters(client: bytes) -> set[tuple[object, ...]]:
        keys = msgspec.json.decode(client)["keyset"]["lweBootstrapKeys"]
        names = ("levelCount", "baseLog", "glweDimension", "polynomialSize")
        return {tuple(key["params"][name] for name in names) for key in keys}

    probed = parameters(compiled("plain").client.specs.serialize())
    assert probed == parameters(world.ceremony.material.circuits[0].client)
    flooded = build(CircuitSpec("default", "choose", 4), "flooded")
    assert parameters(compiled("flooded").client.specs.serialize()) == parameters(flooded.client.specs.serialize())

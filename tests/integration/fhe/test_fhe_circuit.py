"""The compiled circuits: parameters cannot move silently, and in simulation each is its reference on many inputs."""

import itertools
import json

import numpy as np
import pytest

from veil.fhe import values, vectors
from veil.fhe.circuits import clear, layout
from veil.fhe.circuits.spec import CircuitSpec, lookups
from veil.fhe.encoding import default_encoding

pytestmark = [pytest.mark.fhe, pytest.mark.timeout(240)]

ENCODING = default_encoding()
N, R = 4, 4
LOOKUPS = {
    ("default", "choose", 4): 36,
    ("default", "choose", 8): 72,
    ("default", "choose", 16): 144,
    ("default", "choose", 32): 288,
    ("default", "choose", 64): 576,
    ("default", "rank", 2): 19,
    ("default", "rank", 4): 46,
    ("default", "rank", 8): 116,
    ("default", "rank", 16): 312,
    ("default", "rank", 32): 414,
    ("default", "rank", 64): 830,
    ("fast", "choose", 4): 16,
    ("fast", "choose", 16): 64,
    ("fast", "choose", 64): 256,
    ("fast", "rank", 16): 232,
    ("precise", "choose", 4): 51,
    ("precise", "choose", 8): 103,
    ("precise", "choose", 16): 209,
    ("precise", "choose", 32): 419,
    ("precise", "choose", 64): 847,
}
"""Bootstraps at four resources, counted by the compiler."""

SPECS = [CircuitSpec(*key) for key in LOOKUPS]
RANDOM_CASES = 200


@pytest.fixture(scope="module")
def circuits():
    from veil.fhe.circuits.build import compiled

    return compiled(SPECS, ENCODING)  # raises unless one key set serves all


@pytest.fixture(scope="module")
def circuit(circuits):
    return circuits[SPECS[0]]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_parameters_are_the_measured_ones(circuits, spec) -> None:
    circuit = circuits[spec]
    statistics = circuit.statistics
    assert statistics["programmable_bootstrap_count"] == lookups(spec, R) == LOOKUPS[spec.profile, spec.shape, spec.candidates]
    assert circuit.graph.maximum_integer_bit_width() == 4
    (parameter,) = statistics["programmable_bootstrap_count_per_parameter"]
    assert (parameter.polynomial_size(), parameter.glwe_dimension(), parameter.level()) == (vectors.DIMENSION, 1, 1)
    assert parameter.input_lwe_dimension() == 806
    assert circuit.p_error <= 2.0**-64
    inputs, outputs = values.gates(circuit.client.specs.serialize())
    assert [values.lwe(gate)["encoding"]["integer"]["width"] for gate in inputs] == [4] * len(layout.INPUTS[spec.profile])
    assert {values.lwe(gate)["encoding"]["integer"]["width"] for gate in outputs} == {1}
    variances = {values.lwe(gate)["encryption"]["variance"] for gate in inputs + outputs}
    assert list(variances) == [pytest.approx(8.44e-31, rel=0.01)]


def test_flooded_circuits_differ_by_one_wide_look_up_for_each_output_bit() -> None:
    """All of them under one key set too, and inputs under a key of the same form."""
    from veil.fhe.circuits.build import compiled

    flooded = compiled([spec for spec in SPECS if spec.candidates <= 16], ENCODING, "flooded")
    for spec, circuit in flooded.items():
        counts = circuit.statistics["programmable_bootstrap_count_per_parameter"]
        found = {
            (key.polynomial_size(), key.glwe_dimension(), key.level(), key.base_log(), key.input_lwe_dimension()): count
            for key, count in counts.items()
        }
        assert found == {(2048, 1, 1, 23, 806): lookups(spec, R), (1024, 2, 4, 9, 634): spec.result_bits}
        assert circuit.p_error <= 2.0**-64
        inputs, outputs = values.gates(circuit.client.specs.serialize())
        forms = [
            {(gate["encoding"]["integer"]["width"], gate["encryption"]["lweDimension"]) for gate in map(values.lwe, gates)}
            for gates in (inputs, outputs)
        ]
        assert forms == [{(4, vectors.DIMENSION)}, {(22, vectors.DIMENSION)}]


def simulated(circuit, spec, telemetry: np.ndarray, demand: np.ndarray) -> list[int]:
    """The circuit's look-ups on clear numbers."""
    parts = layout.inputs(spec.profile, list(telemetry.astype(np.uint64)), demand.astype(np.uint64))
    outputs = circuit.graph(*(part.astype(np.int64) for part in parts))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [int(bit) for output in outputs for bit in np.ravel(output)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_body_is_the_reference_on_random_and_extreme_digits(circuits, spec) -> None:
    from veil.fhe.circuits import build

    generator = np.random.default_rng(1)
    radixes = np.array([resource.high_radix for resource in ENCODING.resources])
    for kind in range(build.EXTREMES + RANDOM_CASES):
        telemetry, demand = build.honest_digits(generator, spec.candidates, radixes, kind)
        expected = clear.reference(spec, telemetry.tolist(), demand.tolist())
        assert simulated(circuits[spec], spec, telemetry, demand) == expected


TOPS = (4, 4, 7, 7, 7, 7)
DEMANDS = ([0] * 6 + [1], [*TOPS, 8], [2, 2, 3, 3, 4, 4, 4], [1, 0, 0, 0, 0, 7, 2], [0, 4, 7, 1, 7, 0, 7])


def nearest(demand: list[int]) -> list[list[int]]:
    """What is free when it just suffices, when one digit is one less or more; the same with one bundle less or more."""
    digits, bundle = demand[:6], demand[6]
    moved = [
        [*digits[:place], digits[place] + step, *digits[place + 1 :]]
        for place, top in enumerate(TOPS)
        for step in (-1, 1)
        if 0 <= digits[place] + step <= top
    ]
    free = [digits, list(TOPS), [0] * 6, *moved]
    return [[*one, max(0, min(8, bundle + step))] for one in free for step in (0, -1, 1)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_body_is_the_reference_at_every_boundary(circuits, spec) -> None:
    """Each digit just enough and one off, with levels that are all equal, or differ by one step, or are out of the running."""
    count = spec.candidates
    orders = [
        [(0, 0)] * count,
        [(4, 5)] * count,
        [(5, 0)] * count,
        [(place % 6, place % 6) for place in range(count)],
        [(5 - place % 6, 0) for place in range(count)],
        [(2, 5 - place % 6) for place in range(count)],
        [(3, 1)] * (count - 1) + [(3, 0)],
        [(3, 1)] * (count - 1) + [(2, 5)],
    ]
    for demand in DEMANDS:
        free = nearest(demand)
        for order, start in itertools.product(orders, range(0, len(free), max(1, count - 1))):
            chosen = [free[(start + place) % len(free)] for place in range(count)]
            telemetry = [[*one[:6], *levels, one[6]] for one, levels in zip(chosen, order, strict=True)]
            expected = clear.reference(spec, telemetry, demand)
            assert simulated(circuits[spec], spec, np.array(telemetry), np.array(demand)) == expected


def test_values_are_read_and_written_as_concrete_does(circuit) -> None:
    """What Concrete reads from our bytes and writes itself says the same, field by field."""
    from veil.fhe.concrete_import import fhe

    gate = values.gates(circuit.client.specs.serialize())[0][2]
    rows = np.random.default_rng(2).integers(0, 2**64, (N, vectors.DIMENSION + 1), dtype=np.uint64)
    ours = values.craft(gate, rows)
    theirs = fhe.Value.deserialize(ours).serialize()
    assert (values.rows_of(theirs) == rows).all()
    with values._schema().Value.from_bytes(theirs) as read:
        assert json.loads(json.dumps(read.typeInfo.to_dict())) == {"lweCiphertext": gate["typeInfo"]["lweCiphertext"]}
        assert read.rawInfo.to_dict() == gate["rawInfo"]
    with pytest.raises(values.CiphertextInvalid):
        values.craft(gate, rows[:-1])


def test_concrete_is_imported_without_torch() -> None:
    import sys

    from veil.fhe import concrete_import

    assert concrete_import.fhe.__name__ == "concrete.fhe"
    assert "torch" not in sys.modules

"""The compiled circuits: parameters cannot move silently, and in simulation each is its reference on many inputs."""

import itertools
import json

import numpy as np
import pytest

from veil.fhe import values, vectors
from veil.fhe.circuits import clear, layout
from veil.fhe.circuits.spec import CircuitSpec, lookups
from veil.fhe.encoding import FINER_LEVELS, INFEASIBLE_LEVEL, VALUES

pytestmark = [pytest.mark.fhe, pytest.mark.timeout(240)]

N = 4
LOOKUPS = {
    ("default", "choose", 4): 12,
    ("default", "choose", 8): 24,
    ("default", "choose", 16): 48,
    ("default", "choose", 32): 96,
    ("default", "choose", 64): 192,
    ("default", "rank", 2): 7,
    ("default", "rank", 4): 22,
    ("default", "rank", 8): 68,
    ("default", "rank", 16): 216,
    ("default", "rank", 32): 222,
    ("default", "rank", 64): 446,
    ("precise", "choose", 4): 27,
    ("precise", "choose", 8): 55,
    ("precise", "choose", 16): 113,
    ("precise", "choose", 32): 227,
    ("precise", "choose", 64): 455,
    ("precise", "rank", 2): 14,
    ("precise", "rank", 4): 40,
    ("precise", "rank", 8): 120,
    ("precise", "rank", 16): 384,
    ("precise", "rank", 32): 254,
    ("precise", "rank", 64): 510,
}
"""Bootstraps, counted by the compiler."""

SPECS = [CircuitSpec(*key) for key in LOOKUPS]
RANDOM_CASES = 200
SEED = 1


@pytest.fixture(scope="module")
def circuits():
    from veil.fhe.circuits.build import compiled

    return compiled(SPECS)  # raises unless one key set serves all


@pytest.fixture(scope="module")
def circuit(circuits):
    return circuits[SPECS[0]]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_parameters_are_the_measured_ones(circuits, spec) -> None:
    circuit = circuits[spec]
    statistics = circuit.statistics
    assert statistics["programmable_bootstrap_count"] == lookups(spec) == LOOKUPS[spec.profile, spec.shape, spec.candidates]
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
    """Under one key set too, and inputs under a key of the same form."""
    from veil.fhe.circuits.build import compiled

    flooded = compiled([spec for spec in SPECS if spec.candidates in (4, 16)], "flooded")
    for spec, circuit in flooded.items():
        counts = circuit.statistics["programmable_bootstrap_count_per_parameter"]
        found = {
            (key.polynomial_size(), key.glwe_dimension(), key.level(), key.base_log(), key.input_lwe_dimension()): count
            for key, count in counts.items()
        }
        assert found == {(2048, 1, 1, 23, 806): lookups(spec), (1024, 2, 4, 9, 634): spec.result_bits}
        assert circuit.p_error <= 2.0**-64
        inputs, outputs = values.gates(circuit.client.specs.serialize())
        forms = [
            {(gate["encoding"]["integer"]["width"], gate["encryption"]["lweDimension"]) for gate in map(values.lwe, gates)}
            for gates in (inputs, outputs)
        ]
        assert forms == [{(4, vectors.DIMENSION)}, {(22, vectors.DIMENSION)}]


def test_a_circuit_that_is_too_noisy_for_the_stated_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler takes others, and says nothing. Outputs times 7 and 8 have the noise of 113; the keys are for sums of 15."""
    from veil.errors import CiphertextInvalid
    from veil.fhe.circuits import build, tables

    def noisy(scores):
        bits = tables.is_zero(scores)
        return tables.is_zero(7 * bits[: N // 2] + 8 * bits[N // 2 :])

    monkeypatch.setattr(build, "choose", noisy)
    with pytest.raises(CiphertextInvalid, match="other keys"):
        build.build(SPECS[0])


def simulated(circuit, spec, level: np.ndarray, finer: np.ndarray) -> list[int]:
    """The circuit's look-ups on clear numbers."""
    given = {"level": level, "finer": finer}
    outputs = circuit.graph(*(given[name] for name in layout.INPUTS[spec.profile]))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [int(bit) for output in outputs for bit in np.ravel(output)]


def check(circuit, spec, level: np.ndarray, finer: np.ndarray) -> None:
    expected = clear.result_of(spec, [clear.score(one) for one in level.tolist()], finer.tolist())
    assert simulated(circuit, spec, level, finer) == expected


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_body_is_the_reference_on_random_levels(circuits, spec) -> None:
    """Many ties, few ties, and mostly those without room."""
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    for case in range(RANDOM_CASES):
        most = (VALUES, 2, INFEASIBLE_LEVEL)[case % 3]
        level = generator.integers(0, most, spec.candidates) + (case % 5 == 4) * (INFEASIBLE_LEVEL - 1)
        check(circuits[spec], spec, np.minimum(level, VALUES - 1), generator.integers(0, FINER_LEVELS, spec.candidates))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_body_is_the_reference_at_every_boundary(circuits, spec) -> None:
    """One candidate with every level and finer level, at either end, among others that have all the same or one step more."""
    count, steps = spec.candidates, np.arange(spec.candidates)
    others = [np.full(count, level) for level in range(INFEASIBLE_LEVEL + 2)] + [steps % VALUES, (VALUES - 1 - steps) % VALUES]
    for rest, level, place in itertools.product(others, range(VALUES), (0, count - 1)):
        for finer in range(FINER_LEVELS) if spec.profile == "precise" and count <= 8 else (level % FINER_LEVELS,):
            levels, finers = rest.copy(), (steps + level) % FINER_LEVELS if level % 2 else np.full(count, FINER_LEVELS // 2)
            levels[place], finers[place] = level, finer
            check(circuits[spec], spec, levels, finers)


def test_values_are_read_and_written_as_concrete_does(circuit) -> None:
    """What Concrete reads from our bytes and writes itself says the same, field by field."""
    from veil.fhe.concrete_import import fhe

    gate = values.gates(circuit.client.specs.serialize())[0][0]
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

"""The compiled circuit: parameters cannot move silently, and in simulation it is its reference on many inputs."""

import json

import numpy as np
import pytest

from veil.fhe import values, vectors
from veil.fhe.circuits import digc7_clear, digc7_layout

pytestmark = [pytest.mark.fhe, pytest.mark.timeout(240)]

RADIXES = (5, 5, 8, 8)
N, R = 4, 4


@pytest.fixture(scope="module")
def circuit():
    from veil.fhe.circuits import digc7

    return digc7.build(N, RADIXES)


def test_parameters_are_the_measured_ones(circuit) -> None:
    statistics = circuit.statistics
    assert statistics["programmable_bootstrap_count"] == digc7_layout.lookups(N, R) == 40
    assert circuit.graph.maximum_integer_bit_width() == 4
    (parameter,) = statistics["programmable_bootstrap_count_per_parameter"]
    assert (parameter.polynomial_size(), parameter.glwe_dimension(), parameter.level()) == (vectors.DIMENSION, 1, 1)
    assert 800 <= parameter.input_lwe_dimension() <= 830
    assert circuit.p_error <= 2.0**-64
    inputs, outputs = values.gates(circuit.client.specs.serialize())
    assert [values.lwe(gate)["encoding"]["integer"]["width"] for gate in inputs] == [4] * 5
    assert [values.lwe(gate)["encoding"]["integer"]["width"] for gate in outputs] == [1] * 2
    variances = {values.lwe(gate)["encryption"]["variance"] for gate in inputs + outputs}
    assert list(variances) == [pytest.approx(8.44e-31, rel=0.01)]


def test_the_body_is_the_reference_on_random_and_extreme_digits(circuit) -> None:
    from veil.fhe.circuits import digc7

    generator = np.random.default_rng(1)
    for kind in range(204):
        sample = digc7._sample(generator, N, np.array(RADIXES), kind % 40 if kind < 40 else 99)
        if kind % 2:  # a small demand, else hardly anything fits
            sample = (*sample[:3], sample[3] // 3, sample[4])
        free_high, free_low, left_over, asked_high, asked_low = sample
        telemetry = [[*free_high[place], *free_low[place], left_over[place]] for place in range(N)]
        expected = digc7_clear.reference(telemetry, [*asked_high, *asked_low], N)
        marks, none = circuit.graph(*sample)
        assert [*np.ravel(marks).tolist(), *np.ravel(none).tolist()] == expected


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

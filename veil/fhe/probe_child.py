"""The child that finds out this process's determinism class without an epoch (``python -m veil.fhe.probe_child``)."""

import hashlib
import sys
from typing import Any

import msgspec
import numpy as np

from veil.fhe import child, fourier_plan, frames, values, vectors
from veil.fhe.material import Parameters
from veil.fhe.probe import Probe
from veil.fhe.selection import Selector

PLACES = 4
"""Look-ups of the probe."""

TABLE = tuple((5 * value * value + 3 * value + 1) % 16 for value in range(16))
"""Any table without symmetry, of the width that all circuits have."""

_DOMAIN = b"veil/probe.2"


def main() -> int:
    """Reads a parameter set, writes a :class:`Probe`."""
    requests, responses = child.take_pipes()
    child.harden()
    request = frames.read_frame(requests.read)
    if request is None:
        return 0
    parameters = msgspec.convert(request[0].decode(), Parameters)
    data = memoryview(frames.framed([msgspec.json.encode(probe(parameters))]))
    while data:
        data = data[responses.write(data) :]
    return 0


def probe(parameters: Parameters) -> Probe:
    """Compile, make up keys and ciphertexts, evaluate once."""
    from veil.fhe.concrete_import import fhe

    circuit = compiled(parameters)
    circuit.client.keygen(True)
    keys = values.with_payloads(circuit.keys.evaluation.serialize(), _stream)
    gates, _ = values.gates(circuit.client.specs.serialize())
    inputs = hashlib.sha256(_DOMAIN + circuit.client.specs.serialize())
    for part in values.payloads(keys):
        inputs.update(hashlib.sha256(part).digest())
    argument, evaluation_keys = fhe.Value.deserialize(values.craft(gates[0], _selected())), fhe.EvaluationKeys.deserialize(keys)
    with fourier_plan.pinned() as pinned:
        result = circuit.server.run(argument, evaluation_keys=evaluation_keys)
    output = result[0] if isinstance(result, tuple) else result
    known = hashlib.sha256(values.rows_of(output.serialize()).tobytes())
    return Probe(inputs=inputs.hexdigest(), known=known.hexdigest(), pinned=pinned)


def _selected() -> values.Rows:
    """Inputs of PLACES look-ups, as a demand selects them from tables."""
    demand = _words("demand", (2, 2, vectors.DIMENSION)) >> np.uint64(16) << np.uint64(16)
    rows: values.Rows = Selector(demand).select(_words("tables", (PLACES, 2, vectors.DIMENSION)))[0]
    return rows


def _words(name: str, shape: tuple[int, ...]) -> values.Rows:
    return np.frombuffer(_stream(name, 8 * int(np.prod(shape))), dtype="<u8").reshape(shape).astype(np.uint64)


def compiled(parameters: Parameters) -> Any:
    """A look-up of each kind that circuits have in each place, compiled as they are."""
    from veil.fhe.circuits.configuration import configuration, with_output_width
    from veil.fhe.concrete_import import fhe

    table, odd = fhe.LookupTable(list(TABLE)), fhe.LookupTable([value % 2 for value in range(len(TABLE))])

    def look_up(value: Any) -> Any:
        return table[value]

    def look_up_bit(value: Any) -> Any:
        return odd[table[value]]

    samples = [np.full(PLACES, value) for value in range(len(TABLE))]
    function = look_up if parameters == "plain" else with_output_width(look_up_bit, parameters)
    return fhe.Compiler(function, {"value": "encrypted"}).compile(samples, configuration(parameters))


def _stream(name: str, size_bytes: int) -> bytes:
    """The same bytes on every machine; nobody knows a secret for them."""
    return hashlib.shake_256(_DOMAIN + name.encode()).digest(size_bytes)


if __name__ == "__main__":
    sys.exit(main())

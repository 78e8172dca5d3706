"""One evaluation of a registered circuit on wire-form ciphertexts, with evaluation keys only. Needs Concrete."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from veil.errors import CiphertextInvalid
from veil.fhe import values, vectors
from veil.fhe.circuits import layout
from veil.fhe.concrete_import import fhe
from veil.fhe.encoding import parse_encoding
from veil.fhe.material import CircuitMaterial, EpochMaterial
from veil.fhe.publickey import PublicKey


class LoadedCircuit:
    """A server archive and the types of its inputs."""

    def __init__(self, material: CircuitMaterial) -> None:
        with tempfile.TemporaryDirectory(prefix="veil-circuit-") as directory:
            path = Path(directory) / "server.zip"
            path.write_bytes(material.server)
            self.server: Any = fhe.Server.load(str(path))
        self.inputs, self.outputs = values.gates(material.client)
        self.candidates = material.candidates
        self.profile = material.profile

    def run(self, keys: Any, rows: Sequence[values.Rows]) -> list[values.Rows]:
        """The rows of each output."""
        arguments = [fhe.Value.deserialize(values.craft(gate, part)) for gate, part in zip(self.inputs, rows, strict=True)]
        outputs = self.server.run(*arguments, evaluation_keys=keys)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [values.rows_of(output.serialize()) for output in outputs]


class Evaluations:
    """All circuits of an epoch, loaded once."""

    def __init__(self, material: EpochMaterial) -> None:
        self._key = PublicKey.from_bytes(material.public_key).name
        self._encoding = parse_encoding(material.encoding)
        self._circuits = {circuit.name: LoadedCircuit(circuit) for circuit in material.circuits}
        self._keys: Any = fhe.EvaluationKeys.deserialize(material.evaluation_keys)

    def evaluate(self, name: str, demand: bytes, telemetry: Sequence[bytes | None]) -> tuple[bytes, float]:
        """The result and the seconds it took. Raises CiphertextInvalid for unknown circuits and malformed vectors."""
        begin_s = time.monotonic()
        circuit = self._circuits.get(name)
        if circuit is None:
            raise CiphertextInvalid(f"no circuit {name!r} in epoch {self._key.epoch}", hint="use one of the key epoch's circuits")
        vectors.check_candidates(telemetry, circuit.candidates)
        places = [self._place(vector) for vector in telemetry]
        places += [self._place(None)] * (circuit.candidates - len(places))
        vectors.check_vector(demand, vectors.DEMAND, self._key, self._encoding.demand_values)
        rows = circuit.run(self._keys, layout.inputs(circuit.profile, places, vectors.expand(demand)))
        return vectors.pack_result(self._key, layout.result(rows)), time.monotonic() - begin_s

    def _place(self, vector: bytes | None) -> values.Rows:
        if vector is None:
            return vectors.trivial(layout.padding(self._encoding.demand_values))
        vectors.check_vector(vector, vectors.TELEMETRY, self._key, self._encoding.telemetry_values)
        return vectors.expand(vector)

"""One evaluation of a registered circuit on wire-form ciphertexts, with evaluation keys only. Needs Concrete."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from veil.errors import CiphertextInvalid
from veil.fhe import values, vectors
from veil.fhe.circuits import layout
from veil.fhe.concrete_import import fhe
from veil.fhe.material import CircuitMaterial, EpochMaterial
from veil.fhe.publickey import PublicKey
from veil.fhe.selection import Selector


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
        self._circuits = {circuit.name: LoadedCircuit(circuit) for circuit in material.circuits}
        self._keys: Any = fhe.EvaluationKeys.deserialize(material.evaluation_keys)

    def evaluate(self, name: str, demand: bytes, telemetry: Sequence[bytes | None]) -> tuple[bytes, float]:
        """The result and the seconds it took. Raises CiphertextInvalid for unknown circuits and malformed vectors."""
        begin_s = time.monotonic()
        circuit = self._circuits.get(name)
        if circuit is None:
            raise CiphertextInvalid(f"no circuit {name!r} in epoch {self._key.epoch}", hint="use one of the key epoch's circuits")
        vectors.check_candidates(telemetry, circuit.candidates)
        rows = circuit.run(self._keys, self._inputs(demand, telemetry, circuit))
        return vectors.pack_result(self._key, layout.result(rows)), time.monotonic() - begin_s

    def _inputs(self, demand: bytes, telemetry: Sequence[bytes | None], circuit: LoadedCircuit) -> list[values.Rows]:
        """What the circuit reads, each (candidates, N + 1); public constants where a place is empty."""
        selector = Selector(vectors.open_demand(demand, self._key))
        names = layout.INPUTS[circuit.profile]
        inputs = {name: vectors.trivial([layout.PADDING[name]] * circuit.candidates) for name in names}
        taken = [place for place, vector in enumerate(telemetry) if vector is not None]
        if taken:
            given = np.stack([vectors.open_telemetry(vector, self._key) for vector in telemetry if vector is not None])
            selected = selector.select(given, [layout.SHIFTS[name] for name in names])
            for name, rows in zip(names, selected, strict=True):
                inputs[name][taken] = rows
        return [inputs[name] for name in names]

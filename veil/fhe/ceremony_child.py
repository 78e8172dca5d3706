"""The child in which an epoch's secret key lives and dies (``python -m veil.fhe.ceremony_child``).

Compiles the circuits, generates keys, makes the public key and the shares, and writes all of it to its parent through a pipe:
the secret itself, and the shares together, exist in this process and that pipe only, never on a disk. The process then ends.
"""

import math
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from veil.errors import CiphertextInvalid
from veil.fhe import child, flooding, frames, keyshare, publickey, selection, values, vectors
from veil.fhe.ceremony_plan import CeremonyPlan, known_question
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.encoding import MESSAGE_BITS, Encoding, parse_encoding
from veil.fhe.material import CircuitMaterial, EpochMaterial, Parameters
from veil.types import Epoch


def main() -> int:
    """Reads a plan, writes ``[material without classes, share, …]``."""
    requests, responses = child.take_pipes()
    child.harden()
    request = frames.read_frame(requests.read)
    if request is None:
        return 0
    plan = msgspec.json.decode(request[0], type=CeremonyPlan)
    data = memoryview(frames.framed(hold(plan, parse_encoding(request[1]))))
    while data:
        data = data[responses.write(data) :]
    return 0


def hold(plan: CeremonyPlan, encoding: Encoding) -> list[bytes]:
    """The material (its classes still empty), then each member's share."""
    from veil.fhe.circuits.build import compiled  # imports Concrete: only here

    circuits = compiled(plan.circuits, plan.parameters)
    first = next(iter(circuits.values()))
    first.keygen()
    materials = tuple(_material(spec, circuit) for spec, circuit in circuits.items())
    given, made = _check_gates(materials, plan.parameters)
    keyset = first.keys.serialize()
    public = publickey.generate(values.secret_key(keyset, given.key_id), given.deviation, plan.epoch)
    known = _known_input(public, encoding, materials[0].candidates)
    bits_per_result = max(spec.result_bits for spec in plan.circuits)
    material = EpochMaterial(
        epoch=Epoch(plan.epoch),
        parameters=plan.parameters,
        members=plan.members,
        threshold=plan.threshold,
        public_key=public.to_bytes(),
        evaluation_keys=first.keys.evaluation.serialize(),
        circuits=materials,
        encoding=encoding.to_json(),
        known_input=known,
        classes=(),
        flooding_bits=flooding.flooding_bits(plan.parameters, plan.members, plan.threshold),
        max_decryptions=flooding.max_decryptions(plan.parameters, plan.members, plan.threshold, bits_per_result),
    )
    opening = values.secret_key(keyset, made.key_id)
    shares = keyshare.deal(public.name, opening.tolist(), plan.members, plan.threshold)
    return [material.to_bytes(), *(share.to_secret().reveal() for share in shares)]


def _material(spec: CircuitSpec, circuit: Any) -> CircuitMaterial:
    with tempfile.TemporaryDirectory(prefix="veil-circuit-") as directory:
        path = Path(directory) / "server.zip"
        circuit.server.save(str(path))
        return CircuitMaterial(
            name=spec.name,
            profile=spec.profile,
            shape=spec.shape,
            candidates=spec.candidates,
            server=path.read_bytes(),
            client=circuit.client.specs.serialize(),
        )


@dataclass(frozen=True, slots=True)
class _Gates:
    """What all inputs, or all outputs, have in common."""

    key_id: int
    deviation: float
    """Of fresh noise, as a fraction of the torus."""


def _check_gates(materials: tuple[CircuitMaterial, ...], parameters: Parameters) -> tuple[_Gates, _Gates]:
    """Inputs and outputs, which may be under two keys.

    Raises CiphertextInvalid unless widths and dimensions are those that the wire forms assume.
    """
    from veil.fhe.circuits.configuration import OUTPUT_WIDTHS  # imports Concrete: only here

    inputs, outputs = zip(*(values.gates(material.client) for material in materials), strict=True)
    return _common(inputs, MESSAGE_BITS), _common(outputs, OUTPUT_WIDTHS[parameters])


def _common(gates: Iterable[list[dict[str, Any]]], width: int) -> _Gates:
    descriptions = [values.lwe(gate) for one in gates for gate in one]
    forms = {(gate["encoding"]["integer"]["width"], gate["encryption"]["lweDimension"]) for gate in descriptions}
    keys = {(gate["encryption"]["keyId"], gate["encryption"]["variance"]) for gate in descriptions}
    if forms != {(width, vectors.DIMENSION)} or len(keys) != 1:
        raise CiphertextInvalid("the compiler chose other parameters than the wire forms have", hint="pin concrete-python 2.11.0")
    ((key_id, variance),) = keys
    return _Gates(key_id, math.sqrt(variance))


def _known_input(public: publickey.PublicKey, encoding: Encoding, candidates: int) -> bytes:
    """A public question whose answer tells evaluators' classes apart."""
    slots, tables = known_question(encoding, candidates)
    demand = selection.encrypt_demand(public, slots)
    return frames.pack([demand, *(selection.encrypt_table(public, table) for table in tables)])


if __name__ == "__main__":
    sys.exit(main())

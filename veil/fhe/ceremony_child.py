"""The child in which an epoch's secret key lives and dies (``python -m veil.fhe.ceremony_child``).

Compiles the circuits, generates keys, makes the public key and the shares, and writes all of it to its parent through a pipe:
the secret itself, and the shares together, exist in this process and that pipe only, never on a disk. The process then ends.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from veil.errors import CiphertextInvalid
from veil.fhe import child, flooding, frames, keyshare, publickey, threshold, values, vectors
from veil.fhe.ceremony_plan import CeremonyPlan
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.encoding import MESSAGE_BITS, Encoding, parse_encoding
from veil.fhe.material import CircuitMaterial, EpochMaterial
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

    circuits = compiled(plan.circuits, encoding, plan.parameters)
    first = next(iter(circuits.values()))
    first.keygen()
    materials = tuple(_material(spec, circuit) for spec, circuit in circuits.items())
    gate = values.lwe(_check_gates(materials)[0])
    secret = values.secret_key(first.keys.serialize(), gate["encryption"]["keyId"])
    public = publickey.generate(secret, gate["encryption"]["variance"] ** 0.5, plan.epoch)
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
    shares = keyshare.deal(public.name, secret.tolist(), plan.members, plan.threshold)
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


def _check_gates(materials: tuple[CircuitMaterial, ...]) -> list[dict[str, Any]]:
    """All inputs. Raises CiphertextInvalid unless widths, dimension and keys are those that the wire forms assume."""
    inputs, outputs = [], []
    for material in materials:
        given, made = values.gates(material.client)
        inputs += given
        outputs += made
    forms = {
        (gate["encoding"]["integer"]["width"], gate["encryption"]["lweDimension"], gate["encryption"]["keyId"], expected)
        for gates, expected in ((inputs, MESSAGE_BITS), (outputs, threshold.OUTPUT_BITS))
        for gate in map(values.lwe, gates)
    }
    keys = {form[2] for form in forms}
    if len(keys) != 1 or any(width != expected or size != vectors.DIMENSION for width, size, _, expected in forms):
        raise CiphertextInvalid("the compiler chose other parameters than the wire forms have", hint="pin concrete-python 2.11.0")
    return inputs


def _known_input(public: publickey.PublicKey, encoding: Encoding, candidates: int) -> bytes:
    """A public question whose answer tells evaluators' classes apart; its numbers mean nothing."""
    demand = public.encrypt(vectors.DEMAND, [1] * encoding.demand_values)
    telemetry = [public.encrypt(vectors.TELEMETRY, [2] * encoding.telemetry_values) for _ in range(candidates)]
    return frames.pack([demand, *telemetry])


if __name__ == "__main__":
    sys.exit(main())

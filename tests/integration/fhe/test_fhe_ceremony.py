"""What a ceremony publishes, what it hands out, and that the secret is nowhere else."""

import subprocess
import sys

import numpy as np
import pytest

from veil.errors import CiphertextInvalid
from veil.fhe import vectors
from veil.fhe.circuits.spec import circuits_of
from veil.fhe.encoding import parse_encoding
from veil.fhe.flooding import OUTPUT_NOISE_LOG2
from veil.fhe.keyshare import KeyShare
from veil.fhe.material import EpochMaterial
from veil.fhe.sharing import lagrange_at_zero
from veil.fhe.threshold import FIELD

pytestmark = [pytest.mark.fhe, pytest.mark.timeout(240)]

SPECS = circuits_of(("default", "precise"), (4,))
CIRCUIT = SPECS[0].name


def secret_bits(world) -> np.ndarray:
    one, three = (KeyShare.from_secret(world.ceremony.shares[place]) for place in (0, 2))
    weights = [lagrange_at_zero(member, [1, 3], FIELD) for member in (1, 3)]
    return np.array(
        [(weights[0] * a + weights[1] * b) % FIELD for a, b in zip(one.values, three.values, strict=True)], dtype=np.uint64
    )


def test_the_material_is_complete_and_compact(world) -> None:
    material = world.ceremony.material
    assert EpochMaterial.from_bytes(material.to_bytes()) == material
    assert [circuit.name for circuit in material.circuits] == [spec.name for spec in SPECS]
    assert len(material.classes) == 1
    assert (material.members, material.threshold, len(world.ceremony.shares)) == (3, 2, 3)
    assert len(material.evaluation_keys) < 30_000_000
    assert len(material.public_key) < 16_500
    assert parse_encoding(material.encoding).to_json() == material.encoding
    assert material.flooding_bits >= 6
    assert material.max_decryptions >= 1000


def test_two_shares_make_the_key_and_one_does_not(world) -> None:
    bits = secret_bits(world)
    assert set(bits.tolist()) == {0, 1}
    key = world.key
    noise = key.b - _product(key.a, bits.astype(np.int64))
    assert np.abs(noise.view(np.int64)).max() < 2.0**64 * key.deviation * 8
    assert min(KeyShare.from_secret(world.ceremony.shares[0]).values) > 1


def test_no_public_artifact_holds_the_secret(world) -> None:
    bits = secret_bits(world)
    packed, words = np.packbits(bits.astype(np.uint8)).tobytes(), bits.astype("<u8").tobytes()
    public = world.ceremony.material.to_bytes()
    for form in (packed, words, np.packbits(bits.astype(np.uint8), bitorder="little").tobytes(), bits.astype(np.uint8).tobytes()):
        assert form[:64] not in public
    assert "reveal" not in repr(world.ceremony)


@pytest.mark.asyncio(loop_scope="session")
async def test_outputs_have_the_noise_that_the_budget_assumes(world, evaluator) -> None:
    bits = secret_bits(world)
    errors = []
    for _ in range(4):
        telemetry = [world.raw_telemetry(3) for _ in range(4)]
        done = await evaluator.evaluate(CIRCUIT, world.raw_demand(), telemetry)
        for row, bit in zip(vectors.open_result(done.result, world.key.name), world.open(done.result), strict=True):
            phase = int(row[-1]) - int((row[:-1] * bits).sum(dtype=np.uint64))
            errors.append((phase - (bit << 62) + 2**63) % 2**64 - 2**63)
    measured = float(np.log2(np.std(errors)))
    print(f"output noise 2^{measured:.1f}, largest 2^{np.log2(np.abs(errors).max()):.1f}")
    assert OUTPUT_NOISE_LOG2["plain"] - 6 < measured <= OUTPUT_NOISE_LOG2["plain"] + 0.5


def test_a_share_of_another_ceremony_is_refused(world) -> None:
    share = KeyShare.from_secret(world.ceremony.shares[0])
    foreign = vectors.pack_result(vectors.KeyName(1, b"\0" * 16), np.zeros((5, vectors.DIMENSION + 1), dtype=np.uint64))
    with pytest.raises(CiphertextInvalid):
        world.decryptors[share.member].partial(foreign, [1, 2])


def test_the_node_side_does_not_import_concrete() -> None:
    parts = "encryptor decryptor combiner evaluator ceremony sharing material"
    code = (
        "import sys\n"
        + "".join(f"import veil.fhe.{part}\n" for part in parts.split())
        + "heavy = [name for name in sys.modules if name.split('.')[0] in ('concrete', 'torch', 'mlir', 'scipy', 'capnp')]\n"
        "sys.exit(', '.join(heavy[:5]) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _product(a: np.ndarray, small: np.ndarray) -> np.ndarray:
    from veil.fhe.ring import negacyclic_product

    return negacyclic_product(a, small)

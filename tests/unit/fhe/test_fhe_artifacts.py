"""Frames, epoch material and ceremony plans: read as written, or refused."""

import io

import pytest

from veil.errors import CiphertextInvalid, ConfigInvalid
from veil.fhe import frames
from veil.fhe.ceremony_plan import make_plan
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.material import CircuitMaterial, EpochMaterial
from veil.types import Digest, Epoch

FOUR = CircuitSpec("default", "choose", 4)
IMPOSSIBLE = (
    CircuitSpec("default", "choose", 65),
    CircuitSpec("default", "choose", 1),
    CircuitSpec("default", "rank", 17),
    CircuitSpec("precise", "rank", 20),
    CircuitSpec("precise", "choose", 12),
)
MATERIAL = EpochMaterial(
    epoch=Epoch(2),
    parameters="plain",
    members=3,
    threshold=2,
    public_key=b"public",
    evaluation_keys=b"evaluation",
    circuits=(
        CircuitMaterial(name="default-choose-4", profile="default", shape="choose", candidates=4, server=b"zip", client=b"{}"),
    ),
    encoding=b"{}",
    known_input=frames.pack([b"demand", b"telemetry"]),
    classes=(Digest(bytes(32)),),
    flooding_bits=6,
    max_decryptions=1000,
)


def test_material_is_read_as_written() -> None:
    assert EpochMaterial.from_bytes(MATERIAL.to_bytes()) == MATERIAL


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 20, -1])
def test_damaged_material_is_refused(cut: int) -> None:
    with pytest.raises(CiphertextInvalid):
        EpochMaterial.from_bytes(MATERIAL.to_bytes()[:cut])


def test_material_with_a_part_missing_is_refused() -> None:
    parts = frames.unpack(MATERIAL.to_bytes())
    for bad in (parts[:-1], [*parts, b""], [b"[]", *parts[1:]], []):
        with pytest.raises(CiphertextInvalid):
            EpochMaterial.from_bytes(frames.pack(bad))


def test_frames_come_off_a_stream_one_by_one() -> None:
    stream = io.BytesIO(frames.framed([b"a", b""]) + frames.framed([]) + b"\0\0")
    assert frames.read_frame(stream.read) == [b"a", b""]
    assert frames.read_frame(stream.read) == []
    assert frames.read_frame(stream.read) is None


def test_frames_have_limits() -> None:
    with pytest.raises(CiphertextInvalid):
        frames.unpack((frames.PARTS_MAX + 1).to_bytes(4, "big"))
    with pytest.raises(CiphertextInvalid):
        frames.read_frame(io.BytesIO((frames.FRAME_MAX_BYTES + 1).to_bytes(8, "big")).read)


@pytest.mark.parametrize(("members", "threshold"), [(3, 2), (1, 1), (5, 3), (5, 5), (64, 33)])
def test_sound_quorums_are_planned(members: int, threshold: int) -> None:
    assert make_plan(1, members, threshold, (FOUR,), "flooded").threshold == threshold


@pytest.mark.parametrize(
    ("epoch", "members", "threshold", "circuits", "parameters"),
    [
        (1, 4, 2, (FOUR,), "plain"),
        (1, 3, 1, (FOUR,), "plain"),
        (1, 3, 0, (FOUR,), "plain"),
        (1, 3, 4, (FOUR,), "plain"),
        (1, 65, 40, (FOUR,), "plain"),
        (0, 3, 2, (FOUR,), "plain"),
        (1, 3, 2, (), "plain"),
        (1, 3, 2, (FOUR, FOUR), "plain"),
        *((1, 3, 2, (spec,), "plain") for spec in IMPOSSIBLE),
        (1, 3, 2, (FOUR,), "simulated"),
        (1, 64, 33, (FOUR,), "plain"),
    ],
)
def test_others_are_refused(epoch: int, members: int, threshold: int, circuits: tuple[CircuitSpec, ...], parameters: str) -> None:
    with pytest.raises(ConfigInvalid):
        make_plan(epoch, members, threshold, circuits, parameters)

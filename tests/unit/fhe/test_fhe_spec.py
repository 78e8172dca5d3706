"""Which circuits an epoch has, and what an encoding of other sizes keeps."""

import pytest

from veil.errors import ConfigInvalid
from veil.fhe import vectors
from veil.fhe.circuits.spec import CircuitSpec, check_spec, circuits_of
from veil.wire.codec import MESSAGE_MAX_BYTES


def test_an_epoch_has_every_circuit_that_exists() -> None:
    names = [spec.name for spec in circuits_of(("default", "precise"), (4, 16))[:2]]
    assert names == ["default-choose-4", "default-choose-16"]
    shapes = {(spec.profile, spec.shape, spec.candidates) for spec in circuits_of(("default",), (4, 20, 32))}
    assert ("default", "rank", 32) in shapes
    assert ("default", "rank", 20) not in shapes
    assert ("default", "choose", 20) in shapes
    assert len(circuits_of(("precise",), (4, 8, 16, 32, 64))) == 10


@pytest.mark.parametrize("key", [("default", "choose", 1), ("default", "choose", 65), ("precise", "choose", 12)])
def test_impossible_ones_say_why(key: tuple[str, str, int]) -> None:
    with pytest.raises(ConfigInvalid) as refusal:
        check_spec(CircuitSpec(*key))
    assert refusal.value.hint
    with pytest.raises(ConfigInvalid):
        circuits_of((key[0],), (4, key[2]))


def test_the_longest_result_fits_in_a_message() -> None:
    longest = max(spec.result_bits for spec in circuits_of(("default", "precise"), (4, 8, 16, 32, 64)))
    assert longest == vectors.RESULT_BITS_MAX
    assert longest * (vectors.DIMENSION + 1) * 8 < MESSAGE_MAX_BYTES * 0.8

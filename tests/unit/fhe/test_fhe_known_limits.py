"""What the scheme does not stop, asserted so that the threat model stays true (docs/internals/threat-model.md)."""

import numpy as np
import pytest
from fhe_committee import KEY, SECRET

from veil.fhe import vectors
from veil.fhe.encoding import MESSAGE_BITS

STEP = 1 << (63 - MESSAGE_BITS)


@pytest.mark.parametrize("place", [0, 3, 8])
def test_a_well_formed_vector_can_hold_a_bit_of_the_key_as_a_digit(place: int) -> None:
    """No proof of plaintext knowledge: whether such a candidate is chosen tells that bit to whoever sees decisions."""
    for start in range(16):
        mask = np.zeros(vectors.DIMENSION, dtype=np.uint64)
        mask[start] = STEP
        data = vectors.pack_vector(vectors.TELEMETRY, KEY.name, mask, vectors.encode([5] * 9))
        vectors.check_vector(data, vectors.TELEMETRY, KEY.name, 9)
        row = vectors.expand(data)[place]
        phase = int(row[-1]) - int((row[:-1] * SECRET.astype(np.uint64)).sum(dtype=np.uint64))
        wanted = int(SECRET[place - start]) if place >= start else -int(SECRET[place - start])
        assert phase % 2**64 // STEP == 5 - wanted

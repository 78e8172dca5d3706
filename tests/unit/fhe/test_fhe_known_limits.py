"""What the scheme does not stop, asserted so that the threat model stays true (docs/internals/threat-model.md)."""

import numpy as np
import pytest
from fhe_committee import KEY, SECRET

from veil.fhe import selection, vectors
from veil.fhe.encoding import MESSAGE_BITS, SLOTS
from veil.fhe.ring import extract

STEP = 1 << (63 - MESSAGE_BITS)


def phase(row: np.ndarray) -> int:
    return (int(row[-1]) - int((row[:-1] * SECRET.astype(np.uint64)).sum(dtype=np.uint64))) % 2**64


@pytest.mark.parametrize("slot", [0, 3, 2047])
def test_a_well_formed_table_can_hold_a_bit_of_the_key(slot: int) -> None:
    """No proof of plaintext knowledge: whether such a candidate is chosen tells that bit to whoever sees decisions."""
    for start in range(16):
        mask = np.zeros(SLOTS, dtype=np.uint64)
        mask[start] = STEP
        sent = vectors.pack_telemetry(KEY.name, np.stack([mask, vectors.encode([5] * SLOTS)]))
        read = vectors.open_telemetry(sent, KEY.name)
        wanted = int(SECRET[slot - start]) if slot >= start else -int(SECRET[slot - start])
        assert phase(extract(read[0], read[1], slot)) // STEP == 5 - wanted


def test_a_well_formed_demand_can_weigh_slots() -> None:
    """No proof that it is a monomial either: it may take one slot three times and another away."""
    generator = np.random.default_rng(6)
    table = generator.integers(0, 3, SLOTS, dtype=np.uint8)
    ciphertext = vectors.open_telemetry(selection.encrypt_table(KEY, table), KEY.name)[None]
    rows = KEY.encrypt(np.zeros((2, SLOTS), dtype=np.uint64))
    selector = np.zeros(SLOTS, dtype=np.uint64)
    selector[0], selector[SLOTS - 9] = 3, 1  # three times slot 0, less slot 9
    rows[0, 0] += selector << np.uint64(43)
    rows[1, 1] += selector << np.uint64(43)
    demand = vectors.open_demand(vectors.pack_demand(KEY.name, rows), KEY.name)
    found = (phase(selection.Selector(demand).select(ciphertext)[0, 0]) + STEP // 2) // STEP % 32
    assert found == (3 * int(table[0]) - int(table[9])) % 32


def test_a_well_formed_demand_can_lift_what_is_below_a_level() -> None:
    """Who knows a candidate's mask then reads a sum of bits of the key, in a level: the digits' phase modulo 64."""
    ciphertext = KEY.encrypt(vectors.encode([5] * SLOTS))[None]
    lifted = np.zeros((2, 2, SLOTS), dtype=np.uint64)
    lifted[0, 0, 0] = lifted[1, 1, 0] = 1 << 58
    demand = vectors.open_demand(vectors.pack_demand(KEY.name, lifted), KEY.name)
    row = extract(ciphertext[:, 0], ciphertext[:, 1], 0)[0]
    digits = (row + np.uint64(1 << 42)).view(np.int64) >> 43
    sum_of_key = int((digits[:-1] * SECRET).sum())
    assert phase(selection.Selector(demand).select(ciphertext)[0, 0]) == (int(digits[-1]) - sum_of_key) % 64 << 58

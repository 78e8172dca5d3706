"""What hides a partial decryption: flooding noise, a carry and a zero-share, all derived, so that asking twice says nothing new.

A flood is a sum of four uniform integers: bounded, exactly sampled, and smooth at its ends (:mod:`veil.fhe.flooding` has what
that is worth). The carry is a multiple of 2^64 that hides by how much the scalar product exceeds the torus. Both are functions
of the member's share, the ciphertext and the subset. A zero-share is the member's part of a sharing of zero among the subset,
from seeds that each pair of members has in common: it makes each partial uniform alone and goes away in the sum, so that
an opening says the sum and nothing about its terms.
"""

import hashlib
from collections.abc import Mapping, Sequence

from veil.fhe.flooding import CARRY_BITS, UNIFORMS, uniform_bound
from veil.fhe.quorum import Subset
from veil.fhe.threshold import FIELD, VALUE_BYTES

_DRAW_BYTES = 16
"""For one uniform value of at most 61 bits: the bias of a remainder is below 2^-67."""

_CARRY_BYTES = 8


def floods(seed: bytes, rows: Sequence[bytes], subset: Subset) -> list[int]:
    """Flood and carry for each row (its digest), for the member that has ``seed``."""
    bound = uniform_bound(len(subset))
    common = hashlib.shake_256(b"veil/flood/2" + seed + _named(subset))
    drawn = []
    for row in rows:
        hasher = common.copy()
        hasher.update(row)
        stream = hasher.digest(UNIFORMS * _DRAW_BYTES + _CARRY_BYTES)
        carry = int.from_bytes(stream[-_CARRY_BYTES:], "little") >> (64 - CARRY_BITS)
        draws = (stream[start : start + _DRAW_BYTES] for start in range(0, UNIFORMS * _DRAW_BYTES, _DRAW_BYTES))
        flood = sum(int.from_bytes(draw, "little") % (2 * bound + 1) - bound for draw in draws)
        drawn.append(flood + (carry << 64))
    return drawn


def zero_shares(pairwise: Mapping[int, bytes], result: bytes, member: int, subset: Subset, count: int) -> list[int]:
    """``member``'s share of zero among ``subset`` for each of ``count`` rows of the result that has the digest ``result``."""
    totals = [0] * count
    for other in subset:
        if other == member:
            continue
        stream = hashlib.shake_256(b"veil/zero-share/1" + pairwise[other] + _named(subset) + result).digest(count * VALUE_BYTES)
        sign = 1 if member < other else -1
        for place in range(count):
            word = int.from_bytes(stream[place * VALUE_BYTES : (place + 1) * VALUE_BYTES], "little")
            totals[place] += sign * (word & FIELD)
    return [total % FIELD for total in totals]


def _named(subset: Subset) -> bytes:
    return bytes([len(subset), *subset])

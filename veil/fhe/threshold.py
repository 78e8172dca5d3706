"""Decryption of one bit by a set of share holders: the arithmetic, on integers and rows, with its noise budget.

The secret bits are shared over F_p with p = 2^127-1, because no such sharing exists over Z_2^64 (differences of points must
be units). A partial is lambda * <mask, share> plus two maskings: flooding noise, which hides the ciphertext's own noise, and
a random multiple of 2^64, which hides the integer carry. Both are derived from share, ciphertext and set of members, so that
asking twice says nothing new. Each flood is a sum of eight uniform values: bounded, and smooth at its ends, so that what a
decryption tells about the noise grows with the square of noise over flood (the ends of one uniform value tell it linearly).
"""

import hashlib
import math
import secrets
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veil.errors import CiphertextInvalid
from veil.fhe.sharing import lagrange_at_zero

FIELD = (1 << 127) - 1
SHARE_VALUE_BYTES = 16

OUTPUT_BITS = 1
"""Width of an output: one bit, so that the window for noise is as wide as it can be."""

HALF_WINDOW = 1 << (62 - OUTPUT_BITS)
"""A phase that is further than this from a message decrypts to another."""

FLOOD_TOTAL = 1 << 60
"""Bound on the sum of all members' floods: half of HALF_WINDOW."""

OUTPUT_NOISE_MAX = 1 << 57
"""Bound on an output's own noise that a combiner accepts; p_error 2^-64 keeps it far below."""

OUTPUT_NOISE_LOG2 = 49.0
"""Base-2 logarithm of the standard deviation of an output's own noise for the ``plain`` parameters; a test measures it."""

CARRY_BITS = 55
"""A mask's scalar product has less than 2^76; its carry over 2^64 (12 bits) is hidden statistically by 43 bits more."""

MEMBERS_MAX = 64

_UNIFORMS = 8
_DERIVED_BYTES = 8 * (_UNIFORMS + 1)

assert FLOOD_TOTAL + OUTPUT_NOISE_MAX < HALF_WINDOW
assert MEMBERS_MAX << (64 + CARRY_BITS + 1) < FIELD


def flood_deviation_log2(members: int) -> float:
    """Base-2 logarithm of the standard deviation of one member's flood, in a set of ``members``."""
    return math.log2(_uniform_bound(members)) + 0.5 * math.log2(_UNIFORMS / 3)


def flooding_bits(members: int) -> int:
    """By how many bits one member's flood exceeds an output's own noise, rounded down."""
    return int(flood_deviation_log2(members) - OUTPUT_NOISE_LOG2)


def max_decryptions(members: int, bits_per_result: int) -> int:
    """Results after which all decryptions together tell at most one nat about the noise of all ciphertexts.

    One opened bit tells about (noise / flood)^2 / 2 nats, times 1.5 for a sum of eight uniform values instead of a Gaussian.
    A stated budget, not a proof of security: knowledge of the noise is not yet knowledge of the key.
    """
    ratio = 2.0 ** (OUTPUT_NOISE_LOG2 - flood_deviation_log2(members))
    return max(1, int(1.0 / (0.75 * ratio * ratio * bits_per_result)))


def deal(secret: Sequence[int], members: int, threshold: int) -> list[list[int]]:
    """Shares of every bit of ``secret`` for members 1..``members``, of which ``threshold`` decrypt."""
    rest = [[secrets.randbelow(FIELD) for _ in secret] for _ in range(threshold - 1)]
    shares = []
    for member in range(1, members + 1):
        values = [0] * len(secret)
        for coefficients in reversed(rest):
            values = [(value + coefficient) * member % FIELD for value, coefficient in zip(values, coefficients, strict=True)]
        shares.append([(value + int(bit)) % FIELD for value, bit in zip(values, secret, strict=True)])
    return shares


def partial(row: npt.NDArray[np.uint64], share: Sequence[int], seed: bytes, member: int, members: Sequence[int]) -> int:
    """One member's part of the phase of ``row`` (mask, body), for exactly the set ``members``; ``seed`` is its PRF key."""
    product = sum(int(word) * value for word, value in zip(row[:-1].tolist(), share, strict=True)) % FIELD
    weight = lagrange_at_zero(member, list(members), FIELD)
    return (weight * product + _masking(seed, row, members)) % FIELD


def open_bit(row: npt.NDArray[np.uint64], parts: Sequence[int]) -> int:
    """The bit of ``row``. Raises CiphertextInvalid when the parts do not add up to one."""
    total = (int(row[-1]) - sum(parts)) % FIELD
    phase = (total - FIELD if total > FIELD // 2 else total) % (1 << 64)
    unit = 2 * HALF_WINDOW
    message = ((phase + HALF_WINDOW) // unit) % ((1 << 64) // unit)
    noise = (phase - message * unit + (1 << 63)) % (1 << 64) - (1 << 63)
    if message not in (0, 1) or abs(noise) > FLOOD_TOTAL + OUTPUT_NOISE_MAX:
        raise CiphertextInvalid(
            "the partial decryptions do not add up to a bit", hint="a member sent a wrong partial: use another set"
        )
    return int(message)


def _uniform_bound(members: int) -> int:
    return FLOOD_TOTAL // (_UNIFORMS * members)


def _masking(seed: bytes, row: npt.NDArray[np.uint64], members: Sequence[int]) -> int:
    """Flood and carry: a function of the share, the ciphertext and the set, and of nothing else."""
    hasher = hashlib.shake_256(b"veil/flood/1" + seed)
    hasher.update(bytes([len(members), *members]))
    hasher.update(row.astype("<u8").tobytes())
    words = np.frombuffer(hasher.digest(_DERIVED_BYTES), dtype="<u8").tolist()
    bound = _uniform_bound(len(members))
    flood = sum(word % (2 * bound + 1) - bound for word in words[:_UNIFORMS])
    return int(flood + ((words[_UNIFORMS] >> (64 - CARRY_BITS)) << 64))

"""Decryption of bits by subsets of share holders: the arithmetic, on integers and rows.

The secret bits are shared over F_p with p = 2^127-1, because no such sharing exists over Z_2^64 (differences of points must
be units). A partial is lambda * <mask, share> plus what hides it (:mod:`veil.fhe.masking`). The scalar product is the same
in every subset, so it is computed once; for all rows at once it is one product of matrices of limbs, narrow enough for every
sum to be exact in doubles.
"""

import secrets
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from veil.fhe.sharing import lagrange_at_zero

FIELD = (1 << 127) - 1
VALUE_BYTES = 16
MEMBERS_MAX = 64

BIT = 1 << 62
"""What stands for 1 in an output: below it and the padding bit above is room for noise."""

HALF_WINDOW = BIT // 2
"""A phase that is further than this from a message decrypts to another."""

Limbs = npt.NDArray[np.float64]

_MASK_LIMB_BITS = 22
_MASK_LIMBS = 3
_SHARE_LIMB_BITS = 20
_SHARE_LIMBS = 7
_DIMENSION_MAX = 2048

assert _MASK_LIMBS * _MASK_LIMB_BITS >= 64
assert _SHARE_LIMBS * _SHARE_LIMB_BITS >= 127
assert _DIMENSION_MAX << (_MASK_LIMB_BITS + _SHARE_LIMB_BITS) <= 1 << 53


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


def limbs(share: Sequence[int]) -> Limbs:
    """A share as a matrix (elements, limbs), which :func:`products` takes."""
    mask = (1 << _SHARE_LIMB_BITS) - 1
    parts = [[(value >> (_SHARE_LIMB_BITS * index)) & mask for index in range(_SHARE_LIMBS)] for value in share]
    return np.array(parts, dtype=np.float64)


def products(rows: npt.NDArray[np.uint64], share: Limbs) -> list[int]:
    """<mask, share> in F_p for each of ``rows`` (mask, body)."""
    masks = rows[:, :-1]
    low = np.uint64((1 << _MASK_LIMB_BITS) - 1)
    shifts = [np.uint64(_MASK_LIMB_BITS * index) for index in range(_MASK_LIMBS)]
    split = np.concatenate([((masks >> shift) & low).astype(np.float64) for shift in shifts])
    sums = (split @ share).astype(np.int64).reshape(_MASK_LIMBS, len(rows), _SHARE_LIMBS)
    totals = [0] * len(rows)
    for mask_limb in range(_MASK_LIMBS):
        for share_limb in range(_SHARE_LIMBS):
            shift_bits = _MASK_LIMB_BITS * mask_limb + _SHARE_LIMB_BITS * share_limb
            for place, value in enumerate(sums[mask_limb, :, share_limb].tolist()):
                totals[place] += value << shift_bits
    return [total % FIELD for total in totals]


def weight(member: int, subset: Sequence[int]) -> int:
    """The factor of ``member``'s product when exactly ``subset`` decrypts."""
    return lagrange_at_zero(member, list(subset), FIELD)


def open_bits(rows: npt.NDArray[np.uint64], parts: Iterable[Sequence[int]]) -> list[int] | None:
    """The bits of ``rows`` from one subset's partials, each a field element a row; None when they are no bits."""
    bits = []
    for body, *terms in zip(rows[:, -1].tolist(), *parts, strict=True):
        total = (body - sum(terms)) % FIELD
        phase = (total - FIELD if total > FIELD // 2 else total) % (1 << 64)
        bits.append((phase + HALF_WINDOW) // BIT % ((1 << 64) // BIT))
    return bits if all(bit in (0, 1) for bit in bits) else None

"""What a candidate answers to a demand, without either being seen: the external product of TFHE.

A candidate's table is one RLWE ciphertext (A, B) whose coefficients are its slots. A demand is an RGSW ciphertext of
``M = sum of X^-slot``: two rows, encryptions of zero with ``M * 2^43`` added to the mask of the first and to the body of the
second. No secret is needed for that: what is added to a mask has the phase ``-M * 2^43 * s``. With digits d(A), d(B), the
highest 21 bits of each coefficient, rounded and centred,

    d(A) * row 0 + d(B) * row 1    has the phase    M * (B - A s) + noise,

and its constant coefficient is the sum of the table's selected slots (Chillotti, Gama, Georgieva, Izabachène 2020, section 3.3),
its k-th that of the slots k further. A coefficient is one LWE ciphertext under the circuits' own
input key: extracted, not computed.

Everything is integers modulo 2^64, so all evaluators get the same bits, also from ciphertexts that nobody encrypted.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veil.fhe import ring, vectors
from veil.fhe.encoding import SELECTED_MAX
from veil.fhe.publickey import PublicKey

DIGIT_BITS = 21
"""Of the decomposition, which has one level: fewer lose precision of the table, more take up the rows' noise."""

_GADGET_LOG2 = 64 - DIGIT_BITS

_LIMBS = (16, 28, 40, 52)
"""Of rows, whose lowest 16 bits are not sent. Two products of 2048 terms, 12 and 20 bits: 2^44."""

NOISE_LOG2 = 48.0
"""Standard deviation of a selected sum, at most, of 2^64: :func:`noise_deviation` says why; a value may be off by 2^58."""


def encrypt_table(key: PublicKey, table: Sequence[int] | npt.NDArray[np.uint8]) -> bytes:
    """A telemetry vector of one value 0..15 for each slot."""
    return vectors.pack_telemetry(key.name, key.encrypt(vectors.encode(table)))


def encrypt_demand(key: PublicKey, slots: tuple[int, ...]) -> bytes:
    """A demand vector that selects ``slots``."""
    assert 1 <= len(slots) <= SELECTED_MAX
    rows = key.encrypt(np.zeros((2, vectors.DIMENSION), dtype=np.uint64))
    selector = ring.monomials(slots, vectors.DIMENSION).view(np.uint64) << np.uint64(_GADGET_LOG2)
    rows[0, 0] += selector
    rows[1, 1] += selector
    return vectors.pack_demand(key.name, rows)


class Selector:
    """A demand, prepared to select from many tables."""

    def __init__(self, demand: ring.Polynomial) -> None:
        """``demand`` as :func:`veil.fhe.vectors.open_demand` gives it: (2 rows, mask and body, N)."""
        self._masks = ring.spectra(demand[:, 0], _LIMBS)
        self._bodies = demand[:, 1]

    def select(self, tables: ring.Polynomial, shifts: Sequence[int] = (0,)) -> npt.NDArray[np.uint64]:
        """Sums of the slots that are ``shifts`` after the selected ones, from tables (n, mask and body, N).

        LWE rows (shifts, n, N + 1), all from one product.
        """
        digits = _digits(tables)
        masks = ring.sum_of_products(self._masks, digits)
        flat = digits.view(np.uint64).reshape(len(digits), -1)
        rows = [(ring.row(masks, shift), flat @ ring.row(self._bodies, shift).reshape(-1)) for shift in shifts]
        return np.stack([np.concatenate([mask, body[:, None]], axis=1) for mask, body in rows])


def noise_deviation(key: PublicKey, slots: int = SELECTED_MAX) -> float:
    """Of a selected sum of so many slots, at most, of 2^64.

    What a digit leaves of A meets s, and what it leaves of B stands alone, both once a slot; half of the ones of s meet the same
    in two slots that are close together, so that each two add the variance of one. Each row's own noise, and what the wire
    rounds off it, meets digits of 2 N coefficients.
    """
    degree = vectors.DIMENSION
    met = degree / 2 + 1
    fresh = (key.noise_deviation * 2.0**64) ** 2
    table = fresh + met * (2.0 ** (2 * _GADGET_LOG2) + 2.0 ** (2 * (64 - vectors.TELEMETRY_BITS))) / 12
    row = fresh + met * 2.0 ** (2 * (64 - vectors.DEMAND_BITS)) / 12
    return math.sqrt(slots * (slots + 1) / 2 * table + 2 * degree * 2.0 ** (2 * DIGIT_BITS) / 12 * row)


def _digits(words: ring.Polynomial) -> ring.Small:
    """The highest DIGIT_BITS of each word, rounded, in -2^20..2^20 - 1."""
    return (words + np.uint64(1 << (_GADGET_LOG2 - 1))).view(np.int64) >> _GADGET_LOG2

"""Arithmetic in Z_2^64[X]/(X^N+1) and the randomness of encryption, vectorised, exact.

Products with small integers go through floating-point FFTs of limbs that are narrow enough for every sum to be exact.
All randomness is the operating system's.
"""

import math
import os

import numpy as np
import numpy.typing as npt

Polynomial = npt.NDArray[np.uint64]
Small = npt.NDArray[np.int64]

_LIMB_BITS = 16
"""Four limbs; sums of 2048 products of 16 bits with -1, 0, 1 stay below 2^28, far below what a double holds exactly."""

_TWO_64 = 2.0**64


def negacyclic_product(a: Polynomial, small: Small) -> Polynomial:
    """``a(X) * small(X)`` mod X^N+1 and 2^64 for coefficients of ``small`` in -1..1; N at most 2^20."""
    degree = len(a)
    shifts = np.arange(0, 64, _LIMB_BITS, dtype=np.uint64)
    limbs = ((a[None, :] >> shifts[:, None]) & np.uint64((1 << _LIMB_BITS) - 1)).astype(np.float64)
    spectrum = np.fft.rfft(limbs, 2 * degree) * np.fft.rfft(small.astype(np.float64), 2 * degree)
    full = np.rint(np.fft.irfft(spectrum, 2 * degree)).astype(np.int64)
    wrapped = (full[:, :degree] - full[:, degree:]).view(np.uint64)
    product: Polynomial = (wrapped << shifts[:, None]).sum(axis=0, dtype=np.uint64)
    return product


def extract_masks(a: Polynomial, coefficients: int) -> npt.NDArray[np.uint64]:
    """Sample extraction: row i is the mask of the LWE ciphertext of coefficient i, for i < ``coefficients`` <= N.

    Coefficient i of ``a * s`` is the scalar product of that row with s (Joye, "TFHE Public-Key Encryption Revisited", 2024).
    """
    degree = len(a)
    extended = np.concatenate([np.uint64(0) - a, a])
    index = degree + np.arange(coefficients)[:, None] - np.arange(degree)[None, :]
    rows: npt.NDArray[np.uint64] = extended[index]
    return rows


def gaussian(count: int, deviation: float) -> Polynomial:
    """Rounded centred Gaussians as two's complement; ``deviation`` as a fraction of the torus (standard deviation / 2^64)."""
    half = (count + 1) // 2
    draws = np.frombuffer(os.urandom(16 * half), dtype=np.uint64) >> np.uint64(11)
    uniform = (draws.astype(np.float64) + 1.0) / 2.0**53
    radius = np.sqrt(-2.0 * np.log(uniform[:half]))
    angle = 2.0 * math.pi * uniform[half:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    words: Polynomial = np.rint(normal * (deviation * _TWO_64)).astype(np.int64).view(np.uint64)
    return words


def ternary(count: int) -> Small:
    """Uniform -1, 0, 1: centred, so that the key's noise adds no bias."""
    kept = np.empty(0, dtype=np.uint8)
    while len(kept) < count:
        draws = np.frombuffer(os.urandom(count + 64), dtype=np.uint8)
        kept = np.concatenate([kept, draws[draws < 255]])
    return (kept[:count] % 3).astype(np.int64) - 1

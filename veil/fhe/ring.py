"""Arithmetic in Z_2^64[X]/(X^N+1) and the randomness of encryption, vectorised, exact.

Products with small integers go through floating-point FFTs of limbs that are narrow enough for every sum to be exact: all
machines get the same integers. All randomness is the operating system's.
"""

import math
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Polynomial = npt.NDArray[np.uint64]
"""Coefficients in the last axis, from the constant one."""

Small = npt.NDArray[np.int64]

WORDS = (0, 16, 32, 48)
"""Limbs of 16 bits for whole words times -1, 0, 1: sums of 2048 products stay below 2^28."""

_TWO_64 = 2.0**64


@dataclass(frozen=True)
class Spectra:
    """Polynomials cut into limbs and transformed, for products with many others.

    ``values`` is (..., limbs, N + 1), a Fourier transform of 2 N points each; limb i has the bits from ``shifts[i]`` on.
    """

    values: npt.NDArray[np.complex128]
    shifts: tuple[int, ...]


def spectra(words: Polynomial, shifts: tuple[int, ...] = WORDS) -> Spectra:
    """Limbs of equal width from each of ``shifts`` to the next; what is below the first one must be 0."""
    degree = words.shape[-1]
    width = shifts[1] - shifts[0]
    starts = np.array(shifts, dtype=np.uint64)
    limbs = (words[..., None, :] >> starts[:, None]) & np.uint64((1 << width) - 1)
    return Spectra(np.fft.rfft(limbs.astype(np.float64), 2 * degree), shifts)


def sum_of_products(transformed: Spectra, small: Small) -> Polynomial:
    """``sum over i of polynomial[i] * small[..., i, :]`` mod X^N+1 and 2^64, for ``transformed`` of shape (terms, limbs, N + 1).

    Exact while terms * N * 2^(a limb's width) * max |small| is at most 2^44: the transforms' rounding stays far below 1/2 then,
    for any coefficients (Higham, "Accuracy and Stability of Numerical Algorithms", chapter 24).
    """
    degree = small.shape[-1]
    factors = np.fft.rfft(small.astype(np.float64), 2 * degree)
    spectrum = np.einsum("tlk,...tk->...lk", transformed.values, factors)
    full = np.rint(np.fft.irfft(spectrum, 2 * degree)).astype(np.int64)
    wrapped = (full[..., :degree] - full[..., degree:]).view(np.uint64)
    starts = np.array(transformed.shifts, dtype=np.uint64)
    product: Polynomial = (wrapped << starts[:, None]).sum(axis=-2, dtype=np.uint64)
    return product


def negacyclic_product(a: Polynomial, small: Small) -> Polynomial:
    """``a(X) * small(X)`` mod X^N+1 and 2^64 for coefficients of ``small`` in -1..1; N at most 2^20."""
    return sum_of_products(spectra(a[None]), small[..., None, :])


def row(polynomial: Polynomial, coefficient: int) -> Polynomial:
    """The row whose scalar product with another polynomial's coefficients is that coefficient of their product."""
    return np.concatenate([polynomial[..., coefficient::-1], np.uint64(0) - polynomial[..., :coefficient:-1]], axis=-1)


def extract(a: Polynomial, b: Polynomial, coefficient: int) -> npt.NDArray[np.uint64]:
    """Sample extraction: the LWE ciphertexts (..., N + 1), mask then body, of one coefficient of the RLWE ones (a, b).

    That coefficient of ``a * s`` is the scalar product of the mask with s (Chillotti and others 2020, section 4.2).
    """
    return np.concatenate([row(a, coefficient), b[..., coefficient : coefficient + 1]], axis=-1)


def monomials(exponents: tuple[int, ...], degree: int) -> Small:
    """``sum of X^-k`` over ``exponents`` k in 0..N-1; X^-k is -X^(N-k)."""
    polynomial = np.zeros(degree, dtype=np.int64)
    for exponent in exponents:
        polynomial[-exponent % degree] += -1 if exponent else 1
    return polynomial


def gaussian(shape: int | tuple[int, ...], deviation: float) -> Polynomial:
    """Rounded centred Gaussians as two's complement; ``deviation`` as a fraction of the torus (standard deviation / 2^64)."""
    count = int(np.prod(shape))
    half = (count + 1) // 2
    draws = np.frombuffer(os.urandom(16 * half), dtype=np.uint64) >> np.uint64(11)
    uniform = (draws.astype(np.float64) + 1.0) / 2.0**53
    radius = np.sqrt(-2.0 * np.log(uniform[:half]))
    angle = 2.0 * math.pi * uniform[half:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count].reshape(shape)
    words: Polynomial = np.rint(normal * (deviation * _TWO_64)).astype(np.int64).view(np.uint64)
    return words


def ternary(shape: int | tuple[int, ...]) -> Small:
    """Uniform -1, 0, 1: centred, so that the key's noise adds no bias."""
    count = int(np.prod(shape))
    kept = np.empty(0, dtype=np.uint8)
    while len(kept) < count:
        draws = np.frombuffer(os.urandom(count + 64), dtype=np.uint8)
        kept = np.concatenate([kept, draws[draws < 255]])
    return ((kept[:count] % 3).astype(np.int64) - 1).reshape(shape)

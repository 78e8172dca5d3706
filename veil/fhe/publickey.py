"""Public-key encryption for circuits whose compiler has none.

The circuits' input key is a binary vector of 2048 bits: read as a ring element s, one RLWE sample (a from a seed,
b = a*s + e) is a public key. (a*r + e1, b*r + e2 + m) with fresh r, e1, e2 encrypts 2048 coefficients m at once
(Joye, "TFHE Public-Key Encryption Revisited", 2024). The noise this adds is about 2^20 of 2^64.
"""

import hashlib
import math
import os
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from veil.errors import CiphertextInvalid
from veil.fhe import ring, vectors

_HEADER = struct.Struct(">4sBxHQId32s")
_MAGIC = b"VLPK"
_VERSION = 1
_DEVIATION_MAX = 2.0**-40
"""A public key that asks for more noise than this is not one of ours, and would not decrypt."""


@dataclass(frozen=True)
class PublicKey:
    """One epoch's public key."""

    epoch: int
    deviation: float
    """Standard deviation of fresh noise as a fraction of the torus: the circuits' own input parameter."""
    seed: bytes
    b: npt.NDArray[np.uint64]

    @cached_property
    def a(self) -> npt.NDArray[np.uint64]:
        stream = hashlib.shake_256(b"veil/public-key-mask/1" + self.seed).digest(8 * vectors.DIMENSION)
        return np.frombuffer(stream, dtype="<u8").astype(np.uint64)

    @cached_property
    def _spectra(self) -> tuple[ring.Spectra, ring.Spectra]:
        return ring.spectra(self.a[None]), ring.spectra(self.b[None])

    @cached_property
    def name(self) -> vectors.KeyName:
        return vectors.KeyName(self.epoch, hashlib.sha256(self.to_bytes()).digest()[:16])

    def to_bytes(self) -> bytes:
        header = _HEADER.pack(_MAGIC, _VERSION, 0, self.epoch, vectors.DIMENSION, self.deviation, self.seed)
        return header + self.b.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "PublicKey":
        """Raises CiphertextInvalid unless ``data`` is a key of this version with usable parameters."""
        if len(data) != _HEADER.size + 8 * vectors.DIMENSION:
            raise CiphertextInvalid(f"a public key of {len(data)} bytes", hint="fetch the epoch's public key again")
        magic, version, zero, epoch, dimension, deviation, seed = _HEADER.unpack_from(data)
        if (magic, version, zero, dimension) != (_MAGIC, _VERSION, 0, vectors.DIMENSION) or not 0 < deviation <= _DEVIATION_MAX:
            raise CiphertextInvalid(
                "a public key of an unknown form", hint="check that veil has the version of the epoch's dealer"
            )
        b = np.frombuffer(data, dtype="<u8", offset=_HEADER.size).astype(np.uint64)
        key = cls(epoch, deviation, seed, b)
        if key.to_bytes() != data:
            raise CiphertextInvalid("a public key that is not canonical", hint="check the epoch's publisher")
        return key

    def encrypt(self, plaintexts: ring.Polynomial) -> ring.Polynomial:
        """Fresh RLWE ciphertexts (..., 2, N), mask and body, of polynomials (..., N) of torus elements; about 1 ms each."""
        r = ring.ternary(plaintexts.shape)[..., None, :]
        noise = ring.gaussian((*plaintexts.shape[:-1], 2, plaintexts.shape[-1]), self.deviation)
        noise[..., 1, :] += plaintexts
        return np.stack([ring.sum_of_products(part, r) for part in self._spectra], axis=-2) + noise

    @property
    def noise_deviation(self) -> float:
        """Of a fresh ciphertext, as a fraction of the torus: e*r + e2 - e1*s for ternary r and binary s."""
        return self.deviation * math.sqrt(vectors.DIMENSION * 2 / 3 + 1 + vectors.DIMENSION / 2)


def generate(secret: npt.NDArray[np.int64], deviation: float, epoch: int) -> PublicKey:
    """The ceremony's part: a public key for the secret bits."""
    if secret.shape != (vectors.DIMENSION,) or not np.isin(secret, (0, 1)).all():
        raise CiphertextInvalid(
            "the circuits' input key is no ring key", hint="the compiler chose other parameters: see the circuits' tests"
        )
    key = PublicKey(epoch, deviation, os.urandom(32), np.zeros(vectors.DIMENSION, dtype=np.uint64))
    b = ring.negacyclic_product(key.a, secret) + ring.gaussian(vectors.DIMENSION, deviation)
    return PublicKey(epoch, deviation, key.seed, b)

"""A committee of five, three of which decrypt, under a key that tests know; and results under it with a given noise."""

from collections.abc import Sequence

import numpy as np

from veil.fhe import keyshare, publickey, vectors
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor

RNG = np.random.default_rng(4)
SECRET = RNG.integers(0, 2, vectors.DIMENSION)
KEY = publickey.generate(SECRET, 2.0**-49.9, 3)
BITS = [1, 0, 0, 1, 0]
THRESHOLD = 3

KEY_SHARES = keyshare.deal(KEY.name, SECRET.tolist(), 5, THRESHOLD)
DECRYPTORS = {share.member: ThresholdDecryptor(share.to_secret()) for share in KEY_SHARES}
COMBINER = ThresholdCombiner(KEY.to_bytes(), THRESHOLD)


def row(bit: int, noise: int = 0) -> np.ndarray:
    """An LWE ciphertext of ``bit`` with exactly that noise."""
    mask = RNG.integers(0, 2**64, vectors.DIMENSION, dtype=np.uint64)
    body = int((mask * SECRET.astype(np.uint64)).sum(dtype=np.uint64)) + (bit << 62) + noise
    return np.append(mask, np.uint64(body % 2**64))


def result(bits: list[int], noise: int = 1 << 52) -> bytes:
    """An evaluation's result with noise of up to ``noise``."""
    return vectors.pack_result(KEY.name, np.stack([row(bit, int(RNG.integers(-noise, noise))) for bit in bits]))


def partials(opened: bytes, quorum: Sequence[int]) -> dict[int, bytes]:
    return {member: DECRYPTORS[member].partial(opened, quorum) for member in quorum}

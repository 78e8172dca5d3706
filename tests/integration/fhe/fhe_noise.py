"""The noise of an opened result, as only somebody with all shares can see it."""

from collections.abc import Sequence

import numpy as np

from veil.fhe import vectors
from veil.fhe.keyshare import KeyShare
from veil.fhe.threshold import BIT, FIELD, weight
from veil.types import Secret


def _secret_bits(shares: Sequence[Secret]) -> np.ndarray:
    """The key that outputs are under, from the first ``threshold`` shares."""
    opened = [KeyShare.from_secret(share) for share in shares]
    subset = tuple(range(1, opened[0].threshold + 1))
    weights = [weight(member, subset) for member in subset]
    columns = zip(*(opened[member - 1].values for member in subset), strict=True)
    return np.array(
        [sum(factor * value for factor, value in zip(weights, column, strict=True)) % FIELD for column in columns],
        dtype=np.uint64,
    )


def noise_of(shares: Sequence[Secret], result: bytes, key: vectors.KeyName, bits: Sequence[int]) -> list[float]:
    """The difference of each output's phase from its bit's."""
    secret = _secret_bits(shares)
    noise = []
    for row, bit in zip(vectors.open_result(result, key), bits, strict=True):
        phase = int(row[-1]) - int((row[:-1] * secret).sum(dtype=np.uint64))
        noise.append(float((phase - bit * BIT + 2**63) % 2**64 - 2**63))
    return noise

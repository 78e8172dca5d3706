"""Shamir sharing of a short secret, such as a content key, over the field of 2^521-1.

Any ``threshold`` shares give the secret, fewer say nothing about it. Shares carry no proof: who opens something with a
joined key uses authenticated encryption, which notices a wrong share.
"""

import secrets
import struct
from collections.abc import Mapping

from veil.errors import CiphertextInvalid, LimitExceeded

FIELD = (1 << 521) - 1
SECRET_MAX_BYTES = 64
SHARES_MAX = 64

_HEADER = struct.Struct(">4sBBBB")
_MAGIC = b"VLSS"
_VERSION = 1
_VALUE_BYTES = 66
SHARE_BYTES = _HEADER.size + _VALUE_BYTES


def split_secret(secret: bytes, n: int, t: int) -> list[bytes]:
    """``n`` shares, for holders 1..n in order, of which any ``t`` join. Raises LimitExceeded for impossible numbers."""
    if not 1 <= t <= n <= SHARES_MAX or not 1 <= len(secret) <= SECRET_MAX_BYTES:
        raise LimitExceeded(
            f"cannot share {len(secret)} bytes {t} of {n}",
            hint=f"1 <= t <= n <= {SHARES_MAX} and at most {SECRET_MAX_BYTES} bytes",
        )
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(FIELD) for _ in range(t - 1))]
    shares = []
    for holder in range(1, n + 1):
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * holder + coefficient) % FIELD
        shares.append(_HEADER.pack(_MAGIC, _VERSION, t, len(secret), holder) + value.to_bytes(_VALUE_BYTES, "big"))
    return shares


def join_secret(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from shares by holder (1-based). Raises CiphertextInvalid when they are too few or do not belong together."""
    values: dict[int, int] = {}
    forms = set()
    for holder, share in shares.items():
        if len(share) != SHARE_BYTES:
            raise CiphertextInvalid(f"the share of holder {holder} has {len(share)} bytes", hint="ask for it again")
        magic, version, threshold, size, named = _HEADER.unpack_from(share)
        values[holder] = int.from_bytes(share[_HEADER.size :], "big")
        if (magic, version, named) != (_MAGIC, _VERSION, holder) or values[holder] >= FIELD:
            raise CiphertextInvalid(f"the share of holder {holder} is not its share", hint="ask for it again")
        forms.add((threshold, size))
    if len(forms) != 1:
        raise CiphertextInvalid("shares of different secrets, or none", hint="ask the holders again")
    ((threshold, size),) = forms
    if len(values) < threshold:
        raise CiphertextInvalid(f"{len(values)} shares of {threshold} needed", hint="ask more holders")
    used = dict(sorted(values.items())[:threshold])
    secret = sum(value * lagrange_at_zero(holder, list(used), FIELD) for holder, value in used.items()) % FIELD
    if secret >> (8 * size):
        raise CiphertextInvalid("the shares do not join: one of them is wrong", hint="try other holders")
    return secret.to_bytes(size, "big")


def lagrange_at_zero(holder: int, holders: list[int], field: int) -> int:
    """The weight of ``holder``'s share when exactly ``holders`` join."""
    numerator = denominator = 1
    for other in holders:
        if other != holder:
            numerator = numerator * -other % field
            denominator = denominator * (holder - other) % field
    return numerator * pow(denominator, -1, field) % field

"""Decryptor of one committee member. Not an oracle: whoever calls it has checked what it opens. Needs numpy only."""

import hashlib
from collections.abc import Sequence

from veil.errors import CiphertextInvalid
from veil.fhe import masking, partials, threshold, vectors
from veil.fhe.keyshare import KeyShare
from veil.fhe.quorum import Subset, check_quorum, subsets
from veil.types import Epoch, Secret


class ThresholdDecryptor:
    """Implements Decryptor from a member's share. Raises CiphertextInvalid when it is not one."""

    def __init__(self, share: Secret) -> None:
        self._share = KeyShare.from_secret(share)
        self._limbs = threshold.limbs(self._share.values)
        self._seed = self._share.flooding_seed()
        self.member = self._share.member
        self.epoch = Epoch(self._share.key.epoch)

    def partial(self, result: bytes, quorum: Sequence[int]) -> bytes:
        """As :meth:`veil.fhe.ports.Decryptor.partial`."""
        ordered = check_quorum(quorum, self._share.threshold)
        if self.member not in ordered or ordered[-1] > self._share.members:
            raise CiphertextInvalid(
                f"member {self.member} cannot decrypt in the quorum {list(ordered)}", hint="name members of this epoch"
            )
        rows = vectors.open_result(result, self._share.key)
        digest = hashlib.sha256(result).digest()
        row_digests = [hashlib.sha256(row.astype("<u8").tobytes()).digest() for row in rows]
        products = threshold.products(rows, self._limbs)
        parts = {
            subset: self._part(products, digest, row_digests, subset)
            for subset in subsets(ordered, self._share.threshold, self.member)
        }
        return partials.pack(digest, ordered, self.member, parts)

    def _part(self, products: Sequence[int], result: bytes, rows: Sequence[bytes], subset: Subset) -> list[int]:
        weight = threshold.weight(self.member, subset)
        floods = masking.floods(self._seed, rows, subset)
        zeros = masking.zero_shares(self._share.pairwise, result, self.member, subset, len(rows))
        terms = zip(products, floods, zeros, strict=True)
        return [(weight * product + flood + zero) % threshold.FIELD for product, flood, zero in terms]

"""Decryptor of one committee member. Not an oracle: whoever calls it has checked what it opens. Needs numpy only."""

from collections.abc import Sequence

from veil.errors import CiphertextInvalid
from veil.fhe import partials, threshold, vectors
from veil.fhe.keyshare import KeyShare
from veil.types import Epoch, Secret


class ThresholdDecryptor:
    """Implements Decryptor from a member's share. Raises CiphertextInvalid when it is not one."""

    def __init__(self, share: Secret) -> None:
        self._share = KeyShare.from_secret(share)
        self._seed = self._share.flooding_seed()
        self.member = self._share.member
        self.epoch = Epoch(self._share.key.epoch)

    def partial(self, result: bytes, members: Sequence[int]) -> bytes:
        """The same for the same result and set, whenever asked. Raises CiphertextInvalid for a foreign result or set."""
        ordered = partials.check_members(members, self._share.threshold)
        if self.member not in ordered or ordered[-1] > self._share.members:
            raise CiphertextInvalid(
                f"member {self.member} cannot decrypt in the set {ordered}", hint="name members of this epoch"
            )
        rows = vectors.open_result(result, self._share.key)
        parts = [threshold.partial(row, self._share.values, self._seed, self.member, ordered) for row in rows]
        return partials.pack(result, ordered, self.member, parts)

"""Combiner: adds partial decryptions up to bits. Holds nothing secret. Needs numpy only."""

from collections.abc import Mapping, Sequence

from veil.errors import FheUnavailable
from veil.fhe import partials as wire
from veil.fhe import threshold, vectors
from veil.fhe.publickey import PublicKey
from veil.types import Epoch


class ThresholdCombiner:
    """Implements Combiner for the epoch of ``public_key`` whose quorum is ``quorum`` members."""

    def __init__(self, public_key: bytes, quorum: int) -> None:
        key = PublicKey.from_bytes(public_key)
        self._key = key.name
        self._quorum = quorum
        self.epoch = Epoch(key.epoch)

    def combine(self, result: bytes, members: Sequence[int], partials: Mapping[int, bytes]) -> list[int]:
        """The bits. Raises FheUnavailable while partials are missing, CiphertextInvalid when they are no bits."""
        ordered = wire.check_members(members, self._quorum)
        missing = [member for member in ordered if member not in partials]
        if missing:
            raise FheUnavailable(f"no partial of members {missing}", hint="ask them again, or choose another set")
        rows = vectors.open_result(result, self._key)
        parts = [wire.unpack(partials[member], result, ordered, member, len(rows)) for member in ordered]
        return [threshold.open_bit(row, column) for row, column in zip(rows, zip(*parts, strict=True), strict=True)]

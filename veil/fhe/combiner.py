"""Combiner: adds partial decryptions up to bits, subset by subset, and compares. Holds nothing secret. Needs numpy only."""

import hashlib
from collections.abc import Mapping, Sequence

from veil.fhe import partials as wire
from veil.fhe import threshold, vectors
from veil.fhe.ports import Opened
from veil.fhe.publickey import PublicKey
from veil.fhe.quorum import answered, check_quorum, subsets, verdict
from veil.types import Epoch


class ThresholdCombiner:
    """Implements Combiner for the epoch of ``public_key`` in which ``threshold`` members decrypt."""

    def __init__(self, public_key: bytes, threshold: int) -> None:
        key = PublicKey.from_bytes(public_key)
        self._key = key.name
        self._threshold = threshold
        self.epoch = Epoch(key.epoch)

    def open(self, result: bytes, quorum: Sequence[int], partials: Mapping[int, bytes]) -> Opened:
        """As :meth:`veil.fhe.ports.Combiner.open`."""
        ordered = check_quorum(quorum, self._threshold)
        given = answered(ordered, partials, self._threshold)
        rows = vectors.open_result(result, self._key)
        digest = hashlib.sha256(result).digest()
        parts = {member: wire.unpack(partials[member], digest, ordered, self._threshold, member, len(rows)) for member in given}
        openings = {
            subset: threshold.open_bits(rows, [parts[member][subset] for member in subset])
            for subset in subsets(given, self._threshold)
        }
        return verdict(openings, given, self._threshold)

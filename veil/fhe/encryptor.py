"""Encryptor under the epoch's public key: what nodes and admission use. Needs numpy only."""

from veil.fhe import selection, vectors
from veil.fhe.encoding import parse_encoding
from veil.fhe.ports import Figures
from veil.fhe.publickey import PublicKey
from veil.types import Epoch


class PublicKeyEncryptor:
    """Implements Encryptor from two published artifacts. Raises CiphertextInvalid when they are not usable."""

    def __init__(self, public_key: bytes, encoding: bytes) -> None:
        self._key = PublicKey.from_bytes(public_key)
        self._encoding = parse_encoding(encoding)
        self.epoch = Epoch(self._key.epoch)

    def left_over(self, free: Figures, capacity: Figures) -> float:
        return self._encoding.left_over_score(free, capacity)

    def telemetry(self, free: Figures, score: float | None, *, optimistic: bool = False) -> bytes:
        return selection.encrypt_table(self._key, self._encoding.table(free, score, optimistic=optimistic))

    def demand(self, demand: Figures) -> bytes:
        return selection.encrypt_demand(self._key, self._encoding.slots(demand))

    def check_telemetry(self, vector: bytes) -> None:
        vectors.check_telemetry(vector, self._key.name)

    def check_demand(self, vector: bytes) -> None:
        vectors.check_demand(vector, self._key.name)

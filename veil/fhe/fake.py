"""TEST ONLY: the ports of this package on CLEAR digits, for tests of rounds in virtual time. Hides nothing.

Nothing in ``veil`` imports this module (a test asserts it). Digits, sizes and decisions are those of the real circuit, the
errors are those of the real ports, and each fake can be made to fail on purpose. A fake vector differs each time, as a real
one does.
"""

import hashlib
import os
import struct
from collections.abc import Mapping, Sequence

from veil.errors import CiphertextInvalid, FheUnavailable, VeilError
from veil.fhe.circuits import digc7_clear
from veil.fhe.encoding import Encoding, default_encoding
from veil.fhe.ports import Evaluation, Figures
from veil.types import Digest, Epoch

TELEMETRY, DEMAND, RESULT, PARTIAL = 1, 2, 3, 4
_HEADER = struct.Struct(">4sBQ16s")
_MAGIC = b"FAKE"


class FakeEncryptor:
    """Implements Encryptor in clear."""

    def __init__(self, epoch: Epoch, encoding: Encoding | None = None) -> None:
        self.epoch = epoch
        self.encoding = encoding or default_encoding()

    def telemetry(self, free: Figures, capacity: Figures) -> bytes:
        return self._vector(TELEMETRY, self.encoding.telemetry_digits(free, capacity))

    def demand(self, demand: Figures) -> bytes:
        return self._vector(DEMAND, self.encoding.demand_digits(demand))

    def check_telemetry(self, vector: bytes) -> None:
        _open(vector, TELEMETRY, self.epoch, self.encoding.telemetry_values)

    def check_demand(self, vector: bytes) -> None:
        _open(vector, DEMAND, self.epoch, self.encoding.demand_values)

    def _vector(self, kind: int, digits: list[int]) -> bytes:
        return _HEADER.pack(_MAGIC, kind, self.epoch, os.urandom(16)) + bytes(digits)


class FakeEvaluator:
    """Implements Evaluator in clear.

    ``circuits`` maps names to candidates. Errors put into ``faults`` are raised by the next calls, one each; with
    ``other_class`` the result differs bit by bit but means the same, as that of another determinism class does.
    """

    def __init__(
        self,
        epoch: Epoch,
        circuits: Mapping[str, int],
        encoding: Encoding | None = None,
        *,
        wall_s: float = 0.0,
        other_class: bool = False,
    ) -> None:
        self.epoch = epoch
        self.circuits = dict(circuits)
        self.encoding = encoding or default_encoding()
        self.wall_s = wall_s
        self.other_class = other_class
        self.faults: list[VeilError] = []
        self.started = False
        self.evaluations = 0

    async def start(self) -> None:
        self._fail()
        self.started = True

    async def close(self) -> None:
        self.started = False

    async def evaluate(self, circuit: str, demand: bytes, telemetry: Sequence[bytes | None]) -> Evaluation:
        self._fail()
        if not self.started:
            raise FheUnavailable("the evaluator is not started", hint="call start() first")
        candidates = self.circuits.get(circuit)
        if candidates is None:
            raise CiphertextInvalid(f"no circuit {circuit!r} in epoch {self.epoch}", hint="use one of the key epoch's circuits")
        if len(telemetry) > candidates:
            raise CiphertextInvalid(
                f"{len(telemetry)} candidates for {candidates} places", hint="use a larger circuit or fewer candidates"
            )
        asked = _open(demand, DEMAND, self.epoch, self.encoding.demand_values)
        offers = [
            None if vector is None else list(_open(vector, TELEMETRY, self.epoch, self.encoding.telemetry_values))
            for vector in telemetry
        ]
        bits = digc7_clear.reference(offers, list(asked), candidates)
        seed = hashlib.sha256(repr((circuit, demand, list(telemetry), self.other_class)).encode()).digest()[:16]
        result = _HEADER.pack(_MAGIC, RESULT, self.epoch, seed) + bytes(bits)
        self.evaluations += 1
        return Evaluation(result=result, digest=Digest(hashlib.sha256(result).digest()), wall_s=self.wall_s)

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.pop(0)


class FakeDecryptor:
    """Implements Decryptor in clear; ``lie_at`` flips the bit of that place."""

    def __init__(self, epoch: Epoch, member: int, *, lie_at: int | None = None) -> None:
        self.epoch = epoch
        self.member = member
        self.lie_at = lie_at
        self.released: list[bytes] = []

    def partial(self, result: bytes, members: Sequence[int]) -> bytes:
        bits = bytearray(_open(result, RESULT, self.epoch))
        if self.member not in members:
            raise CiphertextInvalid(f"member {self.member} is not in the set", hint="name the set that decrypts")
        if self.member != min(members):
            bits = bytearray(len(bits))
        if self.lie_at is not None:
            bits[self.lie_at] ^= 1
        self.released.append(result)
        return _HEADER.pack(_MAGIC, PARTIAL, self.epoch, _context(self.member, members, result)) + bytes(bits)


class FakeCombiner:
    """Implements Combiner in clear: the sum modulo 2 of the partials' bits."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch

    def combine(self, result: bytes, members: Sequence[int], partials: Mapping[int, bytes]) -> list[int]:
        count = len(_open(result, RESULT, self.epoch))
        missing = [member for member in members if member not in partials]
        if missing:
            raise FheUnavailable(f"no partial of members {missing}", hint="ask them again, or choose another set")
        total = bytearray(count)
        for member in members:
            bits = _open(partials[member], PARTIAL, self.epoch, count, _context(member, members, result))
            total = bytearray(a ^ b for a, b in zip(total, bits, strict=True))
        return list(total)


def _context(member: int, members: Sequence[int], result: bytes) -> bytes:
    return hashlib.sha256(repr((member, sorted(members), result)).encode()).digest()[:16]


def _open(data: bytes, kind: int, epoch: int, count: int | None = None, context: bytes | None = None) -> bytes:
    body = data[_HEADER.size :]
    if len(data) < _HEADER.size or (count is not None and len(body) != count):
        raise CiphertextInvalid("a fake ciphertext of the wrong length", hint="send it as it was made")
    magic, found_kind, found_epoch, found_context = _HEADER.unpack_from(data)
    if (magic, found_kind, found_epoch) != (_MAGIC, kind, epoch) or context not in (None, found_context):
        raise CiphertextInvalid("a fake ciphertext of another kind, epoch or context", hint="send it as it was made")
    return body

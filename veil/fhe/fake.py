"""TEST ONLY: the ports of this package on CLEAR tables, for tests of rounds in virtual time. Hides nothing.

Nothing in ``veil`` imports this module (a test asserts it). Tables, slots and decisions are those of the real circuit, the
errors are those of the real ports, and each fake can be made to fail on purpose. A fake vector differs each time, as a real
one does.
"""

import hashlib
import os
import struct
from collections.abc import Collection, Mapping, Sequence

from veil.errors import CiphertextInvalid, FheUnavailable, PartialInvalid, VeilError
from veil.fhe.circuits import clear
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.encoding import SELECTED_MAX, SLOTS, Encoding, default_encoding
from veil.fhe.ports import Evaluation, Figures, Opened
from veil.fhe.quorum import Subset, answered, check_quorum, subsets, verdict
from veil.types import Digest, Epoch

TELEMETRY, DEMAND, RESULT, PARTIAL = 1, 2, 3, 4
_HEADER = struct.Struct(">4sBQ16s")
_SLOTS = struct.Struct(f">{SELECTED_MAX}H")
"""A demand's slots; SLOTS stands for none."""
_MAGIC = b"FAKE"


class FakeEncryptor:
    """Implements Encryptor in clear."""

    def __init__(self, epoch: Epoch, encoding: Encoding | None = None) -> None:
        self.epoch = epoch
        self.encoding = encoding or default_encoding()

    def left_over(self, free: Figures, capacity: Figures) -> float:
        return self.encoding.left_over_score(free, capacity)

    def telemetry(self, free: Figures, score: float | None, *, optimistic: bool = False) -> bytes:
        return self._vector(TELEMETRY, self.encoding.table(free, score, optimistic=optimistic).tobytes())

    def demand(self, demand: Figures) -> bytes:
        slots = self.encoding.slots(demand)
        return self._vector(DEMAND, _SLOTS.pack(*slots, *[SLOTS] * (SELECTED_MAX - len(slots))))

    def check_telemetry(self, vector: bytes) -> None:
        _open(vector, TELEMETRY, self.epoch, SLOTS)

    def check_demand(self, vector: bytes) -> None:
        _open(vector, DEMAND, self.epoch, _SLOTS.size)

    def _vector(self, kind: int, body: bytes) -> bytes:
        return _HEADER.pack(_MAGIC, kind, self.epoch, os.urandom(16)) + body


class FakeEvaluator:
    """Implements Evaluator in clear.

    ``circuits`` by name; a number stands for the circuit of the profile ``default`` that chooses among so many. Errors put into
    ``faults`` are raised by the next calls, one each; with ``other_class`` the result differs bit by bit but means the same, as
    that of another determinism class does.
    """

    def __init__(
        self,
        epoch: Epoch,
        circuits: Mapping[str, CircuitSpec | int],
        *,
        wall_s: float = 0.0,
        other_class: bool = False,
    ) -> None:
        self.epoch = epoch
        self.circuits = dict(circuits)
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
        found = self.circuits.get(circuit)
        spec = CircuitSpec("default", "choose", found) if isinstance(found, int) else found
        if spec is None:
            raise CiphertextInvalid(f"no circuit {circuit!r} in epoch {self.epoch}", hint="use one of the key epoch's circuits")
        if len(telemetry) > spec.candidates:
            raise CiphertextInvalid(
                f"{len(telemetry)} candidates for {spec.candidates} places", hint="use a larger circuit or fewer candidates"
            )
        slots = _SLOTS.unpack(_open(demand, DEMAND, self.epoch, _SLOTS.size))
        tables = [None if vector is None else list(_open(vector, TELEMETRY, self.epoch, SLOTS)) for vector in telemetry]
        bits = clear.reference(spec, tables, [slot for slot in slots if slot < SLOTS])
        seed = hashlib.sha256(repr((circuit, demand, list(telemetry), self.other_class)).encode()).digest()[:16]
        result = _HEADER.pack(_MAGIC, RESULT, self.epoch, seed) + bytes(bits)
        self.evaluations += 1
        return Evaluation(result=result, digest=Digest(hashlib.sha256(result).digest()), wall_s=self.wall_s)

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.pop(0)


class FakeDecryptor:
    """Implements Decryptor in clear: each subset's lowest member gives its bits, the others zeros.

    ``lie_at`` flips the bit of that place, in each subset or in those of ``lie_in`` only.
    """

    def __init__(
        self,
        epoch: Epoch,
        member: int,
        *,
        threshold: int,
        lie_at: int | None = None,
        lie_in: Collection[Subset] | None = None,
    ) -> None:
        self.epoch = epoch
        self.member = member
        self.threshold = threshold
        self.lie_at = lie_at
        self.lie_in = lie_in
        self.released: list[bytes] = []

    def partial(self, result: bytes, quorum: Sequence[int]) -> bytes:
        bits = _open(result, RESULT, self.epoch)
        ordered = check_quorum(quorum, self.threshold)
        if self.member not in ordered:
            raise CiphertextInvalid(f"member {self.member} is not in the quorum", hint="name the quorum that decrypts")
        self.released.append(result)
        mine = subsets(ordered, self.threshold, self.member)
        body = b"".join(self._part(bits, subset) for subset in mine)
        return _HEADER.pack(_MAGIC, PARTIAL, self.epoch, _context(self.member, ordered, result)) + body

    def _part(self, bits: bytes, subset: Subset) -> bytes:
        part = bytearray(bits if self.member == subset[0] else bytes(len(bits)))
        if self.lie_at is not None and (self.lie_in is None or subset in self.lie_in):
            part[self.lie_at] ^= 1
        return bytes(part)


class FakeCombiner:
    """Implements Combiner in clear: a subset opens to the sum modulo 2 of its partials' bits."""

    def __init__(self, epoch: Epoch, *, threshold: int) -> None:
        self.epoch = epoch
        self.threshold = threshold

    def open(self, result: bytes, quorum: Sequence[int], partials: Mapping[int, bytes]) -> Opened:
        ordered = check_quorum(quorum, self.threshold)
        count = len(_open(result, RESULT, self.epoch))
        given = answered(ordered, partials, self.threshold)
        openings = {subset: bytearray(count) for subset in subsets(given, self.threshold)}
        for member in given:
            parts = self._parts(partials[member], member, ordered, result, count)
            for subset, part in ((subset, parts[subset]) for subset in openings if member in subset):
                openings[subset] = bytearray(a ^ b for a, b in zip(openings[subset], part, strict=True))
        return verdict({subset: list(bits) for subset, bits in openings.items()}, given, self.threshold)

    def _parts(self, data: bytes, member: int, quorum: Subset, result: bytes, count: int) -> dict[Subset, bytes]:
        mine = subsets(quorum, self.threshold, member)
        try:
            body = _open(data, PARTIAL, self.epoch, count * len(mine), _context(member, quorum, result))
        except CiphertextInvalid as error:
            raise PartialInvalid(error.message, member=member, hint=error.hint) from error
        return {subset: body[place * count : (place + 1) * count] for place, subset in enumerate(mine)}


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

"""``veil-evald``: the child process that evaluates (``python -m veil.fhe.evald``). Holds evaluation keys, no secret.

Frames on standard input, frames on standard output, one answer for each question, in order:

* first ``[{}, material]`` → ``[{"class": hex, "wall_s": s, "rss_bytes": n}]``: the digest of the known answer, by which
  processes whose results agree bit for bit know each other (:mod:`veil.fhe.fourier_plan` says why they may not).
* then ``[{"circuit": name, "present": [bool, …]}, demand, vector, …]`` →
  ``[{"wall_s": s, "rss_bytes": n}, result]``, or ``[{"error": message, "hint": hint}]`` for inputs that are not well-formed.

Ends when its input ends, when its parent ends, or past its memory limit.
"""

import hashlib
import os
import sys
from typing import BinaryIO

import msgspec

from veil.errors import CiphertextInvalid
from veil.fhe import child, fourier_plan, frames
from veil.fhe.material import EpochMaterial

MEMORY_LIMIT_VARIABLE = "VEIL_EVALD_MEMORY_BYTES"
"""Set by the parent, in the child's environment only."""


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """The head of a request."""

    circuit: str
    present: list[bool]


class Answer(msgspec.Struct, omit_defaults=True):
    """The head of a response."""

    wall_s: float = 0.0
    rss_bytes: int = 0
    known: str = msgspec.field(default="", name="class")
    error: str = ""
    hint: str = ""


def main() -> int:
    """Serves until the input ends."""
    requests, responses = child.take_pipes()
    child.harden()
    child.watch_memory(int(os.environ[MEMORY_LIMIT_VARIABLE]))
    setup = frames.read_frame(requests.read)
    if setup is None:
        return 0
    from veil.fhe.evaluation import Evaluations  # imports Concrete: only now, under the memory limit

    material = EpochMaterial.from_bytes(setup[1])
    evaluations = Evaluations(material)
    first = material.circuits[0].name
    demand, *telemetry = frames.unpack(material.known_input)
    del setup, material  # before the first evaluation unpacks the keys: else they would be here several times
    with fourier_plan.pinned():
        result, wall_s = evaluations.evaluate(first, demand, telemetry)
    known = hashlib.sha256(result).hexdigest()
    _answer(responses, Answer(wall_s=wall_s, rss_bytes=child.rss_bytes(), known=known))
    while (request := frames.read_frame(requests.read)) is not None:
        try:
            question = msgspec.json.decode(request[0], type=Question)
            vectors = iter(request[2:])
            telemetry_or_none = [next(vectors) if present else None for present in question.present]
            result, wall_s = evaluations.evaluate(question.circuit, request[1], telemetry_or_none)
        except CiphertextInvalid as error:
            _answer(responses, Answer(error=error.message, hint=error.hint))
        else:
            _answer(responses, Answer(wall_s=wall_s, rss_bytes=child.rss_bytes()), result)
    return 0


def _answer(responses: BinaryIO, head: Answer, *blobs: bytes) -> None:
    data = memoryview(frames.framed([msgspec.json.encode(head), *blobs]))
    while data:
        data = data[responses.write(data) :]


if __name__ == "__main__":
    sys.exit(main())

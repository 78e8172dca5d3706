"""A record of everything that receivers are given: for audits that look for what must not be there.

Twice, by both processes into one file: as libp2p gets them (before Noise, after sealing), and, with ``opened:`` before the
protocol, as the receiver has them once it has opened what was sealed to it. What is sealed to somebody else stays sealed in
both. A record is 4 bytes of length and a CBOR array ``[receiver, protocol, bytes]``. Off unless asked for; not for
production, where it would only fill the disk.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cbor2

from veil.types import PeerId


class Captured(NamedTuple):
    """One write to one receiver's stream."""

    receiver: PeerId
    protocol: str
    content: bytes


class Capture:
    """Appends to one file; each record is written at once, so that a killed process loses nothing before it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def record(self, receiver: PeerId, protocol: str, content: bytes) -> None:
        record = cbor2.dumps([receiver, protocol, content])
        self._file.write(struct.pack(">I", len(record)) + record)

    def close(self) -> None:
        self._file.close()


def read_capture(path: Path) -> Iterator[Captured]:
    """All complete records of ``path``, in order."""
    with path.open("rb") as file:
        while len(head := file.read(4)) == 4:
            (length,) = struct.unpack(">I", head)
            record = file.read(length)
            if len(record) < length:
                return
            receiver, protocol, content = cbor2.loads(record)
            yield Captured(PeerId(receiver), protocol, content)

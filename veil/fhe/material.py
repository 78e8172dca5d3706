"""Everything public about one key epoch, as bytes: what nodes fetch as blobs and what children get through a pipe."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from veil.errors import CiphertextInvalid
from veil.fhe import frames
from veil.types import Digest, Epoch

Parameters = Literal["plain", "flooded"]
Profile = Literal["default", "precise"]
Shape = Literal["choose", "rank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitMaterial:
    """One registered circuit."""

    name: str
    profile: Profile
    shape: Shape
    candidates: int
    server: bytes
    """Concrete's server archive: the compiled circuit."""
    client: bytes
    """Concrete's client specification (JSON): types of inputs and outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMaterial:
    """The public artifacts; each is a blob whose digest the KeyEpoch names."""

    epoch: Epoch
    parameters: Parameters
    members: int
    threshold: int
    public_key: bytes
    evaluation_keys: bytes
    circuits: tuple[CircuitMaterial, ...]
    encoding: bytes
    known_input: bytes
    """A demand and one telemetry a candidate of the first circuit, framed (:mod:`veil.fhe.frames`)."""
    classes: tuple[Digest, ...]
    """Digests of the result of ``known_input`` in the determinism classes that evaluators may be in."""
    flooding_bits: int
    max_decryptions: int

    def to_bytes(self) -> bytes:
        """One blob of all artifacts, for files and pipes."""
        head = _Head(
            epoch=self.epoch,
            parameters=self.parameters,
            members=self.members,
            threshold=self.threshold,
            circuits=[(circuit.name, circuit.profile, circuit.shape, circuit.candidates) for circuit in self.circuits],
            classes=[digest.hex() for digest in self.classes],
            flooding_bits=self.flooding_bits,
            max_decryptions=self.max_decryptions,
        )
        blobs = [self.public_key, self.evaluation_keys, self.encoding, self.known_input]
        for circuit in self.circuits:
            blobs += [circuit.server, circuit.client]
        return frames.pack([msgspec.json.encode(head), *blobs])

    @classmethod
    def from_bytes(cls, data: bytes) -> "EpochMaterial":
        """Raises CiphertextInvalid unless ``data`` is of this form."""
        parts = frames.unpack(data)
        try:
            head = msgspec.json.decode(parts[0], type=_Head)
            public_key, evaluation_keys, encoding, known_input, *rest = parts[1:]
            circuits = tuple(
                CircuitMaterial(name=name, profile=profile, shape=shape, candidates=candidates, server=server, client=client)
                for (name, profile, shape, candidates), server, client in zip(head.circuits, rest[::2], rest[1::2], strict=True)
            )
            classes = tuple(Digest(bytes.fromhex(digest)) for digest in head.classes)
        except (msgspec.DecodeError, ValueError, IndexError) as error:
            raise CiphertextInvalid(f"the epoch's artifacts are not understood: {error}", hint="fetch them again") from error
        return cls(
            epoch=Epoch(head.epoch),
            parameters=head.parameters,
            members=head.members,
            threshold=head.threshold,
            public_key=public_key,
            evaluation_keys=evaluation_keys,
            circuits=circuits,
            encoding=encoding,
            known_input=known_input,
            classes=classes,
            flooding_bits=head.flooding_bits,
            max_decryptions=head.max_decryptions,
        )


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    epoch: int
    parameters: Parameters
    members: int
    threshold: int
    circuits: list[tuple[str, Profile, Shape, int]]
    classes: list[str]
    flooding_bits: int
    max_decryptions: int

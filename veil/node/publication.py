"""A key epoch between the dealer's result and what is published: a KeyEpoch and blobs, by digest; and the way back."""

from collections.abc import Mapping, Sequence
from typing import Literal

from veil.errors import Untrusted
from veil.fhe.ceremony import CeremonyResult
from veil.fhe.material import CircuitMaterial, EpochMaterial
from veil.identity import seal
from veil.types import Digest, Epoch, PeerId
from veil.wire.codec import encode, sha256
from veil.wire.nodes import CircuitInfo, KeyEpoch


def publication(
    result: CeremonyResult, committee: Sequence[PeerId], *, mode: Literal["threshold", "designated"] = "threshold"
) -> tuple[KeyEpoch, dict[Digest, bytes]]:
    """What to publish: the epoch (itself one of the blobs) and every blob it names. ``committee[i]`` gets share i+1, sealed."""
    material = result.material
    blobs: dict[Digest, bytes] = {}

    def keep(content: bytes) -> Digest:
        blobs[sha256(content)] = content
        return sha256(content)

    epoch = KeyEpoch(
        epoch=material.epoch,
        mode=mode,
        parameters=material.parameters,
        threshold=material.threshold,
        committee=tuple(committee),
        public_key=keep(material.public_key),
        evaluation_keys=keep(material.evaluation_keys),
        circuits=tuple(
            CircuitInfo(
                name=circuit.name,
                profile=circuit.profile,
                shape=circuit.shape,
                candidates=circuit.candidates,
                server=keep(circuit.server),
                client=keep(circuit.client),
            )
            for circuit in material.circuits
        ),
        encoding=keep(material.encoding),
        classes=material.classes,
        known_input=keep(material.known_input),
        max_decryptions=material.max_decryptions,
        flooding_bits=material.flooding_bits,
        shares=tuple(keep(seal(peer, share.reveal())) for peer, share in zip(committee, result.shares, strict=True)),
    )
    keep(encode(epoch))
    return epoch, blobs


def material_digests(epoch: KeyEpoch) -> list[Digest]:
    """The public blobs of an epoch, the large one last."""
    circuits = [digest for circuit in epoch.circuits for digest in (circuit.server, circuit.client)]
    return [Digest(digest) for digest in (epoch.public_key, epoch.encoding, epoch.known_input, *circuits, epoch.evaluation_keys)]


def material_of(epoch: KeyEpoch, blobs: Mapping[Digest, bytes]) -> EpochMaterial:
    """The epoch's artifacts from its blobs. Raises Untrusted when one is missing or has another digest."""
    for digest in material_digests(epoch):
        if digest not in blobs or sha256(blobs[digest]) != digest:
            raise Untrusted(f"the epoch's blob {digest.hex()[:16]} is not what the chain names")

    def blob(digest: bytes) -> bytes:
        return blobs[Digest(digest)]

    return EpochMaterial(
        epoch=Epoch(epoch.epoch),
        parameters=epoch.parameters,
        members=len(epoch.committee),
        threshold=epoch.threshold,
        public_key=blob(epoch.public_key),
        evaluation_keys=blob(epoch.evaluation_keys),
        circuits=tuple(
            CircuitMaterial(
                name=circuit.name,
                profile=circuit.profile,
                shape=circuit.shape,
                candidates=circuit.candidates,
                server=blob(circuit.server),
                client=blob(circuit.client),
            )
            for circuit in epoch.circuits
        ),
        encoding=blob(epoch.encoding),
        known_input=blob(epoch.known_input),
        classes=tuple(Digest(known) for known in epoch.classes),
        flooding_bits=epoch.flooding_bits,
        max_decryptions=epoch.max_decryptions,
    )

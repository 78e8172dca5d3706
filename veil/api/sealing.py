"""The secret parts of a workload: sealed for an epoch's committee and the home nodes, and its demand encrypted.

Figures are in clear only in here, for as long as this takes: what comes out are ciphertexts, and digests of ciphertexts.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import structs

from veil.fhe.ports import Encryptor, Figures
from veil.fhe.sharing import split_secret
from veil.identity import seal
from veil.manifest.split import Parts, demand_of
from veil.types import Digest, Epoch, ObjectId, PeerId, Secret
from veil.wire.codec import encode, sha256
from veil.wire.objects import Body, Demand, Resources, SealedPart
from veil.wire.sealed import make_part, new_content_key


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKeys:
    """What sealing needs of a key epoch. ``committee`` is in the order of the Shamir indices."""

    epoch: Epoch
    committee: tuple[PeerId, ...]
    threshold: int
    encryptor: Encryptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Contents ready to leave this node, and their digests."""

    epoch: Epoch
    resources: bytes
    demand: bytes
    template: bytes | None

    @property
    def contents(self) -> list[bytes]:
        return [self.resources, self.demand, *([self.template] if self.template is not None else [])]

    @property
    def resources_digest(self) -> Digest:
        return sha256(self.resources)

    @property
    def demand_digest(self) -> Digest:
        return sha256(self.demand)

    @property
    def template_digest(self) -> Digest:
        return sha256(self.template) if self.template is not None else Digest(b"")


async def seal_parts(parts: Parts, keys: EpochKeys, homes: Sequence[PeerId]) -> Sealed:
    """Seal and encrypt a Workload's parts. Raises LimitExceeded for a demand that cannot be encoded, FheUnavailable."""
    assert parts.resources is not None
    resources = encode(seal_piece(encode(parts.resources), "resources", parts.object_id, keys, homes))
    template = None
    if parts.template is not None:
        plaintext = encode(Body(spec={"template": parts.template}))
        template = encode(seal_piece(plaintext, "template", parts.object_id, keys, homes))
    demand = await encrypt_demand(parts.resources, parts.object_id, keys, sha256(resources))
    return Sealed(epoch=keys.epoch, resources=resources, demand=demand, template=template)


def seal_piece(
    plaintext: bytes, piece: Literal["resources", "template"], of: ObjectId, keys: EpochKeys, homes: Sequence[PeerId]
) -> SealedPart:
    """``plaintext`` under a fresh content key: a share of it for each committee member, all of it for each home node."""
    key = new_content_key()
    return make_part(
        plaintext,
        key,
        piece=piece,
        object_id=of,
        epoch=keys.epoch,
        threshold=keys.threshold,
        shares=_shares(key, keys),
        homes=homes,
    )


def share_key(part: SealedPart, key: Secret, keys: EpochKeys) -> SealedPart:
    """``part`` for another epoch's committee: the same box, whose content ``key`` is shared to those members instead."""
    return structs.replace(part, epoch=keys.epoch, threshold=keys.threshold, shares=tuple(_shares(key, keys)))


def _shares(key: Secret, keys: EpochKeys) -> list[bytes]:
    shares = split_secret(key.reveal(), len(keys.committee), keys.threshold)
    return [seal(member, share) for member, share in zip(keys.committee, shares, strict=True)]


async def encrypt_demand(resources: Resources, of: ObjectId, keys: EpochKeys, part: Digest) -> bytes:
    """The encoded Demand of what one replica asks for; ``part`` is the digest of the sealed part with the same figures."""
    cpu_milli, memory_bytes, disk_bytes, gpu_count = demand_of(resources)
    figures = Figures(cpu_milli=cpu_milli, memory_bytes=memory_bytes, disk_bytes=disk_bytes, gpu_count=gpu_count)
    vector = await asyncio.to_thread(keys.encryptor.demand, figures)
    return encode(Demand(object_id=of, epoch=keys.epoch, resources=part, vector=vector))

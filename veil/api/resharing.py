"""Parts of a workload for another epoch's committee: the same figures, the same template, other share holders.

A home node holds the content keys, so it shares them again; the boxes stay as they are. A winner holds the figures and the
template that it runs, so it can seal them under keys of its own, for the same home nodes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from veil.api.sealing import EpochKeys, encrypt_demand, seal_piece, share_key
from veil.identity import Identity
from veil.store.journal import Binding
from veil.types import Digest, ObjectId, PeerId
from veil.wire.codec import decode, encode, sha256
from veil.wire.objects import Envelope, Resources, SealedPart
from veil.wire.sealed import home_key, open_part

Piece = Literal["resources", "template"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedParts:
    """A workload's sealed parts as its envelope names them. ``template`` only of a confidential one."""

    object_id: ObjectId
    envelope: Envelope
    resources: SealedPart
    template: SealedPart | None

    @property
    def homes(self) -> tuple[PeerId, ...]:
        return tuple(PeerId(home) for home, _ in self.resources.homes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForEpoch:
    """What is to be kept and named for one epoch. Empty where the envelope's own part is for that epoch."""

    demand: bytes
    resources: bytes = b""
    template: bytes = b""

    @property
    def contents(self) -> list[bytes]:
        return [content for content in (self.demand, self.resources, self.template) if content]

    def digest_of(self, piece: Piece) -> Digest:
        content = self.resources if piece == "resources" else self.template
        return sha256(content) if content else Digest(b"")


async def by_home(parts: SealedParts, keys: EpochKeys, identity: Identity) -> ForEpoch:
    """Raises Forbidden when this node is no home node of the workload, LimitExceeded for figures that do not fit the epoch."""
    opened = decode(open_part(parts.resources, home_key(parts.resources, identity)), Resources)
    demand = await encrypt_demand(opened, parts.object_id, keys, Digest(parts.envelope.resources))

    def shared(part: SealedPart | None) -> bytes:
        if part is None or part.epoch == keys.epoch:
            return b""
        return encode(share_key(part, home_key(part, identity), keys))

    return ForEpoch(demand=demand, resources=shared(parts.resources), template=shared(parts.template))


async def by_winner(parts: SealedParts, keys: EpochKeys, binding: Binding) -> ForEpoch:
    """``binding``: a replica of the workload's present template that runs here. Raises LimitExceeded."""
    figures = decode(binding.resources, Resources)
    demand = await encrypt_demand(figures, parts.object_id, keys, Digest(parts.envelope.resources))

    def sealed(part: SealedPart | None, piece: Piece, plaintext: bytes) -> bytes:
        if part is None or part.epoch == keys.epoch:
            return b""
        return encode(seal_piece(plaintext, piece, parts.object_id, keys, parts.homes))

    return ForEpoch(
        demand=demand,
        resources=sealed(parts.resources, "resources", binding.resources),
        template=sealed(parts.template, "template", binding.template),
    )


def whose_turn(homes: Iterable[PeerId], alive: Callable[[PeerId], bool]) -> PeerId | None:
    """The home node that acts: the first that is alive, so that two do not overwrite each other. None: a winner may."""
    return next((home for home in homes if alive(home)), None)

"""The ceremony of a development cluster: all its nodes are the committee, a majority decrypts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veil.chain.client import RegistryChain
from veil.chain.records import EpochParts
from veil.fhe.ceremony import hold_ceremony
from veil.fhe.circuits.spec import CircuitSpec, circuits_of
from veil.mesh.blobs import BlobStore
from veil.node.publication import publication
from veil.types import Digest, Epoch, PeerId
from veil.wire.codec import digest
from veil.wire.nodes import KeyEpoch

FIRST_EPOCH = Epoch(1)
SIZES = (4, 8, 16)
"""Circuits that share one key set. A round takes the smallest that has a place for every node it asks."""


@dataclass(frozen=True, slots=True)
class DevEpoch:
    """What is to be published. Shares are in ``blobs`` sealed to their members; the secret key is gone."""

    epoch: KeyEpoch
    blobs: dict[Digest, bytes]


def circuits_for(nodes: int) -> tuple[CircuitSpec, ...]:
    """The profile ``default`` in both shapes, in every size that rounds among ``nodes`` may need."""
    return circuits_of(("default",), sizes_for(nodes))


def sizes_for(nodes: int) -> tuple[int, ...]:
    """The sizes up to the first that takes all of ``nodes``; all of them when none does."""
    return tuple(size for place, size in enumerate(SIZES) if place == 0 or SIZES[place - 1] < nodes)


async def run_dev_ceremony(committee: Sequence[PeerId]) -> DevEpoch:
    """A majority of all nodes, parameters ``plain``: for development, as the epoch itself says."""
    result = await hold_ceremony(
        FIRST_EPOCH,
        members=len(committee),
        threshold=len(committee) // 2 + 1,
        circuits=circuits_for(len(committee)),
        parameters="plain",
    )
    epoch, blobs = publication(result, committee)
    return DevEpoch(epoch, blobs)


async def publish_epoch(dealt: DevEpoch, admin: RegistryChain, *, blobs: Path) -> None:
    """Put the blobs where the first node finds them (the others fetch them from it), then the digest on chain."""
    store = BlobStore(blobs)
    for content in dealt.blobs.values():
        store.put(content)
    await admin.publish_epoch(Epoch(dealt.epoch.epoch), digest(dealt.epoch), EpochParts.of(dealt.epoch))

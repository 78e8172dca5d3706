"""What an administrator of keys does on the chain: announce an epoch, let it take over, retire one.

The *active* epoch, which rounds use, is the oldest that is not retired; a newer one is *prepared* by all nodes meanwhile. An
epoch is activated by retiring those before it, in one transaction that all nodes read from the chain.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from veil.chain.ports import Registry
from veil.errors import ConfigInvalid, NotFound, WireInvalid
from veil.node.envelopes import envelope_of
from veil.store.projection import Projection
from veil.store.rows import EpochRow
from veil.types import Digest, Epoch, ObjectId
from veil.wire.codec import decode
from veil.wire.objects import KINDS, DemandEnvelope, demand_id


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochState:
    """One epoch as the registry has it."""

    epoch: Epoch
    digest: Digest
    state: str
    """Active, Prepared (published, not retired, not yet active) or Retired."""
    demands: int
    """Workloads whose demand is encrypted for it: those that can be placed in it."""
    workloads: int
    """All that ask for resources."""
    taken: int
    """Nodes whose registry entry names a journal for their share: members that have come as far as that."""


def states(projection: Projection) -> list[EpochState]:
    """All epochs, oldest first."""
    active = projection.active_epoch()
    asking = dict(_asking(projection))
    named = [epoch for node in projection.nodes() if node.info for epoch, _ in node.info.journals]
    return [
        EpochState(
            epoch=row.epoch,
            digest=row.digest,
            state=_state(row, active),
            demands=_carried(projection, row.epoch, asking),
            workloads=len(asking),
            taken=named.count(row.epoch),
        )
        for row in projection.epochs()
    ]


def _asking(projection: Projection) -> Iterator[tuple[ObjectId, bytes]]:
    """Each workload that is to be placed, and the digest of its sealed resources."""
    for row in projection.objects(KINDS["Workload"]):
        envelope = envelope_of(row) if not row.deleting else None
        if envelope is not None and envelope.resources:
            yield row.object_id, envelope.resources


def _carried(projection: Projection, epoch: Epoch, asking: Mapping[ObjectId, bytes]) -> int:
    """How many have a demand of just these resources. Who may write in a namespace can anchor what is no demand."""
    carried = 0
    for of, resources in asking.items():
        row = projection.object(KINDS["Demand"], demand_id(of, epoch))
        with suppress(WireInvalid):
            carried += row is not None and decode(row.envelope, DemandEnvelope).resources == resources
    return carried


def _state(row: EpochRow, active: EpochRow | None) -> str:
    if not row.active:
        return "Retired"
    return "Active" if row == active else "Prepared"


def state_of(projection: Projection, epoch: int) -> EpochState:
    """Raises NotFound."""
    for one in states(projection):
        if one.epoch == epoch:
            return one
    raise NotFound(f"the registry has no epoch {epoch}", hint="see `veil key list`")


async def activate(
    chain: Registry, projection: Projection, epoch: Epoch, *, threshold: int = 0, force: bool = False
) -> list[Epoch]:
    """Retire every epoch before ``epoch``; which ones. ``threshold``: the epoch's, where it is known.

    Raises NotFound; ConfigInvalid for a retired one, and unless ``force`` while a workload could not be placed in it: because
    it has no demand there, or because fewer members than decrypt have taken their shares.
    """
    found = state_of(projection, epoch)
    if found.state == "Retired":
        raise ConfigInvalid(f"epoch {epoch} is retired for good", hint="hold a new ceremony")
    if found.demands < found.workloads and not force:
        raise ConfigInvalid(
            f"{found.workloads - found.demands} of {found.workloads} workloads have no demand for epoch {epoch} yet: what runs "
            "goes on running, but they could not be placed (DemandNotInEpoch)",
            hint="wait until their home nodes have made it (see `veil key list`), or give --force",
        )
    if found.taken < threshold and not force:
        raise ConfigInvalid(
            f"{found.taken} members have taken their share of epoch {epoch}, {threshold} decrypt: nothing could be placed",
            hint="see NextKeysReady of the members' nodes (`veil doctor`), or give --force",
        )
    before = [one.epoch for one in states(projection) if one.epoch < epoch and one.state != "Retired"]
    if before:
        await chain.activate_epoch(epoch)
    return before


async def retire(chain: Registry, projection: Projection, epoch: Epoch, *, force: bool = False) -> None:
    """Raises NotFound; ConfigInvalid for one that is retired already, or for the last one unless ``force``."""
    found = state_of(projection, epoch)
    if found.state == "Retired":
        raise ConfigInvalid(f"epoch {epoch} is retired already")
    if found.state == "Active" and projection.next_epoch() is None and not force:
        raise ConfigInvalid(
            f"epoch {epoch} is the only one: without it nothing is placed", hint="publish another epoch first, or give --force"
        )
    await chain.retire_epoch(epoch)

"""What an administrator of keys does on the chain: announce an epoch, let it take over, retire one.

The registry knows published and retired epochs. The *active* epoch, which rounds use, is the oldest that is not retired; a
newer one is *prepared* by all nodes meanwhile. So an epoch is activated by retiring those before it, in one moment that all
nodes read from the chain.
"""

from dataclasses import dataclass

from veil.chain.ports import Registry
from veil.errors import ConfigInvalid, NotFound
from veil.store.projection import Projection
from veil.store.rows import EpochRow
from veil.types import Digest, Epoch


@dataclass(frozen=True, slots=True)
class EpochState:
    """One epoch as the registry has it."""

    epoch: Epoch
    digest: Digest
    state: str
    """Active, Prepared (published, not retired, not yet active) or Retired."""


def states(projection: Projection) -> list[EpochState]:
    """All epochs, oldest first."""
    active = projection.active_epoch()
    return [EpochState(row.epoch, row.digest, _state(row, active)) for row in projection.epochs()]


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


async def activate(chain: Registry, projection: Projection, epoch: Epoch) -> list[Epoch]:
    """Retire every epoch before ``epoch``; which ones. Raises NotFound, ConfigInvalid for a retired one."""
    if state_of(projection, epoch).state == "Retired":
        raise ConfigInvalid(f"epoch {epoch} is retired for good", hint="hold a new ceremony")
    before = [one.epoch for one in states(projection) if one.epoch < epoch and one.state != "Retired"]
    for one in reversed(before):
        await chain.retire_epoch(one)
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

"""Which journal may use a key share: the one that the registry names for this node and epoch.

A member journals each round before it releases its part of a decision, and that journal is all that keeps it from releasing
two parts for one round. A member that lost its journal still has its key, so it could open its sealed share again as if
nothing had been released. Only somebody else's memory tells a lost journal from a new member: the chain's. So a journal has a
random id, and before a share is used, the node's own entry in the registry must name that id for the epoch. The first journal
to be named keeps the share; any later one abstains until the epoch is retired, and hands the name on unchanged.

This binds an honest node to its own past. It does not see a journal that was rolled back to an older copy of itself.
"""

from collections.abc import Callable
from enum import Enum, auto

from veil.identity import Identity
from veil.store.projection import Projection
from veil.types import Epoch
from veil.wire.nodes import JOURNALS_MAX


class Claim(Enum):
    """Whose this node's share of an epoch is."""

    UNKNOWN = auto()
    """The chain has not been read to its end yet."""
    NOBODYS = auto()
    OURS = auto()
    ANOTHERS = auto()


class ShareClaims:
    """Read from the registry; what is to be written there is :attr:`wanted`, published with the node's addresses."""

    def __init__(self, identity: Identity, projection: Projection, journal_id: bytes, caught_up: Callable[[], bool]) -> None:
        self._peer = identity.peer_id
        self._projection = projection
        self._journal_id = journal_id
        self._caught_up = caught_up
        self._claimed: set[Epoch] = set()

    @property
    def readable(self) -> bool:
        """Whether the registry's newest word about this node is known. Before that nothing may be published over it."""
        return self._caught_up()

    def of(self, epoch: Epoch) -> Claim:
        """Whose the share is, as the registry has it."""
        if not self.readable:
            return Claim.UNKNOWN
        named = self._named().get(epoch)
        if named is None:
            return Claim.NOBODYS
        return Claim.OURS if named == self._journal_id else Claim.ANOTHERS

    def claim(self, epoch: Epoch) -> None:
        """Have the registry name this journal for ``epoch``, unless it names one already."""
        self._claimed.add(epoch)

    def wanted(self) -> tuple[tuple[int, bytes], ...]:
        """What the registry should say: all that it says of epochs that are not retired, and this journal's new claims."""
        living = {row.epoch for row in self._projection.epochs() if row.active}
        claims = dict.fromkeys(self._claimed, self._journal_id) | self._named()
        kept = sorted((epoch, journal) for epoch, journal in claims.items() if epoch in living)
        return tuple((int(epoch), journal) for epoch, journal in kept[:JOURNALS_MAX])

    def _named(self) -> dict[Epoch, bytes]:
        row = self._projection.node(self._peer)
        return {Epoch(epoch): journal for epoch, journal in row.info.journals} if row is not None and row.info else {}

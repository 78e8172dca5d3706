"""Who is offered which replicas of a round, down the order of nodes that it decided.

Pure: told what was accepted and refused, it says what to offer next. Filling gives everything that is left to one node until
it refuses some; spreading gives one to each node, and begins again at the first when there are more replicas than nodes. A
node that refused any of them is full and is not asked again in this round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from veil.placement.settings import OFFERS_MAX
from veil.types import PeerId


def shown_max(replicas: int) -> int:
    """How many nodes of a round's order may see the exact resources: one for each replica, and those that refuse first."""
    return replicas - 1 + OFFERS_MAX


@dataclass(frozen=True, slots=True)
class Manner:
    """How a policy hands out replicas."""

    spread: bool
    """One to each node, else all to the first that takes them."""
    again: bool = True
    """Whether a node may get a second one of the same workload."""


FILL = Manner(spread=False)
SPREAD = Manner(spread=True)
APART = Manner(spread=True, again=False)


class Offering:
    """``order`` is best first; at most :func:`shown_max` of it are ever asked."""

    def __init__(self, order: Sequence[PeerId], replicas: Sequence[int], manner: Manner) -> None:
        self._order = list(order[: shown_max(len(replicas))])
        self._manner = manner
        self._waiting = sorted(replicas)
        self._open: dict[PeerId, tuple[int, ...]] = {}
        self._taken: dict[PeerId, int] = {}
        self.refused: set[PeerId] = set()

    @property
    def left(self) -> list[int]:
        """Replicas that nobody has accepted, offered or not."""
        return sorted([*self._waiting, *(replica for offered in self._open.values() for replica in offered)])

    @property
    def over(self) -> bool:
        """Nothing is under way and nothing more can be offered."""
        return not self._open and not (self._waiting and self._free())

    def offered(self, peer: PeerId) -> tuple[int, ...]:
        """What is with ``peer`` and unanswered."""
        return self._open.get(peer, ())

    def place(self, peer: PeerId) -> int:
        return self._order.index(peer)

    def next(self) -> list[tuple[PeerId, tuple[int, ...]]]:
        """The offers to make now; they count as made."""
        free = self._free()
        if not self._waiting or not free or (self._open and not self._manner.spread):
            return []
        if self._manner.spread:
            made = self._dealt(free)
        else:
            made = {free[0]: self._waiting}
            self._waiting = []
        self._open |= {peer: tuple(replicas) for peer, replicas in made.items()}
        return [(peer, self._open[peer]) for peer in made]

    def answered(self, peer: PeerId, accepted: Sequence[int]) -> None:
        """``peer`` takes these of what it was offered, perhaps none, and not the others."""
        offered = self._open.pop(peer)
        self._taken[peer] = self._taken.get(peer, 0) + len(accepted)
        if rest := sorted(set(offered) - set(accepted)):
            self.refused.add(peer)
            self._waiting = sorted(self._waiting + rest)

    def withdraw(self, replica: int) -> None:
        """It is not to be placed any more; an acceptance of it that still comes is not used."""
        self._waiting = [one for one in self._waiting if one != replica]

    def _free(self) -> list[PeerId]:
        """Nodes that can be asked, those with the fewest of this round's replicas first when they are to be spread."""
        free = [peer for peer in self._order if peer not in self.refused and peer not in self._open]
        if not self._manner.again:
            free = [peer for peer in free if not self._taken.get(peer)]
        return sorted(free, key=lambda peer: self._taken.get(peer, 0)) if self._manner.spread else free

    def _dealt(self, free: list[PeerId]) -> dict[PeerId, list[int]]:
        dealt: dict[PeerId, list[int]] = {}
        turns = len(free) if not self._manner.again else len(self._waiting)
        now, self._waiting = self._waiting[:turns], self._waiting[turns:]
        for turn, replica in enumerate(now):
            dealt.setdefault(free[turn % len(free)], []).append(replica)
        return dealt

"""The quorum of one round: whom to ask for partial decryptions, whom to wait for, and what is there.

One member more than the threshold is asked where that many are alive, so that a wrong partial shows. If one does not answer,
evaluates differently or lies, the quorum is enlarged once, by one member; after that, what is there decides. A member never
makes partials for a third quorum, so nobody is ever asked for one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from veil.wire.rounds import Partial
from veil.wire.signed import Signed


@dataclass(frozen=True, slots=True)
class Given:
    """One member's answer: its partials, as signed, and the result that they decrypt."""

    partial: Partial
    signed: Signed
    result: bytes


@dataclass(slots=True)
class Gathering:
    """``members`` are those alive, 1-based, in the order in which they are asked."""

    threshold: int
    members: Sequence[int]
    asked: tuple[int, ...] = ()
    enlarged: bool = False
    _given: dict[int, Given] = field(default_factory=dict)
    _withheld: set[int] = field(default_factory=set)

    @property
    def askable(self) -> tuple[int, ...]:
        """All that the first quorum or the enlarged one may consist of."""
        return tuple(self.members[: self.threshold + 2])

    def begin(self) -> bool:
        """Choose the first quorum. False when there are too few members."""
        self.asked = tuple(sorted(self.members[: self.threshold + 1]))
        return len(self.asked) >= self.threshold

    def enlarge(self) -> bool:
        """Ask all of them and one more: once, and only while another member is alive."""
        others = [member for member in self.members if member not in self.asked]
        if self.enlarged or not others:
            return False
        self.asked = tuple(sorted((*self.asked, others[0])))
        self.enlarged = True
        self._given.clear()
        self._withheld.clear()
        return True

    def give(self, given: Given) -> bool:
        """False for what was not asked."""
        partial = given.partial
        if partial.members != self.asked or partial.member not in self.asked:
            return False
        self._given[partial.member] = given
        return True

    def withhold(self, member: int) -> bool:
        """False for one that was not asked."""
        if member in self.asked:
            self._withheld.add(member)
        return member in self.asked

    def discard(self, member: int) -> None:
        """What it gave is of no use: as if it had withheld."""
        self._given.pop(member, None)
        self._withheld.add(member)

    @property
    def missing(self) -> set[int]:
        """Asked, and not heard yet."""
        return set(self.asked) - set(self._given) - self._withheld

    @property
    def agreeing(self) -> dict[int, Given]:
        """The largest set of members whose evaluations are the same, bit for bit."""
        sets: dict[bytes, dict[int, Given]] = {}
        for member in sorted(self._given):
            given = self._given[member]
            sets.setdefault(given.partial.evaluation, {})[member] = given
        return max(sets.values(), key=len, default={})

    @property
    def enough(self) -> bool:
        """Whether those that agree can decrypt."""
        return len(self.agreeing) >= self.threshold

    @property
    def whole(self) -> bool:
        """Whether all that were asked agree."""
        return len(self.agreeing) == len(self.asked)

    @property
    def differing(self) -> set[int]:
        """Members whose evaluation is not that of the largest set."""
        return set(self._given) - set(self.agreeing)

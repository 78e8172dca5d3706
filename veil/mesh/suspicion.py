"""How long a suspicion lasts before it becomes an accusation of death.

Lifeguard (Dadgar et al., 2017, section IV.B): it starts at the longest and shrinks, logarithmically, with each independent
accuser, to the shortest. A member that sees failures nobody else sees is probably the one that is ill.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Suspicion:
    """One suspicion, begun at ``since_s``."""

    since_s: float
    shortest_s: float
    longest_s: float
    confirmations_wanted: int
    """Accusers besides the first at which it lasts no longer than the shortest."""
    accusers: int = 1

    def ends_s(self) -> float:
        """When it ends, as of now."""
        confirmations = max(0, self.accusers - 1)
        if self.confirmations_wanted < 1:
            return self.since_s + self.shortest_s
        share = math.log(confirmations + 1) / math.log(self.confirmations_wanted + 1)
        return self.since_s + max(self.shortest_s, self.longest_s - share * (self.longest_s - self.shortest_s))

    def forgive(self, lateness_s: float) -> None:
        """This process itself stood still for so long: the suspected one gets the time back."""
        self.since_s += lateness_s

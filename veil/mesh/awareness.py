"""How healthy this member itself is (Lifeguard, section IV.A).

0 is healthy. Missed acks, missed nacks and having to refute make it worse, answered probes make it better. A member in bad
health probes more slowly and waits longer, instead of blaming others for its own slowness.
"""

STARTING = 3
"""Of a member that has just started, perhaps together with a hundred others in the same machines: until its pings are answered it
does not know whether it is well."""


class Awareness:
    """A score from 0 to ``maximum - 1``."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.score = min(STARTING, maximum - 1)

    def add(self, delta: int) -> None:
        """Positive is worse."""
        self.score = min(self._maximum - 1, max(0, self.score + delta))

    def scale(self, duration_s: float) -> float:
        """How long ``duration_s`` is for a member in this health."""
        return duration_s * (self.score + 1)

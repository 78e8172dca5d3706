"""The figures of SWIM for one kind of network, each with its reason.

LAN is what memberlist ships and thousands of Serf and Consul clusters run on, but for the suspicion, and so is WAN, for members
that are continents apart. LOCAL is for all nodes on one machine: ``veil dev`` and tests.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """All times at full health; Lifeguard's awareness multiplies probe interval and timeout by up to ``awareness_max``."""

    probe_interval_s: float
    """One member is probed each interval."""
    probe_timeout_s: float
    """After which others are asked to probe it too; the rest of the interval is theirs."""
    indirect_probes: int
    """How many are asked: with 3, all indirect paths are lost at 10 % packet loss once in 150 probes of a lost ping."""
    suspicion_mult: int
    """The shortest suspicion, in intervals times log10(n): the time a healthy member has to hear of it and refute."""
    cut_off_mult: int
    """The same for a member whose connection ended here and was not made again: it only has to dial, within 1 s."""
    suspicion_max_mult: int
    """The longest suspicion, in shortest ones: what a member that may itself be ill waits when nobody confirms."""
    gossip_interval_s: float
    gossip_nodes: int
    """To so many members the news goes each interval: everybody knows after log(n) intervals."""
    retransmit_mult: int
    """Each claim is passed on so many times log10(n): at 4, the chance that a member misses it is far below 1 in 1,000."""
    push_pull_interval_s: float
    """Between full exchanges with a random member: bounds how long two views differ after a partition heals."""
    awareness_max: int
    """The worst local health: probes take at most so many times longer (Lifeguard, section IV.A)."""

    def suspicion_s(self, members: int, cut_off: bool = False) -> tuple[float, float]:
        """The shortest and longest suspicion among ``members``; ``cut_off``: the suspected one's connection ended here."""
        mult = self.cut_off_mult if cut_off else self.suspicion_mult
        shortest_s = mult * max(1.0, math.log10(max(1, members))) * self.probe_interval_s
        return shortest_s, shortest_s * self.suspicion_max_mult

    def retransmits(self, members: int) -> int:
        """How often one claim is passed on."""
        return self.retransmit_mult * math.ceil(math.log10(members + 1))


LAN = Preset(
    probe_interval_s=1.0,
    # Round trips are below 10 ms; 0.5 s forgives a garbage collection or a busy core.
    probe_timeout_s=0.5,
    indirect_probes=3,
    # memberlist's 4 lets one member's word kill, and sends refutations by UDP. Here k members must each have probed in vain, and
    # frames are sent again by TCP.
    suspicion_mult=3,
    cut_off_mult=1,
    suspicion_max_mult=6,
    gossip_interval_s=0.2,
    gossip_nodes=3,
    retransmit_mult=4,
    push_pull_interval_s=30.0,
    awareness_max=8,
)

WAN = Preset(
    # memberlist's: an interval holds a timeout and the helpers' round trips through two continents.
    probe_interval_s=5.0,
    # A round trip of 300 ms whose packets TCP sends again twice (200 and 400 ms later) is in time, and a slow path besides.
    probe_timeout_s=3.0,
    indirect_probes=3,
    # memberlist's 6 instead of 4: refutations pass through slower paths. 30 s at least.
    suspicion_mult=6,
    # 10 s: a dial takes three round trips, and may be tried three times.
    cut_off_mult=2,
    suspicion_max_mult=6,
    # Fewer and later frames, to one more member: long paths cost more than they delay.
    gossip_interval_s=0.5,
    gossip_nodes=4,
    retransmit_mult=4,
    push_pull_interval_s=60.0,
    awareness_max=8,
)

LOCAL = Preset(
    # Loopback loses nothing, so twice as often; the timeout still forgives an evaluator that takes all cores.
    probe_interval_s=0.5,
    probe_timeout_s=0.3,
    indirect_probes=3,
    # 2 s and 8 s: a node killed in a demonstration is gone while one watches.
    suspicion_mult=4,
    cut_off_mult=2,
    suspicion_max_mult=4,
    gossip_interval_s=0.1,
    gossip_nodes=3,
    retransmit_mult=4,
    push_pull_interval_s=10.0,
    awareness_max=8,
)

PRESETS = {"lan": LAN, "wan": WAN, "local": LOCAL}

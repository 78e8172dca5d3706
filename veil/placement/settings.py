"""The figures of placement, in named presets: each with its reason.

The relations between them matter more than the figures. A reservation ends before anybody who waits a lease can have given
the replica to another node (``reserve_s + 2 * renew_s <= lease_s``, checked here), so that "listen for one lease" is enough
to hear of every binding, also of one whose coordinator died right after its append.
"""

from dataclasses import dataclass

from veil.errors import ConfigInvalid

COORDINATORS = 3
"""Ranks of a shard whose appends count: the coordinator and two stand-ins."""

OFFERS_MAX = 3
"""Nodes that may see a single replica's exact resources in one round; each further replica lets one more see them."""

ROUNDS_AT_ONCE = 2
"""Rounds a coordinator has open: evaluations queue, and a longer queue only makes inputs older."""

ROUNDS_HELD_MAX = 64
"""Rounds that a member or a candidate remembers; the oldest is forgotten."""

ROUNDS_PER_CANDIDATE_MAX = 16
"""Telemetry that a member holds of one candidate, so that nobody fills its memory."""

TELEMETRY_PASSED_MAX = 128
"""Signed telemetry that a member keeps to pass on to another member that lacks it (17 KB each): that of the rounds under way."""

DISPUTES_MAX = 3
"""Attempts in a row that a coordinator makes because members dispute whom it leaves out, before it waits."""

DIGESTS_REMEMBERED_MAX = 65_536
"""Telemetry digests that a member remembers to refuse copies (32 bytes each, the oldest is forgotten)."""

UNHEARD_LEASES = 2
"""Leases for a winner that is alive and was never heard: its reservation is over after one, and it says so when asked."""

SILENT_LEASES = 3
"""Leases without a renewal before a node that SWIM holds alive is given up: it answers others, so it may well be running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSettings:
    """All times in seconds."""

    renew_s: float
    """A winner renews each binding this often. Missing seven or five in a row is no accident."""
    lease_s: float
    """Silence after which a binding is no longer counted on; also how long a new coordinator listens."""
    reserve_s: float
    """How long capacity stays reserved between Accept and the append that must follow."""
    gather_s: float
    """Waiting for the other replicas of a workload to be asked for, since the last one was: they share a round."""
    commit_s: float
    """Waiting for commits: one message each way and 1 ms of encryption."""
    release_s: float
    """Waiting for partials: telemetry, a queue of evaluations, each below 5 s at 64 candidates."""
    check_s: float
    """Waiting on for the member that checks, once enough have answered to decrypt: its evaluation, had it begun last."""
    telemetry_s: float
    """How long a member waits for telemetry that was committed, or for its own view to catch up."""
    offer_s: float
    """Waiting for an answer to an offer: the sealed part by digest, key shares, one reservation."""
    round_s: float
    """After this nobody acts on a round's messages any more: the sum of the above with one repetition."""
    append_retry_s: float
    """Between two attempts to append when the chain did not answer."""
    bound_retry_s: float
    """Between two Bound messages to a winner that was not heard yet."""
    stand_in_s: float
    """How long the ranks above must be gone before a stand-in acts; again for each rank."""
    backoff_min_s: float
    """After a round that placed nothing; doubled each time, because each try costs budget."""
    backoff_max_s: float
    tick_s: float
    """How often timeouts are looked at."""
    cover_tick_s: float = 60.0
    """Telemetry that is never used, of the same size, so that traffic does not say who is eligible; 0 for none."""
    renew_on_change: bool = False
    """Whether a changed status is told at once. It shows when something happens, so only where nobody else watches."""
    finality: str = "finalized"
    """How deep a leaf must be before its instance starts."""

    def __post_init__(self) -> None:
        if self.reserve_s + 2 * self.renew_s > self.lease_s:
            raise ConfigInvalid(
                f"reserve_s={self.reserve_s} + 2 * renew_s={self.renew_s} is over lease_s={self.lease_s}",
                hint="a reservation must end, and be renewed once, before a lease is over",
            )


DEV = PlacementSettings(
    renew_s=1.0,
    lease_s=20.0,
    reserve_s=6.0,
    gather_s=0.15,
    commit_s=1.0,
    release_s=15.0,
    check_s=6.0,
    telemetry_s=3.0,
    offer_s=4.0,
    round_s=45.0,
    append_retry_s=0.5,
    bound_retry_s=0.5,
    stand_in_s=1.0,
    backoff_min_s=1.0,
    backoff_max_s=30.0,
    tick_s=0.05,
    renew_on_change=True,
    finality="latest",
)
"""One machine: messages take a millisecond, evaluations share two cores, and people wait in front of it."""

LAN = PlacementSettings(
    renew_s=5.0,
    lease_s=30.0,
    reserve_s=20.0,
    gather_s=0.5,
    commit_s=2.0,
    release_s=20.0,
    check_s=6.0,
    telemetry_s=5.0,
    offer_s=6.0,
    round_s=75.0,
    append_retry_s=2.0,
    bound_retry_s=2.0,
    stand_in_s=5.0,
    backoff_min_s=5.0,
    backoff_max_s=300.0,
    tick_s=0.1,
)
"""Separate machines in one region, a public chain: half a minute of silence before anything is placed twice."""

PRESETS = {"dev": DEV, "lan": LAN, "wan": LAN}
"""Rounds count in seconds, within which a message crosses the earth: only who is alive is judged more slowly there."""

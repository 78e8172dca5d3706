"""Which replicas wait for a place, since when, and when to try again.

Each attempt costs some of the epoch's decryption budget, so attempts that placed nothing are spaced out exponentially, with
jitter. What can change the outcome (another set of nodes, a new demand or epoch) makes the next attempt due at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from veil.placement.local import Local
from veil.placement.ports import ReplicaKey, Wanted
from veil.types import Generation, ObjectId, PeerId
from veil.wire.rounds import Exclusion


@dataclass(slots=True)
class Entry:
    """One wanted replica."""

    wanted: Wanted
    since_s: float
    """When it was first wanted (monotonic)."""
    attempts: int = 0
    due_s: float = 0.0
    left_out: dict[PeerId, Exclusion] = field(default_factory=dict)
    """Not asked until the back-off is over, each with the reason: refused an offer, or committed and did not deliver."""
    insisted: set[PeerId] = field(default_factory=set)
    """Asked whether they seem gone or not, until the back-off is over: members know that they are not."""
    disputes: int = 0
    """Attempts in a row that ended because members would not leave somebody out."""
    optimistic: bool = False
    """The next attempt rounds in favour of fitting: the last one said that nobody has room."""
    spent: bool = False
    """Whether candidates were left out because the epoch allows no more decisions about them."""
    setting: object = None
    """What the last outcome depended on; when it changes, a new attempt is due."""


class Backlog:
    """Level-triggered: it is told what is wanted, all of it, each time."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self._entries: dict[ReplicaKey, Entry] = {}

    def __contains__(self, key: ReplicaKey) -> bool:
        return key in self._entries

    def get(self, key: ReplicaKey) -> Entry | None:
        return self._entries.get(key)

    def set_wanted(self, wanted: list[Wanted]) -> set[ReplicaKey]:
        """Replace the whole list; gives back what is not wanted any more."""
        named = {one.key: one for one in wanted}
        gone = set(self._entries) - set(named)
        for key in gone:
            del self._entries[key]
        for key, one in named.items():
            self._entries.setdefault(key, Entry(one, self.local.now())).wanted = one
        return gone

    def due(self) -> list[list[Entry]]:
        """Entries that may be tried now, longest due first, those together that one round can place."""
        now = self.local.now()
        groups: dict[object, list[Entry]] = {}
        for entry in sorted((entry for entry in self._entries.values() if entry.due_s <= now), key=lambda entry: entry.due_s):
            key = entry.wanted.key
            left_out = frozenset((peer, why.round) for peer, why in entry.left_out.items())
            alike = (key.object_id, key.generation, left_out, frozenset(entry.insisted), entry.optimistic)
            groups.setdefault(alike, []).append(entry)
        return list(groups.values())

    def count(self, object_id: ObjectId, generation: Generation) -> int:
        """Replicas of that template that are wanted, placed or not."""
        return sum((key.object_id, key.generation) == (object_id, generation) for key in self._entries)

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def later(self, entry: Entry, setting: object) -> None:
        """The last attempt placed nothing: wait, twice as long each time, and let everybody be asked again then."""
        settings = self.local.settings
        pause = min(settings.backoff_max_s, settings.backoff_min_s * 2**entry.attempts)
        jitter = 0.75 + 0.5 * self.local.random.bytes(1)[0] / 255
        entry.attempts = min(entry.attempts + 1, 30)
        entry.due_s = self.local.now() + pause * jitter
        _forgive(entry)
        entry.setting = setting

    def soon(self, entry: Entry, *, without: Sequence[Exclusion] = (), optimistic: bool = False, spent: bool = False) -> None:
        """The next attempt has a reason to end differently: make it now, without those who spoilt this one."""
        entry.left_out |= {PeerId(exclusion.peer): exclusion for exclusion in without}
        entry.spent |= spent
        entry.optimistic = optimistic
        entry.due_s = self.local.now()

    def insist(self, entry: Entry, disputed: frozenset[PeerId]) -> None:
        """Try again now, and ask those whom members would not see left out."""
        for peer in disputed:
            entry.left_out.pop(peer, None)
        entry.insisted |= disputed
        entry.disputes += 1
        entry.due_s = self.local.now()

    def reconsider(self, entry: Entry, setting: object) -> None:
        """What the last outcome depended on is ``setting`` now."""
        if entry.setting is not None and entry.setting != setting:
            entry.attempts, entry.due_s, entry.setting = 0, self.local.now(), None

    def settled(self, key: ReplicaKey) -> None:
        """It has a place."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.attempts, entry.due_s, entry.setting = 0, 0.0, None
            _forgive(entry)


def _forgive(entry: Entry) -> None:
    """Everybody may be asked again."""
    entry.left_out.clear()
    entry.insisted.clear()
    entry.disputes = 0
    entry.optimistic = entry.spent = False

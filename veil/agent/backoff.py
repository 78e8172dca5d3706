"""When an ended container runs again, and when a failed attempt is made again. The figures are the kubelet's.

The first restart is immediate, then the pauses double from 10 s to 300 s; a run of 10 minutes makes the next restart
immediate again. What is needed for that is kept in the journal, so that a restart of the node is no way out of a crash loop.

Times are the wall clock's, because they outlive this process and because the runtime's are. A clock that is set back must make
nothing wait until it has caught up: what lies in the future by more than can be counts as over.
"""

from dataclasses import dataclass, replace

BACKOFF_FIRST_S = 10.0
BACKOFF_MAX_S = 300.0
BACKOFF_RESET_S = 600.0
CLOCK_MARGIN_S = 2.0
"""How far an end that has been seen may lie in the future by rounding alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is remembered of one container across restarts of container and node."""

    count: int = 0
    """How often it was started again."""
    last_s: float = 0.0
    """When it was last started, Unix seconds; 0 = never."""
    backoff_s: float = 0.0
    """The pause before the next restart."""

    @property
    def started(self) -> bool:
        return self.last_s > 0


def first_start(history: History, now_s: float) -> History:
    """After a start that is no restart."""
    return replace(history, last_s=now_s)


def restarted(history: History, *, ended_s: float, now_s: float) -> History:
    """After a restart at ``now_s`` of a run that ended at ``ended_s`` (0 = unknown: now)."""
    pause_s = _pause_s(history, ended_s or now_s)
    following_s = min(BACKOFF_MAX_S, pause_s * 2) if pause_s else BACKOFF_FIRST_S
    return History(count=history.count + 1, last_s=now_s, backoff_s=following_s)


def due_s(history: History, *, ended_s: float, now_s: float) -> float:
    """From when on it may be started again, Unix seconds. An unknown end (0) counts as the moment after its start."""
    ended_s = ended_s or history.last_s
    if ended_s > now_s + CLOCK_MARGIN_S:
        return now_s
    return ended_s + _pause_s(history, ended_s)


def _pause_s(history: History, ended_s: float) -> float:
    return 0.0 if ended_s - history.last_s >= BACKOFF_RESET_S else history.backoff_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why the last attempt to create, start or pull failed, and when the next is due. In memory: a new agent tries at once."""

    reason: str
    message: str
    attempts: int
    until_s: float

    def holds(self, now_s: float) -> bool:
        """Whether it is too early for the next attempt."""
        return now_s < self.until_s <= now_s + BACKOFF_MAX_S


def again(before: Trouble | None, *, reason: str, message: str, now_s: float) -> Trouble:
    """After one more failure."""
    attempts = before.attempts + 1 if before is not None else 1
    pause_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempts - 1, 16))
    return Trouble(reason=reason, message=message, attempts=attempts, until_s=now_s + pause_s)

"""Which shards this node coordinates right now, and whether it may trust what it does not know.

Rank 0 acts; a stand-in acts once all ranks above it have been gone for a while, longer for each rank. Whoever begins to act
knows nothing of the bindings that others made: it listens for one lease before it takes silence for an answer. It need not
when the log shows that nobody else can have bound the replica: no append by another since the replica's template exists.
"""

from dataclasses import dataclass

from veil.placement.local import Local
from veil.placement.tails import LogTail
from veil.store.rows import LogRow
from veil.types import SHARDS, Digest, PeerId, Shard


@dataclass(slots=True)
class ShardWatch:
    """One shard as its coordinator sees it."""

    acting_since_s: float | None = None
    listen_until_s: float = 0.0
    news: int = 0
    """How many appends by others were seen: what was decided at another count was decided on less."""


class Acting:
    """All shards. ``own`` names this process's appends by shard and sequence: their leaves are known, so they are no news."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self.own: dict[tuple[Shard, int], Digest] = {}
        self._tails = {Shard(number): LogTail(local.view, Shard(number)) for number in range(SHARDS)}
        self._watches = {Shard(number): ShardWatch() for number in range(SHARDS)}
        self._above: dict[Shard, tuple[PeerId, ...]] = {}
        """Shards in which this node is among the first ranks, and the ranks above it."""
        self._gone_since_s: dict[PeerId, float] = {}

    def is_acting(self, shard: Shard) -> bool:
        return self._watches[shard].acting_since_s is not None

    def acting(self) -> list[Shard]:
        return [shard for shard in self._watches if self.is_acting(shard)]

    def last_sequence(self, shard: Shard) -> int:
        """The end of the log as of :meth:`view_changed`: everything up to it has been taken into account."""
        return self._tails[shard].sequence

    def news(self, shard: Shard) -> int:
        return self._watches[shard].news

    def may_place(self, shard: Shard, since_block: int) -> bool:
        """Whether silence about a replica whose template exists since that block means that nobody holds it."""
        watch = self._watches[shard]
        if watch.acting_since_s is None:
            return False
        if self.local.now() >= watch.listen_until_s:
            return True
        return not any(self._is_foreign(row) for row in self._tails[shard].since(since_block))

    def view_changed(self) -> list[Shard]:
        """Rank again and read the logs on; gives back the shards in which another has appended."""
        term = self.local.ranking.term()
        news = []
        for shard, watch in self._watches.items():
            ranks = self.local.ranking.coordinators(shard, term)
            self._above.pop(shard, None)
            if self.local.peer in ranks:
                self._above[shard] = ranks[: ranks.index(self.local.peer)]
            if any(self._is_foreign(row) for row in self._tails[shard].advance()):
                watch.news += 1
                watch.listen_until_s = self.local.now() + self.local.settings.lease_s
                news.append(shard)
        return news

    def tick(self) -> None:
        """Begin and cease to act."""
        now = self.local.now()
        gone = {peer for above in self._above.values() for peer in above if self.local.liveness.gone(peer)}
        self._gone_since_s = {peer: self._gone_since_s.get(peer, now) for peer in gone}
        for shard, watch in self._watches.items():
            acts = shard in self._above and self._should_act(self._above[shard], now)
            if acts and watch.acting_since_s is None:
                watch.acting_since_s = now
                watch.listen_until_s = now + self.local.settings.lease_s
            elif not acts:
                watch.acting_since_s = None

    def _should_act(self, above: tuple[PeerId, ...], now: float) -> bool:
        patience_s = self.local.settings.stand_in_s * len(above)
        return all(peer in self._gone_since_s and now - self._gone_since_s[peer] >= patience_s for peer in above)

    def _is_foreign(self, row: LogRow) -> bool:
        return self.own.get((Shard(row.shard), row.sequence)) != row.root and self.local.ranking.counts(row)

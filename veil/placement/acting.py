"""Which shards this node coordinates right now, and whether it may trust what it does not know.

Rank 0 acts; a stand-in acts once all ranks above it have been gone for a while, longer for each rank. Whoever begins to act
knows nothing of the bindings that others made: it listens for one lease before it takes silence for an answer. It need not
when the log shows that nobody else can have bound the replica: no append by another since the replica's generation exists.
"""

from dataclasses import dataclass

from veil.placement.local import Local
from veil.placement.tails import LogTails
from veil.store.rows import LogRow
from veil.types import SHARDS, Digest, PeerId, Shard


@dataclass(slots=True)
class ShardWatch:
    """One shard as its coordinator sees it."""

    acting_since_s: float | None = None
    listen_until_s: float = 0.0
    foreign_sequence: int = 0
    """The newest append by another that counts."""


class Acting:
    """All shards. ``own`` names this process's appends by shard and sequence: their leaves are known, so they are no news."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self.own: dict[tuple[Shard, int], Digest] = {}
        self._tails = LogTails(local.view)
        self._watches = {Shard(number): ShardWatch() for number in range(SHARDS)}
        self._ranks: dict[Shard, tuple[PeerId, ...]] = {}
        self._gone_since_s: dict[PeerId, float] = {}

    def is_acting(self, shard: Shard) -> bool:
        return self._watches[shard].acting_since_s is not None

    def acting(self) -> list[Shard]:
        return [shard for shard in self._watches if self.is_acting(shard)]

    def ranks(self, shard: Shard) -> tuple[PeerId, ...]:
        return self._ranks.get(shard, ())

    def last_sequence(self, shard: Shard) -> int:
        return self._tails.of(shard).sequence

    def foreign_sequence(self, shard: Shard) -> int:
        return self._watches[shard].foreign_sequence

    def may_place(self, shard: Shard, since_block: int) -> bool:
        """Whether silence about a replica whose generation exists since that block means that nobody holds it."""
        watch = self._watches[shard]
        if watch.acting_since_s is None:
            return False
        if self.local.now() >= watch.listen_until_s:
            return True
        return not any(self._is_foreign(row) for row in self._tails.of(shard).since(since_block))

    def view_changed(self) -> list[Shard]:
        """Rank again and read the logs on; gives back the shards in which another has appended."""
        term = self.local.ranking.term()
        news = []
        for shard, watch in self._watches.items():
            self._ranks[shard] = self.local.ranking.coordinators(shard, term)
            if self.local.peer not in self._ranks[shard] and watch.acting_since_s is None:
                continue
            foreign = [row for row in self._tails.of(shard).after(watch.foreign_sequence) if self._is_foreign(row)]
            if foreign:
                watch.foreign_sequence = foreign[-1].sequence
                watch.listen_until_s = self.local.now() + self.local.settings.lease_s
                news.append(shard)
        return news

    def tick(self) -> None:
        """Begin and cease to act."""
        now = self.local.now()
        gone = {peer for ranks in self._ranks.values() for peer in ranks if self._is_gone(peer)}
        self._gone_since_s = {peer: self._gone_since_s.get(peer, now) for peer in gone}
        for shard, watch in self._watches.items():
            acts = self._should_act(shard, now)
            if acts and watch.acting_since_s is None:
                watch.acting_since_s = now
                watch.listen_until_s = now + self.local.settings.lease_s
            elif not acts:
                watch.acting_since_s = None

    def _should_act(self, shard: Shard, now: float) -> bool:
        ranks = self.ranks(shard)
        if self.local.peer not in ranks:
            return False
        above = ranks[: ranks.index(self.local.peer)]
        patience_s = self.local.settings.stand_in_s * len(above)
        return all(now - self._gone_since_s.get(peer, now) >= patience_s and peer in self._gone_since_s for peer in above)

    def _is_gone(self, peer: PeerId) -> bool:
        return peer != self.local.peer and self.local.liveness.gone(peer)

    def _is_foreign(self, row: LogRow) -> bool:
        return self.own.get((Shard(row.shard), row.sequence)) != row.root and self.local.ranking.counts(row)

"""Where the placement logs end, as this node's view has them, without reading them anew each time."""

from veil.placement.ports import ClusterView
from veil.store.rows import LogRow
from veil.types import Shard


class LogTail:
    """One shard's log, followed row by row. A reorg takes it back to the last row that is still there."""

    def __init__(self, view: ClusterView, shard: Shard) -> None:
        self._view = view
        self._shard = shard
        self._rows: list[LogRow] = []

    @property
    def sequence(self) -> int:
        """The log's last sequence as of :meth:`advance`; 0 for none."""
        return self._rows[-1].sequence if self._rows else 0

    def since(self, block: int) -> list[LogRow]:
        """Rows in blocks from ``block`` on, newest first."""
        found = []
        for row in reversed(self._rows):
            if row.block < block:
                break
            found.append(row)
        return found

    def after(self, sequence: int) -> list[LogRow]:
        """Rows with a higher sequence, oldest first."""
        return self._rows[sequence:] if sequence >= 0 else list(self._rows)

    def advance(self) -> list[LogRow]:
        """Rows that are new since the last call, oldest first (after a reorg: also those that took a sequence anew)."""
        if not self._rows:
            self._rows = list(self._view.log(self._shard))
            return list(self._rows)
        while self._rows and self._view.log_at(self._shard, self._rows[-1].sequence) != self._rows[-1]:
            self._rows.pop()
        new = []
        while (row := self._view.log_at(self._shard, self.sequence + 1)) is not None:
            self._rows.append(row)
            new.append(row)
        return new


class LogTails:
    """The tails of all shards that somebody asked for."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._tails: dict[Shard, LogTail] = {}

    def of(self, shard: Shard) -> LogTail:
        """Advanced to the view's end."""
        tail = self._tails.setdefault(shard, LogTail(self._view, shard))
        tail.advance()
        return tail

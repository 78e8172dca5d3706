"""The key epochs that this node works with: the active one, the next one as soon as it is announced, the last one for a while.

The chain says which epoch is active (:meth:`veil.store.projection.Projection.active_epoch`). A newer one is loaded while the
active one still works, so that nothing has to be fetched or started in the moment in which it takes over; the one before
stays for OVERLAP_S, because rounds and key requests that were begun in it are still under way. There are never more than two
evaluators: the next epoch is loaded once the last one's has ended.

Nothing here falls back: while a part of the active epoch is missing, :attr:`EpochKeeper.problem` says which, the node's
condition shows it, and placement waits. A member whose evaluator cannot be had, or whose journal is not the one that took its
share, works with the epoch all the same, and abstains from decisions.
"""

import asyncio
import logging
from collections.abc import Callable

from veil.errors import VeilError
from veil.node.epoch_loading import EpochLoader, LoadedEpoch
from veil.node.health import Verdict
from veil.placement.ports import EpochParts
from veil.store.projection import Projection
from veil.store.rows import EpochRow
from veil.types import Digest

log = logging.getLogger(__name__)

OVERLAP_S = 60.0
"""How long the last epoch's parts stay after it was retired: rounds begun in it end well within, appends mostly."""


class EpochKeeper:
    """Level-triggered: :meth:`sync` makes the chain's active epoch the working one, and prepares the next."""

    def __init__(self, *, projection: Projection, loader: EpochLoader, on_parts: Callable[[EpochParts | None], None]) -> None:
        self._projection = projection
        self._loader = loader
        self._on_parts = on_parts
        self._loaded: dict[Digest, LoadedEpoch] = {}
        self._working: Digest | None = None
        self._last: Digest | None = None
        self._last_until_s = 0.0
        self._next: EpochRow | None = None
        self._next_problem = ""
        self.problem = "no key epoch was read from the chain yet"

    @property
    def parts(self) -> EpochParts | None:
        """Those of the active epoch."""
        return self._parts_of(self._working)

    @property
    def next_parts(self) -> EpochParts | None:
        """Those of the epoch that is prepared; None while there is none or it is not complete."""
        return self._parts_of(self._next.digest) if self._next is not None else None

    @property
    def last_parts(self) -> EpochParts | None:
        """Those of the epoch before, for OVERLAP_S after it was retired."""
        return self._parts_of(self._last)

    @property
    def evaluator_pid(self) -> int:
        """Of the active epoch's `veil-evald`; 0 while there is none."""
        working = self._loaded.get(self._working) if self._working is not None else None
        return working.member.pid if working is not None and working.member is not None else 0

    @property
    def fhe(self) -> Verdict:
        """Whether this node does its share of evaluating and decrypting, or why it abstains."""
        working = self._loaded.get(self._working) if self._working is not None else None
        return working.verdict if working is not None else Verdict(False, "EpochMissing", self.problem)

    @property
    def prepared(self) -> Verdict:
        """Whether this node can go over to the next epoch."""
        if self._next is None:
            return Verdict(True, "NoNextEpoch")
        if self._next_problem:
            return Verdict(False, "NotPrepared", f"epoch {self._next.epoch}: {self._next_problem}")
        loaded = self._loaded.get(self._next.digest)
        if loaded is None:
            return Verdict(False, "NotPrepared", f"epoch {self._next.epoch} is being loaded")
        well, reason, message = loaded.verdict
        return Verdict(True, "Prepared", f"epoch {self._next.epoch}") if well else Verdict(False, reason, message)

    async def sync(self) -> None:
        """Raises what kept an epoch from being complete; it is tried again."""
        active, self._next = self._projection.active_epoch(), self._projection.next_epoch()
        await self._forget({row.digest for row in (active, self._next) if row is not None})
        if active is None:
            self.problem = "the registry has no active key epoch"
            await self._work_with(None)
            return
        try:
            await self._load(active)
        except VeilError as error:
            self.problem = f"{error.reason}: {error.message}"
            if self._working != active.digest:
                await self._work_with(None)
            raise
        self.problem = ""
        await self._work_with(active.digest)
        await self._prepare()

    async def close(self) -> None:
        """End all evaluators."""
        self._working = None
        self._on_parts(None)
        for loaded in self._loaded.values():
            await loaded.close()
        self._loaded.clear()

    def _parts_of(self, digest: Digest | None) -> EpochParts | None:
        loaded = self._loaded.get(digest) if digest is not None else None
        return loaded.parts if loaded is not None else None

    async def _load(self, row: EpochRow) -> None:
        """Have it loaded, and its evaluator running."""
        loaded = self._loaded.get(row.digest)
        if loaded is None:
            self._loaded[row.digest] = await self._loader.load(row)
            log.info("key epoch %d is loaded", row.epoch)
        elif await loaded.keep_evaluating() and row.digest == self._working:
            self._on_parts(loaded.parts)

    async def _work_with(self, digest: Digest | None) -> None:
        before, last = self._working, self._last
        if digest == before:
            return
        self._working = digest
        if before is not None:
            self._last, self._last_until_s = before, asyncio.get_running_loop().time() + OVERLAP_S
        elif last == digest:
            self._last = None
        self._on_parts(self.parts)
        if self.parts is not None:
            log.info("working with key epoch %d", self.parts.key_epoch.epoch)
        if last not in (None, digest, self._last):
            await self._drop(last)

    async def _prepare(self) -> None:
        """Once the last epoch's evaluator has ended."""
        if self._next is None or self._last is not None:
            self._next_problem = ""
            return
        try:
            await self._load(self._next)
            self._next_problem = ""
        except VeilError as error:
            self._next_problem = f"{error.reason}: {error.message}"
            raise

    async def _forget(self, wanted: set[Digest]) -> None:
        """End what is neither active, nor next, nor the last one within its overlap."""
        if self._last is not None and asyncio.get_running_loop().time() >= self._last_until_s:
            self._last = None
        for digest in [digest for digest in self._loaded if digest not in wanted | {self._last, self._working}]:
            await self._drop(digest)

    async def _drop(self, digest: Digest | None) -> None:
        if digest is not None and (loaded := self._loaded.pop(digest, None)) is not None:
            await loaded.close()

"""Every block's events once, in order, checked; and the way back after a reorg.

Four rules make it right. (1) Nothing is given out before the fold over the logs equals ``head()`` at the block they end
with: a gap, a repeated or a changed log cannot pass. (2) Reorgs are found by comparing hashes of remembered blocks, never by
``removed`` logs, which many endpoints do not send. (3) Errors of the endpoint are waited out, or another endpoint is used;
a contradiction that lasts makes it leave the endpoint, and is an error (HeadMismatch) when there is no other. (4) What one
endpoint said is believed of another only after that one has said the same: after a change the way back is looked for among
the remembered blocks whose hash and head() both agree.

The same path serves the newest block and a cold sync: ranges of logs (:mod:`veil.chain.ranges`). Where an endpoint no
longer has the state of an old block the check waits for the next block whose state it has.
"""

import asyncio
import bisect
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from veil.chain import logs
from veil.chain.endpoints import Endpoints
from veil.chain.logs import RawLog
from veil.chain.ports import EMPTY_HEAD, Block, BlockEvents, ChainEvent, Finality, Finalized, Head, Rollback
from veil.chain.ranges import Ranges, head_call, head_of
from veil.chain.rpc import Answer, Header, Rpc, RpcRefused
from veil.errors import ChainUnavailable, HeadMismatch
from veil.store.collector import collector_paused
from veil.types import Address

logger = logging.getLogger(__name__)

POLL_S = 0.05
"""Between looks at the newest block."""

BLOCKS_REMEMBERED = 512
"""How many blocks a fork point is looked for among; deeper, everything is read again."""

AWAY_MAX_S = 2.0
"""The longest pause between looks for an endpoint that is away."""

AWAY_ATTEMPTS = 2
"""How often in a row an endpoint may fail to answer before another is used: in the middle of a reorg it can."""

MISMATCH_ATTEMPTS = 5
"""How often in a row logs and ``head()`` may disagree: an endpoint behind a balancer can lag. The pauses between double."""

LOST_LOOKS = 4
"""How often in a row an endpoint may lack a block below its newest one: servers behind one name lag. Then it was lost."""

HURRIES = 20
"""How often a newest block without a state is asked for again at once: a chain that keeps no old states has mined another."""

Item = BlockEvents | Rollback | Finalized


class _Seen:
    """One remembered block; ``head`` is unknown for those that the caller stored."""

    __slots__ = ("hash", "head", "number")

    def __init__(self, number: int, block_hash: bytes, head: Head | None) -> None:
        self.number = number
        self.hash = block_hash
        self.head = head


class _Cursor:
    """Where one follower stands, and whom it asks."""

    def __init__(self, rpc: Rpc, registry: Address, tip: int, head: Head, known: Sequence[Block]) -> None:
        self.rpc = rpc
        self.registry = registry
        self.told_by_another = bool(known)
        """Whether an earlier endpoint (or one of an earlier run) said what is remembered, and this one not yet the same."""
        self.tip = tip
        self.head = head
        self.seen = [_Seen(b.number, b.hash, head if b.number == tip else b.head) for b in known if b.number <= tip]
        self.ranges = Ranges(rpc, registry)
        self.unchecked: list[RawLog] = []
        """Logs after ``head`` and up to ``fetched`` that wait for a block whose head() can be asked."""
        self.heads = [head]
        """The heads before, between and after ``unchecked``; fewer than that where a log is missing or out of order."""
        self.fetched = tip
        self.mismatches = 0
        self.lost = 0
        """How often in a row the endpoint had no block where it must have one."""
        self.headless = 0
        """How often in a row the newest block's state was gone before it was asked for."""
        self.levels: dict[Finality, int] = {}

    def ask(self, rpc: Rpc) -> None:
        """Go on with ``rpc``."""
        if rpc is not self.rpc:
            self.begin_again()
            self.rpc, self.told_by_another = rpc, True
            self.ranges = Ranges(rpc, self.registry)
            self.mismatches = self.headless = self.lost = 0

    @property
    def tip_hash(self) -> bytes | None:
        return self.seen[-1].hash if self.seen and self.seen[-1].number == self.tip else None

    def remember(self, number: int, block_hash: bytes, head: Head) -> None:
        self.seen.append(_Seen(number, block_hash, head))
        del self.seen[:-BLOCKS_REMEMBERED]

    @collector_paused()
    def add(self, found: Sequence[RawLog]) -> None:
        """Logs that follow ``unchecked``."""
        for log in found:
            if len(self.heads) > len(self.unchecked) and log.rv == self.heads[-1].rv + 1:
                self.heads.append(logs.fold(self.heads[-1], log))
            self.unchecked.append(log)

    def agrees(self, head: Head | None) -> bool:
        """Whether ``unchecked`` leads to ``head`` without a gap."""
        return len(self.heads) > len(self.unchecked) and self.heads[-1] == head

    def begin_again(self) -> None:
        """Go on from ``tip``: what came after it is asked for once more."""
        self.ranges.forget()
        self.move(self.tip, self.head)

    def move(self, tip: int, head: Head) -> None:
        self.tip = self.fetched = tip
        self.head = head
        self.unchecked, self.heads = [], [head]

    def back_to(self, tip: int, head: Head) -> Rollback:
        self.seen = self.seen[: bisect.bisect_right([block.number for block in self.seen], tip)]
        self.move(tip, head)
        self.ranges.forget()
        self.mismatches = 0
        self.levels = {level: min(number, tip) for level, number in self.levels.items()}
        return Rollback(tip)


class Informer:
    """Follows one registry through one endpoint at a time. ``deploy_block`` is where its first event can be."""

    def __init__(
        self,
        endpoints: Endpoints,
        registry: Address,
        *,
        deploy_block: int = 0,
        poll_s: float = POLL_S,
        levels: Sequence[Finality] = (Finality.SAFE, Finality.FINALIZED),
    ) -> None:
        self._endpoints = endpoints
        self._registry = registry
        self._start = max(deploy_block - 1, 0)
        self._poll_s = poll_s
        self._levels = [level for level in levels if level is not Finality.LATEST]

    async def follow(self, *, from_block: int, from_head: Head, known: Sequence[Block] = ()) -> AsyncIterator[Item]:
        """See :meth:`veil.chain.ports.Chain.follow`. A cursor that cannot be proven canonical is rolled back to the start."""
        cursor = _Cursor(self._endpoints.current(), self._registry, max(from_block, self._start), from_head, known)
        away = 0
        try:
            while True:
                cursor.ask(self._endpoints.trusted())
                try:
                    items = await self._step(cursor)
                    away = 0
                except HeadMismatch as error:
                    if not self._endpoints.leave(cursor.rpc, f"contradicts itself ({error.message})", lied=True):
                        raise
                    continue
                except ChainUnavailable as error:
                    if away >= AWAY_ATTEMPTS and self._endpoints.leave(cursor.rpc, f"cannot be read ({error.message})"):
                        away = 0
                        continue
                    if away == 0:
                        logger.warning("waiting for the chain: %s", error.message)
                    away = min(away + 1, 8)
                    await asyncio.sleep(random.uniform(0.5, 1) * min(self._poll_s * 2**away, AWAY_MAX_S))  # noqa: S311
                    continue
                for item in items:
                    yield item
                if not items and cursor.fetched == cursor.tip:
                    hurry = 0 < cursor.headless <= HURRIES
                    await asyncio.sleep(self._poll_s / 10 if hurry else self._poll_s)
        finally:
            cursor.ranges.forget()

    async def _step(self, cursor: _Cursor) -> list[Item]:
        """One look at the chain: a rollback, or the next blocks, or nothing."""
        calls: list[tuple[str, list[Any]]] = [("eth_getBlockByNumber", [tag, False]) for tag in ("latest", hex(cursor.tip))]
        calls += [("eth_getBlockByNumber", [str(level), False]) for level in self._levels]
        latest_answer, tip_answer, *levels = await cursor.rpc.batch(calls)
        latest = latest_answer.value(Header)
        at_tip = tip_answer.optional(Header)
        if not await self._canonical(cursor, at_tip, int(latest.number, 16)):
            return [await self._back(cursor)]
        items: list[Item] = []
        if int(latest.number, 16) > cursor.tip:
            items += await self._forward(cursor, latest)
        return items + self._finalized(cursor, levels)

    async def _canonical(self, cursor: _Cursor, at_tip: Header | None, latest: int) -> bool:
        if cursor.tip <= self._start and not cursor.seen:
            return True
        if at_tip is None:
            # The endpoint is behind this cursor: it lags, or it came back without its newest blocks. It is waited for
            # unless what it has contradicts what is remembered.
            older = [block for block in cursor.seen if block.number <= latest]
            if not older:
                return True
            header = await cursor.rpc.find(Header, "eth_getBlockByNumber", hex(older[-1].number), False)
            if header is not None:
                return _bytes(header.hash) == older[-1].hash
            cursor.lost += 1
            if cursor.lost < LOST_LOOKS:
                raise ChainUnavailable(
                    f"{cursor.rpc.name} has no block {older[-1].number}, its newest is {latest}", hint="does the endpoint lag?"
                )
            return False
        cursor.lost = 0
        if cursor.tip_hash is not None and not cursor.told_by_another:
            return _bytes(at_tip.hash) == cursor.tip_hash
        if cursor.tip_hash not in (None, _bytes(at_tip.hash)):
            return False
        head = await self._head_at(cursor, at_tip.hash)
        if head is None and cursor.tip_hash is not None:
            return True  # no state of that block: the next one's head() tells
        if head != cursor.head:
            return False
        if cursor.tip_hash is None:
            cursor.remember(cursor.tip, _bytes(at_tip.hash), cursor.head)
        cursor.told_by_another = False
        return True

    async def _back(self, cursor: _Cursor, *, strict: bool = False) -> Rollback:
        """To the newest remembered block that is still canonical, or to the start. See :meth:`_proven` for ``strict``."""
        has_any = False
        older = [block for block in cursor.seen if block.number < cursor.tip or cursor.tip_hash is not None]
        for first in range(len(older), 0, -32):
            chunk = older[max(0, first - 32) : first]
            answers = await cursor.rpc.batch([("eth_getBlockByNumber", [hex(block.number), False]) for block in chunk])
            for block, answer in zip(reversed(chunk), reversed(answers), strict=True):
                header = answer.optional(Header)
                has_any = has_any or header is not None
                if header is None or _bytes(header.hash) != block.hash:
                    continue
                head = await self._proven(cursor, block, strict=strict)
                if head is not None:
                    block.head = head
                    logger.info("back from block %d to %d", cursor.tip, block.number)
                    return cursor.back_to(block.number, head)
        if older and not has_any:
            raise ChainUnavailable(f"{cursor.rpc.name} has none of the remembered blocks", hint="use another RPC endpoint")
        logger.warning("no remembered block is canonical: reading the chain again from block %d", self._start)
        cursor.told_by_another = False
        return cursor.back_to(self._start, EMPTY_HEAD)

    async def _proven(self, cursor: _Cursor, block: _Seen, *, strict: bool) -> Head | None:
        """The head after a remembered block that is canonical; None when this endpoint contradicts what is remembered.

        ``strict``: also when it cannot say, because it has no state of that block.
        """
        if block.head is not None and not cursor.told_by_another:
            return block.head
        told = await self._head_at(cursor, "0x" + block.hash.hex())
        if told is None and not strict:
            return block.head
        if block.head not in (None, told):
            return None
        cursor.told_by_another = False
        return told

    async def _forward(self, cursor: _Cursor, latest: Header) -> list[Item]:
        """Fetch the next range, check it against head(), give out its blocks."""
        target, marks = latest, list[Header]()
        if int(latest.number, 16) > cursor.fetched:
            found = await cursor.ranges.read(cursor.fetched, latest, known=cursor.tip)
            if found is None:
                return []
            target, head, marks = found.end, found.head, found.marks
            cursor.add(found.logs)
        else:
            head = await self._head_at(cursor, latest.hash)
        if head is None and target is not latest:
            cursor.fetched = int(target.number, 16)
            return []
        if not cursor.agrees(head):
            return await self._mismatch(cursor, target, head)
        try:
            return await self._accept(cursor, [*marks, target])
        except ChainUnavailable:
            cursor.begin_again()
            raise

    async def _mismatch(self, cursor: _Cursor, target: Header, head: Head | None) -> list[Item]:
        """Start the range over if the block is gone by now, or from where both endpoints agree; raise if it lasts."""
        shown = len(cursor.unchecked)
        cursor.begin_again()
        if head is not None and cursor.told_by_another:
            return [await self._back(cursor, strict=True)]
        if head is None:
            cursor.headless += 1
            if cursor.headless == HURRIES:
                logger.warning("the endpoint gives no head() at its newest block %d: waiting", int(target.number, 16))
            return []
        now = await cursor.rpc.find(Header, "eth_getBlockByNumber", target.number, False)
        if now is None or now.hash != target.hash:
            return []
        cursor.mismatches += 1
        if cursor.mismatches >= MISMATCH_ATTEMPTS:
            raise HeadMismatch(
                f"up to block {int(target.number, 16)} the endpoint shows {shown} events after rv {cursor.head.rv}, "
                f"its head() says rv {head.rv}, and the hash chain over them differs",
                hint="events are missing or changed: use another RPC endpoint",
            )
        await asyncio.sleep(self._poll_s * 2**cursor.mismatches)
        return []

    async def _accept(self, cursor: _Cursor, marks: list[Header]) -> list[Item]:
        """Checked logs become items; the cursor moves to the range's end.

        ``marks``: blocks that are given out also without events, the range's end last.
        """
        cursor.mismatches = cursor.headless = 0
        cursor.told_by_another = False
        heads = cursor.heads
        blocks = _blocks(marks, cursor.unchecked, heads, await self._times(cursor))
        for done in blocks:
            cursor.remember(done.block.number, done.block.hash, done.head)
        cursor.move(int(marks[-1].number, 16), heads[-1])
        return [*blocks, Finalized(Finality.LATEST, cursor.tip)]

    async def _times(self, cursor: _Cursor) -> dict[int, int]:
        """The blocks' timestamps: in the logs where the endpoint puts them there, else from the headers."""
        times = {log.block: log.timestamp_s for log in cursor.unchecked}
        missing = [number for number, time in times.items() if time is None]
        for first in range(0, len(missing), 100):
            numbers = missing[first : first + 100]
            answers = await cursor.rpc.batch([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
            times.update({n: int(a.value(Header).timestamp, 16) for n, a in zip(numbers, answers, strict=True)})
        return {number: time or 0 for number, time in times.items()}

    def _finalized(self, cursor: _Cursor, answers: Sequence[Answer]) -> list[Item]:
        items: list[Item] = []
        for level, answer in zip(self._levels, answers, strict=True):
            try:
                header = answer.optional(Header)
            except RpcRefused:
                continue
            number = min(int(header.number, 16), cursor.tip) if header else 0
            if number > cursor.levels.get(level, 0):
                cursor.levels[level] = number
                items.append(Finalized(level, number))
        return items

    async def _head_at(self, cursor: _Cursor, block_hash: str) -> Head | None:
        """head() after a block, None when the endpoint has no state of it."""
        return head_of((await cursor.rpc.batch([head_call(self._registry, block_hash)]))[0])


@collector_paused()
def _blocks(
    marks: Sequence[Header], pending: Sequence[RawLog], heads: Sequence[Head], times: Mapping[int, int]
) -> list[BlockEvents]:
    """The blocks of ``marks`` and those of ``pending``, in order, each with its events and the head after them."""
    found: dict[int, tuple[Block, tuple[ChainEvent, ...]]] = {}
    for mark in marks:
        number = int(mark.number, 16)
        found[number] = (Block(number, _bytes(mark.hash), int(mark.timestamp, 16)), ())
    for (number, block_hash), group in groupby(pending, key=lambda log: (log.block, log.block_hash)):
        found[number] = (Block(number, block_hash, times[number]), tuple(map(logs.decode, group)))
    result: list[BlockEvents] = []
    done = 0
    for _, (block, events) in sorted(found.items()):
        done += len(events)
        result.append(BlockEvents(block, events, heads[done]))
    return result


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])

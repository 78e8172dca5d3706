"""Ranges of a registry's logs from one endpoint, read ahead: while one is checked and written the endpoint makes the next.

The size of a range follows what was in the one before, so that nothing is hundreds of requests or one answer of a hundred
megabytes, and is halved on every refusal. Whether the logs are all, and true, is checked by who reads (the informer).
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from veil.chain import logs
from veil.chain.endpoints import HEAD_CALL
from veil.chain.logs import RawLog
from veil.chain.ports import EMPTY_HEAD, Head
from veil.chain.rpc import Answer, Call, Header, LogEntry, Rpc, RpcRefused
from veil.store.collector import collector_paused
from veil.types import Address

logger = logging.getLogger(__name__)

RANGE_FIRST_BLOCKS = 128
RANGE_MAX_BLOCKS = 50_000

RANGE_GROWTH_MAX = 8
"""How many times larger a range may be than the one before."""

LOGS_WANTED = 2_000
"""In one range: some megabytes of JSON, read in a twentieth of a second."""

MARK_DEPTHS = (240, 64, 16)
"""How far below the end of a range blocks are remembered, within what the store can undo (256 blocks)."""


@dataclass(frozen=True, slots=True)
class Range:
    """The logs up to block ``end``, and the registry's ``head`` after it: None where the endpoint has no state of it.

    ``marks``: blocks before ``end``, oldest first.
    """

    end: Header
    logs: list[RawLog]
    head: Head | None
    marks: list[Header]


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Logs after block ``after`` up to ``last`` that are on their way."""

    after: int
    last: int
    answer: "asyncio.Task[list[Answer]]"


class Ranges:
    """Raises what :class:`veil.chain.rpc.Rpc` raises, and HeadMismatch for logs that are none."""

    def __init__(self, rpc: Rpc, registry: Address) -> None:
        self._rpc = rpc
        self._registry = registry
        self._blocks = RANGE_FIRST_BLOCKS
        self._ahead: deque[_Ahead] = deque()
        """The next range, and while that is read the one after it."""

    def forget(self) -> None:
        """What is on its way is of no use any more."""
        while self._ahead:
            self._ahead.pop().answer.cancel()

    async def read(self, after: int, latest: Header, *, known: int) -> Range | None:
        """The range after block ``after``, which is below ``latest``. ``known``: no marks up to it.

        None when it has to be asked for again: it was refused and is smaller now, or the chain has changed under it.
        """
        if self._ahead and self._ahead[0].after != after:
            self.forget()
        try:
            found = await self._next(after, latest, known)
        except BaseException:
            self.forget()
            raise
        if found is None:
            self.forget()
        return found

    async def _next(self, after: int, latest: Header, known: int) -> Range | None:
        newest = int(latest.number, 16)
        ahead = self._ahead[0] if self._ahead else None
        last = ahead.last if ahead else min(after + self._blocks, newest)
        if last < newest:
            self._ask_ahead(last, min(last + self._blocks, newest))
        end = latest if last == newest else await self._rpc.call(Header, "eth_getBlockByNumber", hex(last), False)
        if ahead is None:
            return await self._asked_now(after, end, known)
        found = await self._arrived(ahead, end, known)
        self._ahead.popleft()
        return found

    def _ask_ahead(self, after: int, last: int) -> None:
        task = asyncio.create_task(self._rpc.batch([self._logs(after, last)]))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # one that nobody takes is no error
        self._ahead.append(_Ahead(after, last, task))

    async def _asked_now(self, after: int, end: Header, known: int) -> Range | None:
        last = int(end.number, 16)
        where = self._logs(after, last, block_hash=end.hash if last == after + 1 else "")
        answer, *others = await self._rpc.batch([where, *self._about(end, known)])
        found = self._found(answer, last - after)
        return None if found is None else _range(end, found, others)

    async def _arrived(self, ahead: _Ahead, end: Header, known: int) -> Range | None:
        """What was asked for ahead, unless a reorg came between: ``end`` is of now, and so must be the block of the last log."""
        found = self._found((await ahead.answer)[0], ahead.last - ahead.after)
        if found is None:
            return None
        newest = hex(found[-1].block) if found else end.number
        check, *others = await self._rpc.batch([("eth_getBlockByNumber", [newest, False]), *self._about(end, known)])
        seen = check.optional(Header)
        if found and (seen is None or bytes.fromhex(seen.hash[2:]) != found[-1].block_hash):
            return None
        return _range(end, found, others)

    def _logs(self, after: int, last: int, *, block_hash: str = "") -> Call:
        where = {"blockHash": block_hash} if block_hash else {"fromBlock": hex(after + 1), "toBlock": hex(last)}
        return "eth_getLogs", [{"address": self._registry, **where}]

    def _about(self, end: Header, known: int) -> list[Call]:
        marks = [number for depth in MARK_DEPTHS if (number := int(end.number, 16) - depth) > known]
        return [head_call(self._registry, end.hash), *(("eth_getBlockByNumber", [hex(number), False]) for number in marks)]

    def _found(self, answer: Answer, blocks: int) -> list[RawLog] | None:
        """The registry's logs of a range of so many ``blocks``, or None when that was too large."""
        try:
            found = _logs_in(answer)
        except RpcRefused as error:
            if blocks == 1:
                raise
            self._blocks = blocks // 2
            logger.info("%s; now %d blocks at a time", error.message, self._blocks)
            return None
        if len(found) > LOGS_WANTED or blocks >= self._blocks:
            fitting = blocks * LOGS_WANTED // max(len(found), 1)
            self._blocks = max(1, min(fitting, blocks * RANGE_GROWTH_MAX, RANGE_MAX_BLOCKS))
        return found


def head_call(registry: Address, block_hash: str) -> Call:
    """``head()`` after a block; :func:`head_of` reads the answer."""
    return "eth_call", [{"to": registry, "data": HEAD_CALL}, {"blockHash": block_hash}]


def head_of(answer: Answer) -> Head | None:
    """None when the endpoint has no state of that block."""
    try:
        value = bytes.fromhex(answer.value(str)[2:])
    except RpcRefused:
        return None
    if not value:
        return EMPTY_HEAD  # no contract there yet
    return Head(int.from_bytes(value[:32], "big"), value[32:56])


def _range(end: Header, found: list[RawLog], answers: list[Answer]) -> Range:
    head, *marks = answers
    # One that the endpoint does not have is a fork point less, and no reason to wait.
    return Range(end, found, head_of(head), [mark for answer in marks if (mark := answer.optional(Header))])


@collector_paused()
def _logs_in(answer: Answer) -> list[RawLog]:
    return [log for log in map(logs.parse, answer.value(list[LogEntry])) if logs.in_chain(log)]

"""Several RPC endpoints of one chain: one is used, all are compared, and one that lies, lags or is away is left.

Nothing that one endpoint says can be checked against anything but itself (an endpoint that leaves out an event and gives
an older ``head()`` with it is consistent), so that the others are asked the same: which block is at a height that all
have, and what the registry's ``head()`` is there. Where they contradict each other the majority is believed; where there
is none, nobody is: two endpoints show a lie, three show the liar.

An endpoint that was left is named in the log and in :attr:`Endpoints.complaints`, and used again once it agrees for a while.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from veil.chain.rpc import Header, Rpc, RpcRefused
from veil.errors import ChainUnavailable, ConfigInvalid, HeadMismatch
from veil.types import Address, Clock, SystemClock

logger = logging.getLogger(__name__)

HEAD_CALL = "0x8f7dcfa3"  # head(), checked against the ABI by a test

COMPARE_EVERY_S = 4.0
"""How often endpoints are compared."""

COMPARE_DEADLINE_S = 3.0
"""How long one of them may take to answer for that; slower ones count as away."""

LAG_MAX_S = 30.0
"""How much older an endpoint's newest block may be than that of the others."""

LEFT_S = 60.0
"""How long one that lied is not used again, however well it agrees."""

FORKS_MAX = 3
"""How often in a row endpoints may show different blocks at one height: during a reorg honest ones do."""

RPC_HINT = "set VEIL_CHAIN_RPC to endpoints of different operators; three show which one lies"


@dataclass(slots=True)
class _Standing:
    """What is known of one endpoint. ``complaint`` is empty while it is used or could be."""

    rpc: Rpc
    complaint: str = ""
    until_s: float = 0.0
    """When it may be used again at the earliest."""


@dataclass(frozen=True, slots=True)
class _View:
    """What one endpoint says at a height: the block, and the registry's head there (None: it has no state of it)."""

    block: str
    head: str | None


class Endpoints:
    """The endpoints at ``urls``, the preferred ones first. With a single one nothing is compared and nothing is left."""

    def __init__(
        self,
        urls: Sequence[str],
        registry: Address,
        *,
        lag_max_s: float = LAG_MAX_S,
        left_s: float = LEFT_S,
        clock: Clock | None = None,
    ) -> None:
        if not urls:
            raise ConfigInvalid("no RPC endpoint is named", hint="set VEIL_CHAIN_RPC to one or more, comma separated")
        self._registry = registry
        self._lag_max_s = lag_max_s
        self._left_s = left_s
        self._clock = clock or SystemClock()
        self._all = [_Standing(Rpc(url)) for url in dict.fromkeys(urls)]
        self._used = self._all[0]
        self._forks = 0
        self._dispute = ""
        self._watching: asyncio.Task[None] | None = None

    @property
    def urls(self) -> list[str]:
        return [one.rpc.url for one in self._all]

    @property
    def complaints(self) -> list[str]:
        """What is wrong with endpoints now, one line each; empty when all is well."""
        found = [f"{one.rpc.name} {one.complaint}" for one in self._all if one.complaint]
        return [*found, self._dispute] if self._dispute else found

    def current(self) -> Rpc:
        """The endpoint to use now, for anything that can be repeated with another."""
        return self._used.rpc

    def trusted(self) -> Rpc:
        """The same, for what is believed. Raises HeadMismatch while they contradict each other without a majority."""
        if self._dispute:
            raise HeadMismatch(self._dispute, hint=RPC_HINT)
        return self._used.rpc

    def leave(self, rpc: Rpc, complaint: str, *, lied: bool = False) -> bool:
        """Use another endpoint than ``rpc``; False when there is no better one."""
        standing = next(one for one in self._all if one.rpc is rpc)
        if len(self._all) == 1:
            return False
        self._complain(standing, complaint, lied=lied)
        return self._choose()

    def _complain(self, standing: _Standing, complaint: str, *, lied: bool) -> None:
        if standing.complaint != complaint:
            logger.warning("leaving the RPC endpoint %s: it %s", standing.rpc.name, complaint)
        standing.complaint = complaint
        if lied:
            standing.until_s = self._clock.monotonic_s() + self._left_s

    def _choose(self) -> bool:
        """Use the first endpoint without a complaint. False when there is none: the used one stays."""
        if not self._used.complaint:
            return True
        better = next((one for one in self._all if not one.complaint), None)
        if better is None:
            return False
        logger.info("using the RPC endpoint %s", better.rpc.name)
        self._used = better
        return True

    # comparing

    async def start(self) -> None:
        """Find one that answers, and go on comparing. Raises ChainUnavailable when none does."""
        if len(self._all) == 1 or self._watching is not None:
            return
        await self.compare()
        if self._used.complaint:
            raise ChainUnavailable("no RPC endpoint can be used: " + "; ".join(self.complaints), hint=RPC_HINT)
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for one in self._all:
            await one.rpc.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_EVERY_S)
            await self.compare()

    async def compare(self) -> None:
        """One look at all endpoints."""
        tips = dict(zip(map(id, self._all), await asyncio.gather(*map(self._tip, self._all)), strict=True))
        answering = [one for one in self._all if tips[id(one)] is not None]
        chains = Counter(tip[0] for tip in tips.values() if tip is not None)
        fresh: list[tuple[_Standing, int]] = []
        newest_s = _reference([tip[2] for tip in tips.values() if tip is not None])
        for one in answering:
            tip = tips[id(one)]
            assert tip is not None
            chain, number, time_s = tip
            if len(chains) > 1 and chain != chains.most_common(1)[0][0]:
                self._complain(one, f"serves chain {chain}", lied=True)
            elif newest_s - time_s > self._lag_max_s:
                self._complain(one, f"lags: its newest block {number} is {newest_s - time_s} s older than another's", lied=False)
            else:
                fresh.append((one, number))
        if fresh:
            await self._agree([one for one, _ in fresh], min(number for _, number in fresh))
        self._choose()

    async def _tip(self, one: _Standing) -> tuple[int, int, int] | None:
        """Chain id, number and time of the newest block; None when it does not answer."""
        try:
            async with asyncio.timeout(COMPARE_DEADLINE_S):
                chain, newest = await one.rpc.batch([("eth_chainId", []), ("eth_getBlockByNumber", ["latest", False])])
                header = newest.value(Header)
                return int(chain.value(str), 16), int(header.number, 16), int(header.timestamp, 16)
        except (ChainUnavailable, TimeoutError, ValueError) as error:
            if not one.complaint:
                self._complain(one, f"does not answer ({error or 'too slow'})", lied=False)
            return None

    async def _agree(self, fresh: list[_Standing], height: int) -> None:
        """Whether all have the same block and the same head() at ``height``."""
        views = await asyncio.gather(*(self._view(one, height) for one in fresh))
        told = [(one, view) for one, view in zip(fresh, views, strict=True) if view is not None]
        blocks = {view.block for _, view in told}
        if len(blocks) > 1:
            self._forks += 1
            if self._forks < FORKS_MAX:
                return
            self._judge([(one, view.block) for one, view in told], f"shows another block {height} than")
            return
        self._forks = 0
        heads = [(one, view.head) for one, view in told if view.head is not None]
        if len({head for _, head in heads}) > 1:
            self._judge(heads, f"shows other events up to block {height} than")
            return
        self._dispute = ""
        for one, _ in told:
            if one.complaint and self._clock.monotonic_s() >= one.until_s:
                logger.info("the RPC endpoint %s agrees with the others again", one.rpc.name)
                one.complaint = ""

    async def _view(self, one: _Standing, height: int) -> _View | None:
        try:
            async with asyncio.timeout(COMPARE_DEADLINE_S):
                header = await one.rpc.call(Header, "eth_getBlockByNumber", hex(height), False)
                where: Any = {"blockHash": header.hash}
                try:
                    head = await one.rpc.call(str, "eth_call", {"to": self._registry, "data": HEAD_CALL}, where)
                except RpcRefused:
                    return _View(header.hash, None)
                return _View(header.hash, head)
        except (ChainUnavailable, TimeoutError) as error:
            logger.debug("%s did not say what is at block %d: %s", one.rpc.name, height, error)
            return None

    def _judge(self, told: Sequence[tuple[_Standing, str | None]], what: str) -> None:
        """Leave the minority; believe nobody when there is no majority."""
        said, count = Counter(answer for _, answer in told).most_common(1)[0]
        if 2 * count <= len(told):
            names = ", ".join(one.rpc.name for one, _ in told)
            if not self._dispute:
                logger.error("the RPC endpoints %s contradict each other: none is believed", names)
            self._dispute = f"the RPC endpoints {names} contradict each other: one {what} the others"
            return
        self._dispute = ""
        for one, answer in told:
            if answer != said:
                self._complain(one, f"{what} {count} others", lied=True)


def _reference(times_s: list[int]) -> int:
    """The time of a newest block that no single endpoint can push up, where there are three or more."""
    ordered = sorted(times_s, reverse=True)
    return ordered[(len(ordered) - 1) // 2] if ordered else 0

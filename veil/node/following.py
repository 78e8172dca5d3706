"""Reading the chain: the projection follows it, and says so when it does not.

A chain that is away is waited for below (:mod:`veil.chain.informer`), without an error; so what tells the difference between a
quiet chain and one that cannot be read is that blocks come at all.
"""

import asyncio
import logging

from veil.chain.ports import Chain
from veil.chain.projector import follow
from veil.errors import VeilError
from veil.store.projection import Projection
from veil.types import Clock

log = logging.getLogger(__name__)

FOLLOW_RETRY_S = 2.0
CATCH_UP_POLL_S = 0.1
CATCH_UP_RETRY_S = 2.0

SILENCE_MAX_S = 60.0
"""Five of Ethereum's slots. Without a block for longer, what is shown may be old."""


CLOCK_OFF_MAX_S = 120
"""Between this node's clock and the timestamp of a block that just came. Blocks carry the time at which they were proposed; a
development chain that mines at once runs ahead for a moment. Certificates, rounds and leases need minutes at worst."""


class ChainFollower:
    """Keeps ``projection`` where ``chain`` is. :meth:`run` and :meth:`catch_up` never raise a VeilError."""

    def __init__(self, chain: Chain, projection: Projection, clock: Clock) -> None:
        self._chain = chain
        self._projection = projection
        self._clock = clock
        self._error = ""
        self._heard_s = clock.monotonic_s()
        self._ahead_s = 0.0
        """How far the newest block's timestamp was ahead of this node's clock when it came."""
        self.caught_up = False
        """Whether the projection has once been where the chain was: before that, absence from it means nothing."""

    @property
    def problem(self) -> str:
        """What keeps the projection from being the chain's present state; empty for nothing."""
        if self._error:
            return self._error
        if not self.caught_up:
            return "reading the chain"
        silent_s = self._clock.monotonic_s() - self._heard_s
        return f"no block was read for over {SILENCE_MAX_S:.0f} s: is the RPC endpoint away?" if silent_s > SILENCE_MAX_S else ""

    @property
    def clock_problem(self) -> str:
        """Whether this node's clock and the chain's differ; empty when not, or while :attr:`problem` says that nothing comes."""
        if self.problem or abs(self._ahead_s) <= CLOCK_OFF_MAX_S:
            return ""
        if self._ahead_s > 0:
            return f"blocks come from over {CLOCK_OFF_MAX_S} s in this node's future: its clock is behind"
        return f"the newest block is over {CLOCK_OFF_MAX_S} s old: this node's clock is ahead, or the RPC endpoint lags"

    async def run(self) -> None:
        """For ever. A chain that contradicts itself is shown as the problem, until blocks come again."""
        end = self._projection.subscribe(self._heard)
        try:
            while True:
                try:
                    await follow(self._chain, self._projection)
                except VeilError as error:
                    self._error = f"{error.reason}: {error.message}"
                    log.error("following the chain: %s", self._error)
                await asyncio.sleep(FOLLOW_RETRY_S)
        finally:
            end()

    async def catch_up(self) -> None:
        """Returns once :attr:`caught_up` is true."""
        while not self.caught_up:
            try:
                head = await self._chain.head()
            except VeilError as error:
                log.warning("the chain's head cannot be read: %s: %s", error.reason, error.message)
                await asyncio.sleep(CATCH_UP_RETRY_S)
                continue
            self.caught_up = self._projection.head()[0] >= head.rv
            if not self.caught_up:
                await asyncio.sleep(CATCH_UP_POLL_S)
        log.info("the projection has caught up with the chain")

    def _heard(self) -> None:
        self._error = ""
        self._heard_s = self._clock.monotonic_s()
        if (tip := self._projection.tip()) is not None:
            self._ahead_s = tip.timestamp_s - self._clock.now_s()

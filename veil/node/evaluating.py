"""A committee member's evaluator, kept running or, where it cannot be had, known to abstain.

A machine whose evaluator gives other bits than the epoch's determinism classes cannot take part in decisions: its partial would
belong to another ciphertext. Such a member withholds, and stays candidate and coordinator. It tries again from time to time,
because what was missing may have been memory; meanwhile its condition says why.
"""

import asyncio
import logging

from veil.errors import ClassUnreachable, Unavailable
from veil.fhe.evaluator import ChildEvaluator
from veil.node.health import Verdict

log = logging.getLogger(__name__)

EVALUATOR_RETRY_S = 300.0
"""Before an evaluator that could not be had is tried for again: a dozen starts cost a minute of one core."""

NOT_IN_COMMITTEE = Verdict(True, "NotInCommittee", "this node holds no share of the epoch's key: others evaluate and decrypt")


class MemberEvaluator:
    """One child for one key epoch. Level-triggered: :meth:`keep_running` does what is missing."""

    def __init__(self, child: ChildEvaluator) -> None:
        self.child = child
        self._abstains: Unavailable | None = None
        self._retry_s = 0.0

    @property
    def pid(self) -> int:
        """0 while there is none."""
        return self.child.child_pid or 0

    @property
    def usable(self) -> ChildEvaluator | None:
        """The evaluator to work with; None while this member abstains."""
        return None if self._abstains is not None else self.child

    @property
    def verdict(self) -> Verdict:
        """For the node's condition."""
        if self._abstains is not None:
            reason = "ClassUnreachable" if isinstance(self._abstains, ClassUnreachable) else "EvaluatorAway"
            return Verdict(False, reason, f"this member abstains: {self._abstains.message}")
        if not self.pid:
            return Verdict(False, "EvaluatorAway", "the evaluator has ended and is being started again")
        return Verdict(True, "InClass")

    async def keep_running(self) -> None:
        """Start a child that is not there, unless an attempt has failed within EVALUATOR_RETRY_S. Failing is no error here.

        An attempt that fails leaves no process behind.
        """
        if self.pid or (self._abstains is not None and asyncio.get_running_loop().time() < self._retry_s):
            return
        try:
            await self.child.start()
        except Unavailable as error:
            await self.child.close()
            self._abstains, self._retry_s = error, asyncio.get_running_loop().time() + EVALUATOR_RETRY_S
            log.warning("this committee member abstains: %s", error.message)
        except BaseException:
            await self.child.close()
            raise
        else:
            self._abstains = None

    async def close(self) -> None:
        """End the child."""
        await self.child.close()

"""What a test does to the messages of a :class:`veil.mesh.fake.FakeNetwork`: lose them, hold them back, delay them.

A request has two legs, the request and its reply, and each can suffer alone: a reply that is lost after the handler did its
work is the fault that finds most bugs.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from veil.types import PeerId

Leg = Literal["request", "reply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One message on its way, as the network sees it. ``sender`` of a reply is the peer that answers."""

    sender: PeerId
    receiver: PeerId
    protocol: str
    leg: Leg
    payload: bytes


@dataclass(kw_only=True)
class Fault:
    """Meets every message that has all the given properties; a property left out matches anything."""

    sender: PeerId | None = None
    receiver: PeerId | None = None
    protocol: str | None = None
    leg: Leg | None = None
    times: int | None = None
    """How many messages it meets before it is spent; None for no end."""
    met: int = 0
    healed: bool = False

    def meets(self, passage: Passage) -> bool:
        """Whether ``passage`` suffers; counts it if so."""
        if self.healed or (self.times is not None and self.met >= self.times):
            return False
        wanted = (self.sender, self.receiver, self.protocol, self.leg)
        actual = (passage.sender, passage.receiver, passage.protocol, passage.leg)
        if any(want is not None and want != have for want, have in zip(wanted, actual, strict=True)):
            return False
        self.met += 1
        return True

    def heal(self) -> None:
        """From now on it does nothing."""
        self.healed = True


@dataclass(kw_only=True)
class Drop(Fault):
    """The message is lost."""


@dataclass(kw_only=True)
class Delay(Fault):
    """The message comes later, by the network's injected sleep."""

    delay_s: float


@dataclass(kw_only=True)
class Hold(Fault):
    """The message waits until :meth:`release`."""

    waiting: list[Passage] = field(default_factory=list)
    _gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, passage: Passage) -> None:
        self.waiting.append(passage)
        try:
            await self._gate.wait()
        finally:
            self.waiting.remove(passage)

    def release(self) -> None:
        """Lets all waiting messages go, and all later ones."""
        self.heal()
        self._gate.set()

    def heal(self) -> None:
        super().heal()
        self._gate.set()

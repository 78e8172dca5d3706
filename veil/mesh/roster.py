"""What this member knows of every other, and the rules by which a claim changes it.

A member speaks for itself: only what it signed raises its incarnation. Others accuse it, each under their own signature, at
exactly the incarnation that it signed last: an accusation of the future would let a liar push the incarnation to its end,
one of the past is refuted already. Nobody is dead before k distinct members say so, and what never lived cannot die.
Incarnations follow the clock (they begin at the Unix time in seconds), so a restart outbids the life before it without a
journal, and one far ahead of the clock is refused.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from veil.errors import SignatureInvalid, WireInvalid
from veil.mesh.claims import Signatory
from veil.mesh.messages import Claim
from veil.mesh.ports import Member, PeerState
from veil.mesh.suspicion import Suspicion
from veil.types import PeerId
from veil.wire.signed import Signed

INCARNATION_AHEAD_MAX_S = 86_400
"""How far ahead of this member's clock an incarnation may be: skewed clocks pass, the end of the range does not."""

ACCUSERS_MAX = 8
"""Accusers kept for one subject; more would not change anything."""

DEATH_ACCUSERS_MAX = 3

DRAWS = 4
"""Members drawn for each one wanted, before all are looked at: with three of four up, that is nearly always enough."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """One other member. ``incarnation`` 0 means never heard of."""

    peer: PeerId
    state: PeerState = PeerState.SUSPECT
    incarnation: int = 0
    metadata: bytes = b""
    allowed_s: float = 0.0
    """When this member heard that it is registered."""
    link: Literal["none", "failed", "up", "cut"] = "none"
    """Its connection to this member: not tried yet, tried in vain, there, or ended and not made again."""
    met: bool = False
    """Whether it has ever sent anything: a peer that has not read the registry yet ends the connection and says nothing."""
    own: Signed | None = None
    """Its newest claim of itself, to be passed on."""
    suspects: dict[PeerId, Signed] = field(default_factory=dict)
    deaths: dict[PeerId, Signed] = field(default_factory=dict)
    suspicion: Suspicion | None = None

    def member(self) -> Member:
        return Member(peer=self.peer, state=self.state, incarnation=self.incarnation, metadata=self.metadata)

    def accusations(self) -> tuple[Signed, ...]:
        """What the subject must hear to be able to refute it."""
        return (*self.deaths.values(), *self.suspects.values())

    def renew(self, claim: Claim, signed: Signed) -> None:
        """It spoke for itself: everything said about its past is void."""
        self.incarnation = claim.incarnation
        self.own = signed
        self.suspects.clear()
        self.deaths.clear()
        self.suspicion = None
        if claim.kind == "left":
            self.state = PeerState.LEFT
        else:
            self.state = PeerState.ALIVE
            self.metadata = claim.metadata


class Roster:
    """All registered members but this one."""

    def __init__(self, signatory: Signatory) -> None:
        self.me = signatory.peer_id
        self.refused = 0
        """Claims that were forged, out of bounds or about strangers."""
        self._signatory = signatory
        self._entries: dict[PeerId, Entry] = {}
        self._all: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, peer: PeerId) -> Entry | None:
        return self._entries.get(peer)

    def allow(self, peers: Iterable[PeerId], now_s: float) -> tuple[list[PeerId], list[PeerId]]:
        """Exactly ``peers`` are registered; gives back who is new and who is gone."""
        # In their order: a set's differs from process to process, and a simulation shall replay in another one.
        wanted = {peer: None for peer in peers if peer != self.me}
        gone = [peer for peer in self._entries if peer not in wanted]
        new = [peer for peer in wanted if peer not in self._entries]
        for peer in gone:
            del self._entries[peer]
        for peer in new:
            self._entries[peer] = Entry(peer=peer, allowed_s=now_s)
        self._all = list(self._entries.values())
        return new, gone

    def sample(self, rng: random.Random, count: int, fits: Callable[[Entry], bool]) -> list[PeerId]:
        """Up to ``count`` random members that fit. Among many it draws rather than look at all: it is done 5 times a second."""
        if len(self._all) > DRAWS * count:
            drawn = [entry.peer for entry in rng.sample(self._all, DRAWS * count) if fits(entry)]
            if len(drawn) >= count:
                return drawn[:count]
        fitting = [entry.peer for entry in self._all if fits(entry)]
        return rng.sample(fitting, min(count, len(fitting)))

    @property
    def size(self) -> int:
        """Registered members, this one included."""
        return len(self._entries) + 1

    @property
    def accusers_for_death(self) -> int:
        """k: as many as the registry wants for a down mark."""
        return min(DEATH_ACCUSERS_MAX, self.size // 2 + 1)

    def living(self) -> int:
        """Members believed to be up, this one included."""
        return 1 + sum(entry.state in (PeerState.ALIVE, PeerState.SUSPECT) for entry in self)

    def linked(self) -> int:
        """Members that this one is connected to, itself included."""
        return 1 + sum(entry.link == "up" for entry in self)

    def weigh(self, signed: Signed, now_s: float) -> Claim | None:
        """The claim if it says something new and its author may say it; verified. Else None.

        Whether it is new is decided first: most gossip is old, and a signature check costs 0.1 ms.
        """
        try:
            claim = self._signatory.read(signed)
            author, subject = PeerId(signed.signer), PeerId(claim.peer)
            if author not in self._entries and author != self.me:
                self.refused += 1
                return None
            about_itself = claim.kind in ("alive", "left")
            if about_itself != (author == subject) or claim.incarnation > now_s + INCARNATION_AHEAD_MAX_S:
                self.refused += 1
                return None
            if subject != self.me and not self._is_news(claim, author):
                return None
            self._signatory.check(signed)
        except (WireInvalid, SignatureInvalid):
            self.refused += 1
            return None
        return claim

    def _is_news(self, claim: Claim, author: PeerId) -> bool:
        entry = self._entries.get(PeerId(claim.peer))
        if entry is None:
            return False
        if claim.kind == "alive":
            return claim.incarnation > entry.incarnation
        if claim.kind == "left":
            return claim.incarnation > entry.incarnation or (
                claim.incarnation == entry.incarnation and entry.state is not PeerState.LEFT
            )
        if claim.incarnation != entry.incarnation or entry.incarnation == 0:
            return False
        if entry.state in (PeerState.LEFT, PeerState.DEAD):
            return False
        known = entry.suspects if claim.kind == "suspect" else entry.deaths
        return author not in known and len(known) < ACCUSERS_MAX

    def testimony(self) -> tuple[Signed, ...]:
        """Everything known, as its authors signed it: each subject's own claim before its accusations."""
        return tuple(signed for entry in self for signed in (entry.own, *entry.accusations()) if signed is not None)

"""SWIM with Lifeguard as a pure state machine: frames and time go in, frames and changes come out.

It owns no socket, clock or task. Whoever drives it calls :meth:`Swim.receive` for each frame, :meth:`Swim.tick` when
:meth:`Swim.wake_s` has come, and carries out the effects it is given back. Time is in seconds, near the Unix epoch's (for
incarnations) and never goes back. Randomness is injected, so that a simulation replays from its seed.

SWIM: Das, Gupta, Motivala 2002. Lifeguard: Dadgar, Phillips, Currey 2017. Departures: claims are signed
(:mod:`veil.mesh.roster`); a member that hears of a suspicion checks for itself before it joins in, so that k accusers
are k observations; and who learns that somebody is not what it was tells others at once, not with the next gossip.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from veil.errors import LimitExceeded
from veil.mesh.awareness import Awareness
from veil.mesh.broadcast import Broadcasts
from veil.mesh.claims import Signatory
from veil.mesh.messages import Claim, Frame
from veil.mesh.ports import METADATA_MAX_BYTES, Member, PeerState
from veil.mesh.preset import Preset
from veil.mesh.probing import PROBED, Prober
from veil.mesh.roster import Entry, Roster
from veil.mesh.suspicion import Suspicion
from veil.mesh.timers import Timers
from veil.types import PeerId
from veil.wire.signed import Signed

ANNOUNCE_INTERVAL_S = 1.0
"""New metadata is announced at most so often: incarnations then never outrun the clock."""

LATE_SHARE = 0.25
LATE_AWARENESS = 3
"""Who is told the time so late, in shares of a ping's timeout, has not the processor it needs: it waits up to four times as
long for others, who may be in the same machine or the same storm."""

CONFIRMERS = 8
"""About so many members check for themselves when they hear of a suspicion, however many there are: of those that have met the
suspected one, who are as many as this member has met."""


@dataclass(frozen=True, slots=True)
class Send:
    """Give ``frame`` to ``peer``; losing it is allowed."""

    peer: PeerId
    frame: Frame


@dataclass(frozen=True, slots=True)
class Change:
    """A member (possibly this one) is not what it was: its state, incarnation or metadata."""

    member: Member


Effect = Send | Change


class Swim:
    """This member's part of the protocol."""

    def __init__(self, *, preset: Preset, signatory: Signatory, rng: random.Random, now_s: float) -> None:
        self.roster = Roster(signatory)
        self.awareness = Awareness(preset.awareness_max)
        self._preset = preset
        self._signatory = signatory
        self._rng = rng
        self._me = signatory.peer_id
        self._timers = Timers()
        self._news = Broadcasts()
        self._gossiping = False
        self._effects: list[Effect] = []
        self._incarnation = max(1, int(now_s))
        self._metadata = b""
        self._announced_s = now_s
        self._hurried_s = -math.inf
        self._announcing = False
        self._left = False
        self._prober = Prober(
            preset=preset, roster=self.roster, awareness=self.awareness, timers=self._timers, rng=rng, send=self._send
        )
        self._prober.on_failure = self._accuse
        self._own = self._speak("alive")
        self._timers.at(now_s + rng.uniform(0, preset.probe_interval_s), self._probe)
        self._timers.at(now_s + rng.uniform(0.5, 1.5) * preset.push_pull_interval_s, self._push_pull)

    def wake_s(self) -> float | None:
        """When :meth:`tick` is next needed."""
        return self._timers.next_s()

    def tick(self, now_s: float) -> list[Effect]:
        """Does what is due."""
        due_s = self._timers.next_s()
        late_s = now_s - due_s if due_s is not None else 0.0
        if late_s > self._preset.probe_interval_s:
            self._forgive(late_s)
        elif late_s > LATE_SHARE * self._preset.probe_timeout_s and self.awareness.score < LATE_AWARENESS:
            self.awareness.add(1)
        while (action := self._timers.pop_due(now_s)) is not None:
            action(now_s)
        return self._drain(now_s)

    def receive(self, sender: PeerId, frame: Frame, now_s: float) -> list[Effect]:
        """Takes in one frame that ``sender`` (authenticated) sent."""
        entry = self.roster.get(sender)
        if entry is None or self._left:
            return []
        entry.met = True
        for signed in frame.claims:
            self._hear(signed, now_s)
        if frame.kind in ("ack", "nack"):
            self._prober.answered(sender, frame.sequence, frame.kind == "ack", now_s)
        elif frame.kind == "ping":
            self._send(sender, Frame(kind="ack", sequence=frame.sequence))
        elif frame.kind == "probe":
            self._prober.relay(sender, frame.sequence, PeerId(frame.target), now_s)
        elif frame.kind == "pull":
            self._give_all(sender, "push")
        return self._drain(now_s)

    def allow(self, peers: Iterable[PeerId], now_s: float) -> list[Effect]:
        """Exactly these are registered from now on."""
        _, gone = self.roster.allow(peers, now_s)
        for peer in gone:
            self._news.forget(peer)
        self._prober.reset_rotation()
        return self._drain(now_s)

    def connected(self, peer: PeerId, now_s: float) -> list[Effect]:
        """A connection to ``peer`` was made: exchange everything, which is how a member joins. The smaller ID begins."""
        entry = self.roster.get(peer)
        if entry is not None and not self._left:
            entry.link = "up"
            if self._me < peer:
                self._give_all(peer, "pull")
        return self._drain(now_s)

    def disconnected(self, peer: PeerId, now_s: float) -> list[Effect]:
        """The connection to ``peer`` ended: a hint, never a proof. It is probed at once.

        Until there is a new connection, a suspicion that this member comes to by its own probe is shorter: kernels end the
        connections of a killed process within milliseconds, and whoever lives dials again. That k members say so still
        takes k whose own connection ended.
        """
        entry = self.roster.get(peer)
        if entry is not None and not self._left:
            entry.link = "cut" if entry.met else "failed"
            if entry.state is PeerState.ALIVE:
                self._prober.probe(entry, now_s)
        return self._drain(now_s)

    def unreachable(self, peer: PeerId) -> None:
        """There is no connection to ``peer``, and none could be made: it is for others to say whether it lives."""
        entry = self.roster.get(peer)
        if entry is not None and entry.link == "none":
            entry.link = "failed"

    def set_metadata(self, metadata: bytes, now_s: float) -> list[Effect]:
        """Announced now, or as soon as ANNOUNCE_INTERVAL_S allows. Raises LimitExceeded."""
        if len(metadata) > METADATA_MAX_BYTES:
            raise LimitExceeded(f"metadata of {len(metadata)} bytes; at most METADATA_MAX_BYTES={METADATA_MAX_BYTES} are taken")
        self._metadata = metadata
        if not self._announcing and not self._left:
            self._announcing = True
            self._timers.at(max(now_s, self._announced_s + ANNOUNCE_INTERVAL_S), self._announce)
        return self.tick(now_s)

    def leave(self, now_s: float) -> list[Effect]:
        """Tells everybody that this member goes on purpose. After it, the machine does nothing more."""
        self._own = self._speak("left")
        for entry in self.roster:
            if entry.state in (PeerState.ALIVE, PeerState.SUSPECT):
                self._effects.append(Send(entry.peer, Frame(kind="gossip", claims=(self._own,))))
        self._left = True
        return self._drain(now_s)

    def members(self) -> list[Member]:
        """Everybody registered, this member first."""
        state = PeerState.LEFT if self._left else PeerState.ALIVE
        own = Member(peer=self._me, state=state, incarnation=self._incarnation, metadata=self._metadata)
        return [own, *(entry.member() for entry in self.roster)]

    # What others say

    def _hear(self, signed: Signed, now_s: float) -> None:
        claim = self.roster.weigh(signed, now_s)
        if claim is None:
            return
        subject = PeerId(claim.peer)
        if subject == self._me:
            self._refute(claim, signed, now_s)
            return
        entry = self.roster.get(subject)
        if entry is not None:
            self._apply(entry, claim, signed, now_s)

    def _apply(self, entry: Entry, claim: Claim, signed: Signed, now_s: float) -> None:
        """Takes a claim that :meth:`Roster.weigh` found to be news."""
        before, author = entry.member(), PeerId(signed.signer)
        self._news.add(entry.peer, claim.kind, author, signed)
        if claim.kind in ("alive", "left"):
            entry.renew(claim, signed)
        else:
            self._count_accusation(entry, claim, author, signed, now_s)
        if entry.member() != before:
            self._effects.append(Change(entry.member()))
        if entry.state is not before.state or not before.incarnation:
            self._hurry(now_s)

    def _count_accusation(self, entry: Entry, claim: Claim, author: PeerId, signed: Signed, now_s: float) -> None:
        (entry.suspects if claim.kind == "suspect" else entry.deaths)[author] = signed
        if len(entry.deaths) >= self.roster.accusers_for_death:
            entry.state = PeerState.DEAD
            entry.suspicion = None
            return
        accusers = len(entry.suspects.keys() | entry.deaths.keys())
        if entry.suspicion is None:
            entry.state = PeerState.SUSPECT
            shortest_s, longest_s = self._preset.suspicion_s(self.roster.living(), entry.link == "cut")
            wanted = min(self.roster.accusers_for_death - 1, self.roster.living() - 2)
            entry.suspicion = Suspicion(
                since_s=now_s, shortest_s=shortest_s, longest_s=longest_s, confirmations_wanted=wanted, accusers=accusers
            )
        entry.suspicion.accusers = accusers
        self._await_end(entry, entry.suspicion)
        if author != self._me and self._me not in entry.suspects and self._rng.random() < CONFIRMERS / self.roster.linked():
            self._prober.probe(entry, now_s)

    def _refute(self, claim: Claim, signed: Signed, now_s: float) -> None:
        """An accusation, or a claim of an earlier life of this member: outbid it."""
        if claim.kind in ("suspect", "dead"):
            if claim.incarnation != self._incarnation:
                return
            self.awareness.add(1)
        elif claim.incarnation < self._incarnation or signed == self._own:
            return
        self._incarnation = max(self._incarnation, claim.incarnation)
        self._announce(now_s)

    # What this member says

    def _speak(self, kind: str) -> Signed:
        metadata = self._metadata if kind == "alive" else b""
        claim = Claim(kind=kind, peer=self._me, incarnation=self._incarnation, metadata=metadata)  # type: ignore[arg-type]
        signed = self._signatory.sign(claim)
        self._news.add(self._me, kind, self._me, signed)
        return signed

    def _announce(self, now_s: float) -> None:
        if self._left:
            return
        self._announcing = False
        self._announced_s = now_s
        self._incarnation += 1
        self._own = self._speak("alive")
        self._effects.append(Change(self.members()[0]))

    def _accuse(self, entry: Entry, now_s: float) -> None:
        """This member's own probe of ``entry`` failed."""
        if entry.incarnation == 0 or self._me in entry.suspects or entry.state not in (PeerState.ALIVE, PeerState.SUSPECT):
            return
        self._say_of(entry, "suspect", now_s)

    def _say_of(self, entry: Entry, kind: str, now_s: float) -> None:
        claim = Claim(kind=kind, peer=entry.peer, incarnation=entry.incarnation)  # type: ignore[arg-type]
        self._apply(entry, claim, self._signatory.sign(claim), now_s)

    def _await_end(self, entry: Entry, suspicion: Suspicion) -> None:
        def end(now_s: float) -> None:
            if entry.suspicion is not suspicion or self._left:
                return
            if suspicion.ends_s() > now_s:
                self._await_end(entry, suspicion)
            elif self._me not in entry.suspects:
                self._prober.probe(entry, now_s)
            elif self._me not in entry.deaths:
                self._say_of(entry, "dead", now_s)

        self._timers.at(suspicion.ends_s(), end)

    def _send(self, peer: PeerId, frame: Frame) -> None:
        """With news on its back; a member under suspicion hears of it first (Lifeguard's buddy system)."""
        entry = self.roster.get(peer)
        accusations = entry.accusations() if entry is not None else ()
        news = self._news.take(self._preset.retransmits(self.roster.size))
        carried = Frame(kind=frame.kind, sequence=frame.sequence, target=frame.target, claims=(*accusations, *news))
        self._effects.append(Send(peer, carried))

    def _give_all(self, peer: PeerId, kind: str) -> None:
        claims = (self._own, *self.roster.testimony())
        self._effects.append(Send(peer, Frame(kind=kind, claims=claims)))  # type: ignore[arg-type]

    # What is done at intervals

    def _probe(self, now_s: float) -> None:
        if self._left:
            return
        self._timers.at(now_s + self.awareness.scale(self._preset.probe_interval_s), self._probe)
        self._prober.probe_next(now_s)

    def _gossip(self, now_s: float) -> None:
        self._gossiping = False
        if not self._left:
            self._pass_on()

    def _pass_on(self) -> None:
        for peer in self.roster.sample(self._rng, self._preset.gossip_nodes, _hears):
            if self._news:
                self._send(peer, Frame(kind="gossip"))

    def _hurry(self, now_s: float) -> None:
        """Passes on at once that somebody came, went or is suspected; at most doubles the gossip, whatever happens at once."""
        if now_s - self._hurried_s >= self.awareness.scale(self._preset.gossip_interval_s):
            self._hurried_s = now_s
            self._pass_on()

    def _push_pull(self, now_s: float) -> None:
        if self._left:
            return
        self._timers.at(now_s + self._rng.uniform(0.5, 1.5) * self._preset.push_pull_interval_s, self._push_pull)
        # The dead are asked too: one that was only cut off hears that it was given up, and refutes.
        for peer in self.roster.sample(self._rng, 1, lambda entry: entry.link == "up" and entry.state is not PeerState.LEFT):
            self._give_all(peer, "pull")

    def _forgive(self, lateness_s: float) -> None:
        """This process stood still (SIGSTOP, a suspended machine): what it did not hear meanwhile proves nothing."""
        self.awareness.add(self._preset.awareness_max)
        self._prober.forget()
        for entry in self.roster:
            if entry.suspicion is not None:
                entry.suspicion.forgive(lateness_s)

    def _drain(self, now_s: float) -> list[Effect]:
        """What is to be done; while there is news, gossip goes on, more slowly from a member in bad health."""
        if self._news and not self._gossiping and not self._left:
            self._gossiping = True
            self._timers.at(now_s + self.awareness.scale(self._preset.gossip_interval_s), self._gossip)
        effects, self._effects = self._effects, []
        return effects


def _hears(entry: Entry) -> bool:
    """Whether what is sent to it arrives, as far as is known here: news told to nobody would count as told."""
    return entry.link == "up" and entry.state in PROBED

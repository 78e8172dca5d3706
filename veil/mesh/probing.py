"""Probes: a ping, then pings through others, then a verdict; and the pings made on behalf of others.

Members are probed in a random order, each once before any twice, so that the time to the first probe of a dead member is
bounded (SWIM, section 4.3). A helper that gets no answer says so (nack): who hears neither ack nor nack has itself to blame.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from veil.mesh.awareness import Awareness
from veil.mesh.messages import Frame
from veil.mesh.ports import PeerState
from veil.mesh.preset import Preset
from veil.mesh.roster import Entry, Roster
from veil.mesh.timers import Timers
from veil.types import PeerId

NACK_SHARE = 0.8
"""A helper gives up after this share of the probe timeout, so that its nack comes in time (Lifeguard, section IV.A)."""

MEETING_S = 30.0
"""A member to which the first connection failed is not probed for so long after it was registered: it may only be starting."""

RELAYS_MAX = 1024
"""Pings made for others at one time."""

PROBED = (PeerState.ALIVE, PeerState.SUSPECT)


@dataclass(slots=True, kw_only=True)
class _Probe:
    entry: Entry
    ends_s: float
    helpers: list[PeerId] = field(default_factory=list)
    nacks: set[PeerId] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Relay:
    asker: PeerId
    sequence: int
    target: PeerId


class Prober:
    """All probes in flight."""

    def __init__(
        self,
        *,
        preset: Preset,
        roster: Roster,
        awareness: Awareness,
        timers: Timers,
        rng: random.Random,
        send: Callable[[PeerId, Frame], None],
    ) -> None:
        self.on_failure: Callable[[Entry, float], None] = lambda entry, now_s: None
        self._preset = preset
        self._roster = roster
        self._awareness = awareness
        self._timers = timers
        self._rng = rng
        self._send = send
        self._sequence = 0
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}
        self._rotation: list[PeerId] = []

    def reset_rotation(self) -> None:
        """Membership changed: newcomers shall not wait for a whole round."""
        self._rotation.clear()

    def forget(self) -> None:
        """All probes in flight end without a verdict."""
        self._probes.clear()
        self._relays.clear()

    def probe_next(self, now_s: float) -> None:
        """Probes the next member of the rotation."""
        for _ in range(2):
            while self._rotation:
                entry = self._roster.get(self._rotation.pop())
                if entry is not None and entry.state in PROBED:
                    self.probe(entry, now_s)
                    return
            self._rotation = [entry.peer for entry in self._roster if entry.state in PROBED and self._has_met(entry, now_s)]
            self._rng.shuffle(self._rotation)

    def probe(self, entry: Entry, now_s: float) -> None:
        """Probes ``entry`` now, unless that is going on already, or it is too early to have met."""
        if not self._has_met(entry, now_s) or any(probe.entry is entry for probe in self._probes.values()):
            return
        sequence = self._next()
        ends_s = now_s + self._awareness.scale(self._preset.probe_interval_s)
        self._probes[sequence] = _Probe(entry=entry, ends_s=ends_s)
        self._send(entry.peer, Frame(kind="ping", sequence=sequence))
        self._timers.at(now_s + self._awareness.scale(self._preset.probe_timeout_s), partial(self._ask_helpers, sequence))

    def answered(self, sender: PeerId, sequence: int, acked: bool, now_s: float) -> None:
        """An ack or nack came in."""
        relay = self._relays.get(sequence)
        if relay is not None and acked and sender == relay.target:
            del self._relays[sequence]
            self._send(relay.asker, Frame(kind="ack", sequence=relay.sequence))
            return
        probe = self._probes.get(sequence)
        if probe is None:
            return
        if acked and (sender == probe.entry.peer or sender in probe.helpers):
            del self._probes[sequence]
            self._awareness.add(-1)
        elif not acked and sender in probe.helpers:
            probe.nacks.add(sender)

    def relay(self, asker: PeerId, sequence: int, target: PeerId, now_s: float) -> None:
        """``asker`` wants ``target`` to be pinged from here."""
        if self._roster.get(target) is None or len(self._relays) >= RELAYS_MAX:
            self._send(asker, Frame(kind="nack", sequence=sequence))
            return
        own = self._next()
        self._relays[own] = _Relay(asker=asker, sequence=sequence, target=target)
        self._send(target, Frame(kind="ping", sequence=own))
        self._timers.at(now_s + NACK_SHARE * self._preset.probe_timeout_s, partial(self._give_up_relay, own))

    def _ask_helpers(self, sequence: int, now_s: float) -> None:
        probe = self._probes.get(sequence)
        if probe is None:
            return
        probe.helpers = self._roster.sample(
            self._rng,
            self._preset.indirect_probes,
            lambda entry: entry.state is PeerState.ALIVE and entry.link == "up" and entry is not probe.entry,
        )
        for helper in probe.helpers:
            self._send(helper, Frame(kind="probe", sequence=sequence, target=probe.entry.peer))
        # A late call must still leave the helpers their time.
        ends_s = max(probe.ends_s, now_s + self._preset.probe_timeout_s)
        self._timers.at(ends_s, partial(self._conclude, sequence))

    def _conclude(self, sequence: int, now_s: float) -> None:
        probe = self._probes.pop(sequence, None)
        if probe is None:
            return
        if probe.entry.incarnation:
            # Without helpers nobody can say whose fault it is; memberlist counts it, and so does this.
            self._awareness.add(len(probe.helpers) - len(probe.nacks) if probe.helpers else 1)
        self.on_failure(probe.entry, now_s)

    def _give_up_relay(self, sequence: int, now_s: float) -> None:
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            self._send(relay.asker, Frame(kind="nack", sequence=relay.sequence))

    def _has_met(self, entry: Entry, now_s: float) -> bool:
        """Whether silence of ``entry`` says anything. Who has not met it yet leaves it to those who have."""
        return entry.link in ("up", "cut") or (entry.link == "failed" and now_s >= entry.allowed_s + MEETING_S)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

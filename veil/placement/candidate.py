"""A node as candidate of rounds: it says what is free, in a ciphertext made for one round, and answers offers.

The digest goes to the coordinator first; the ciphertext goes to the committee only once the coordinator has fixed all
digests, so that nobody can copy what is not yet out. An offer is answered after the exact resources were opened and the
capacity reserved, and the promise is in the journal before the answer leaves.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from veil.errors import FheUnavailable, SignatureInvalid, WireInvalid
from veil.placement import reasons
from veil.placement.checks import read_commits
from veil.placement.effects import Effects, Fetch, Send
from veil.placement.eligibility import Anchored, anchored
from veil.placement.holdings import Holdings
from veil.placement.local import Local
from veil.placement.member import COVER_ROUND
from veil.placement.opening import is_member, open_with, total_of
from veil.placement.ports import CapacityPort, EpochParts, ReplicaKey
from veil.placement.ranking import shard_of
from veil.placement.settings import ROUNDS_HELD_MAX
from veil.store.journal import Binding
from veil.types import Digest, Generation, ObjectId, PeerId, RoundId, Shard, Term
from veil.wire.codec import decode, encode, sha256
from veil.wire.objects import Resources, SealedPart
from veil.wire.rounds import Accept, Commit, Decline, Inputs, KeyShare, Leaf, Offer, Open, Telemetry
from veil.wire.signed import Signed, open_signed

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Answered:
    """A round whose opening was answered with a commitment."""

    opened: Signed
    coordinator: PeerId
    vector: bytes
    commit: Send


@dataclass(slots=True)
class _Offered:
    """An offer that waits for the key of the exact resources, or was answered."""

    offer: Offer
    open: Open
    coordinator: PeerId
    found: Anchored
    deadline_s: float
    part: SealedPart | None = None
    shares: dict[int, bytes] = field(default_factory=dict)
    answer: Send | None = None


class Candidate:
    """Answers Open, Inputs, Offer; what comes after an acceptance is :class:`Holdings`'."""

    def __init__(self, local: Local, capacity: CapacityPort, holdings: Holdings) -> None:
        self.local = local
        self._capacity = capacity
        self._holdings = holdings
        self._rounds: OrderedDict[RoundId, _Answered] = OrderedDict()
        self._offers: OrderedDict[RoundId, _Offered] = OrderedDict()
        self._early: OrderedDict[RoundId, dict[int, KeyShare]] = OrderedDict()
        """Key shares that came before their offer."""
        self._cover_s = 0.0

    # telemetry

    def on_open(self, sender: PeerId, opened: Open, signed: Signed) -> Effects:
        """A commitment to fresh telemetry; the same one again for the same opening."""
        parts, round = self.local.epoch, RoundId(opened.round)
        if known := self._rounds.get(round):
            return [known.commit] if known.opened == signed else []
        if parts is None or parts.key_epoch.epoch != opened.epoch or not self._is_for_us(sender, opened):
            return []
        try:
            vector = self._vector(parts)
        except FheUnavailable as error:
            log.warning("no telemetry: %s", error.message)
            return []
        commit = self.local.send(sender, Commit(round=round, telemetry=sha256(vector)))
        self._rounds[round] = _Answered(signed, sender, vector, commit)
        _trim(self._rounds)
        return [commit]

    def on_inputs(self, sender: PeerId, inputs: Inputs) -> Effects:
        """The telemetry to every committee member, once the inputs have its commitment."""
        parts, answered = self.local.epoch, self._rounds.get(RoundId(inputs.round))
        if parts is None or answered is None or answered.coordinator != sender:
            return []
        try:
            opened = open_signed(answered.opened, self.local.cluster, Open)
            commits = read_commits(self.local, opened, inputs)
        except (SignatureInvalid, WireInvalid):
            return []
        if commits.get(self.local.peer) != sha256(answered.vector) or opened.epoch != parts.key_epoch.epoch:
            return []
        return self._to_committee(RoundId(inputs.round), answered.vector)

    def cover(self) -> Effects:
        """Now and then the same bytes on the wire without a round, so that being a candidate does not show."""
        parts, every = self.local.epoch, self.local.settings.cover_tick_s
        if parts is None or every <= 0 or self.local.now() < self._cover_s:
            return []
        self._cover_s = self.local.now() + every
        try:
            vector = self._vector(parts)
        except FheUnavailable:
            return []
        return self._to_committee(COVER_ROUND, vector)

    def _vector(self, parts: EpochParts) -> bytes:
        free = self._capacity.free()
        return parts.encryptor.telemetry(free, parts.encryptor.left_over(free, self._capacity.total()))

    def _to_committee(self, round: RoundId, vector: bytes) -> Effects:
        assert self.local.epoch is not None
        epoch = self.local.epoch.key_epoch
        signed = self.local.sign(Telemetry(round=round, epoch=epoch.epoch, vector=vector))
        return [Send(PeerId(peer), signed) for peer in epoch.committee]

    def _is_for_us(self, sender: PeerId, opened: Open) -> bool:
        shard = Shard(opened.shard)
        ranked = self.local.ranking.may_coordinate(sender, shard, Term(opened.term))
        fresh = self.local.wall_s() <= opened.expires_s and opened.round != COVER_ROUND
        return ranked and fresh and shard == shard_of(ObjectId(opened.object_id)) and self.local.peer in opened.candidates

    # offers

    def on_offer(self, sender: PeerId, offer: Offer) -> Effects:
        """Wait for the key shares, unless there is a reason to decline at once; a repeated offer gets the same answer."""
        try:
            opened = open_signed(offer.open, self.local.cluster, Open, by=sender)
        except (SignatureInvalid, WireInvalid):
            return []
        round = RoundId(opened.round)
        if not self._is_for_us(sender, opened):
            return []
        if known := self._offers.get(round):
            return [known.answer] if known.answer and known.offer == offer else []
        key = ReplicaKey(ObjectId(opened.object_id), Generation(opened.generation), opened.replica)
        if self._holdings.holds(key):
            return [self._decline(sender, round, reasons.ALREADY_BOUND), *self._holdings.renew_now(key)]
        found = anchored(self.local.view, key.object_id)
        if found is None or found.generation != key.generation or not found.envelope.resources:
            return [self._decline(sender, round, reasons.STALE)]
        deadline = self.local.now() + self.local.settings.offer_s
        self._offers[round] = offered = _Offered(offer, opened, sender, found, deadline)
        _trim(self._offers)
        early = self._early.pop(round, {}).values()
        offered.shares = {one.member: one.share for one in early if one.part == found.envelope.resources}
        return [Fetch(Digest(found.envelope.resources))]

    def on_content(self, wanted: Digest, content: bytes | None) -> Effects:
        """The sealed part of an offer."""
        effects: Effects = []
        for offered in list(self._offers.values()):
            if content is None or offered.answer or offered.found.envelope.resources != wanted:
                continue
            try:
                offered.part = decode(content, SealedPart)
            except WireInvalid:
                return [*effects, self._answer(offered, self._declined(offered, reasons.KEY_UNAVAILABLE))]
            effects += self._try(offered)
        return effects

    def on_key_share(self, sender: PeerId, share: KeyShare) -> Effects:
        """One share of the key, from the committee member whose index it names."""
        round = RoundId(share.round)
        offered = self._offers.get(round)
        if share.piece != "resources" or not is_member(self.local, sender, share.member):
            return []
        if offered is None:
            if round in self._rounds:
                self._early.setdefault(round, {})[share.member] = share
                _trim(self._early)
            return []
        if offered.answer or share.part != offered.found.envelope.resources:
            return []
        offered.shares[share.member] = share.share
        return self._try(offered)

    def tick(self) -> Effects:
        """Ask again for missing parts; decline what never became complete."""
        effects: Effects = []
        for offered in self._offers.values():
            if offered.answer is not None:
                continue
            if self.local.now() >= offered.deadline_s:
                effects.append(self._answer(offered, self._declined(offered, reasons.KEY_UNAVAILABLE)))
            elif offered.part is None:
                effects.append(Fetch(Digest(offered.found.envelope.resources)))
        return effects + self.cover()

    def _try(self, offered: _Offered) -> Effects:
        plain = open_with(offered.part, offered.shares, "resources", ObjectId(offered.open.object_id))
        if plain is None:
            return []
        try:
            resources = decode(plain, Resources)
        except WireInvalid:
            return [self._answer(offered, self._declined(offered, reasons.KEY_UNAVAILABLE))]
        return [self._answer(offered, self._reserve(offered, resources))]

    def _reserve(self, offered: _Offered, resources: Resources) -> Send:
        """Exact capacity, then the journal, then the promise."""
        opened, seconds = offered.open, self.local.settings.reserve_s
        key = ReplicaKey(ObjectId(opened.object_id), Generation(opened.generation), opened.replica)
        if self._holdings.holds(key):
            return self._declined(offered, reasons.ALREADY_BOUND)
        if not self._capacity.reserve(key, total_of(resources), seconds):
            return self._declined(offered, reasons.CAPACITY_SHORT)
        leaf = Leaf(
            salt=self.local.random.bytes(32),
            object_id=opened.object_id,
            generation=opened.generation,
            replica=opened.replica,
            round=opened.round,
            epoch=opened.epoch,
            transcript=offered.offer.transcript,
            peer=self.local.peer,
        )
        expires = self.local.wall_s() + int(seconds)
        binding = Binding(
            object_id=key.object_id,
            generation=key.generation,
            replica=key.replica,
            state="reserved",
            leaf=encode(leaf),
            resources=encode(resources),
            expires_s=expires,
            workload=offered.found.envelope.name,
            namespace=offered.found.envelope.namespace,
        )
        self._holdings.reserved(binding)
        return self.local.send(offered.coordinator, Accept(round=opened.round, salt=leaf.salt, expires_s=expires))

    def _answer(self, offered: _Offered, answer: Send) -> Send:
        offered.answer = answer
        offered.shares.clear()
        return answer

    def _declined(self, offered: _Offered, reason: str) -> Send:
        return self._decline(offered.coordinator, RoundId(offered.open.round), reason)

    def _decline(self, to: PeerId, round: RoundId, reason: str) -> Send:
        return self.local.send(to, Decline(round=round, reason=reason))


def _trim(held: OrderedDict[RoundId, Any]) -> None:
    while len(held) > ROUNDS_HELD_MAX:
        held.popitem(last=False)

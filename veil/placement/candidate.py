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
from veil.placement.eligibility import Anchored, anchored, anchored_in
from veil.placement.holdings import Holdings
from veil.placement.local import Local
from veil.placement.member import COVER_ROUND
from veil.placement.opening import is_member, open_with, total_of
from veil.placement.policies import NEVER, Standing, forbids, score
from veil.placement.ports import CapacityPort, CounterTable, EpochParts, ReplicaKey
from veil.placement.ranking import shard_of
from veil.placement.renewals import binding_key
from veil.placement.settings import ROUNDS_HELD_MAX
from veil.store.journal import Binding
from veil.types import Digest, Generation, ObjectId, PeerId, RoundId, Shard, Term
from veil.wire.codec import decode, encode, sha256
from veil.wire.objects import Resources, SealedPart
from veil.wire.rounds import Accept, Commit, Decline, Inputs, KeyShare, Leaf, Offer, Open, Telemetry
from veil.wire.signed import Signed, open_signed

log = logging.getLogger(__name__)

TAKEN = "last-taken-s"
"""The journal's counter with the Unix second at which this node last took a replica: whose turn it is goes by that."""


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

    def __init__(self, local: Local, capacity: CapacityPort, holdings: Holdings, counters: CounterTable) -> None:
        self.local = local
        self._capacity = capacity
        self._holdings = holdings
        self._counters = counters
        self._rounds: OrderedDict[RoundId, _Answered] = OrderedDict()
        self._offers: OrderedDict[tuple[RoundId, tuple[int, ...]], _Offered] = OrderedDict()
        """By round and the replicas offered: a second offer in one round is one of others that somebody refused."""
        self._early: OrderedDict[RoundId, dict[int, KeyShare]] = OrderedDict()
        """Key shares that came before their offer."""
        self._unseen: OrderedDict[RoundId, tuple[PeerId, Open, Signed]] = OrderedDict()
        """Openings of workloads that are not in this view yet."""
        self._cover_s = 0.0

    # telemetry

    def on_open(self, sender: PeerId, opened: Open, signed: Signed) -> Effects:
        """A commitment to fresh telemetry; the same one again for the same opening.

        What it says depends on the workload's policy: an opening whose workload is not in this view yet waits for it.
        """
        parts, round = self.local.parts_of(opened.epoch), RoundId(opened.round)
        if known := self._rounds.get(round):
            return [known.commit] if known.opened == signed else []
        if parts is None or not self._is_for_us(sender, opened):
            return []
        found = anchored(self.local.view, ObjectId(opened.object_id))
        if found is None or found.generation < opened.generation:
            self._unseen[round] = (sender, opened, signed)
            _trim(self._unseen)
            return []
        try:
            free, wanted = self._capacity.free(), self._score(parts, found)
            vector = parts.encryptor.telemetry(free, wanted, optimistic=opened.optimistic)
        except FheUnavailable as error:
            log.warning("no telemetry: %s", error.message)
            return []
        commit = self.local.send(sender, Commit(round=round, telemetry=sha256(vector)))
        self._rounds[round] = _Answered(signed, sender, vector, commit)
        _trim(self._rounds)
        return [commit]

    def on_passed_open(self, by: PeerId, opened: Open, signed: Signed) -> Effects:
        """An opening by way of a committee member, whom the coordinator told that it has no commitment: to both of them."""
        answer = self.on_open(PeerId(signed.signer), opened, signed)
        return answer + [Send(by, effect.message) for effect in answer if isinstance(effect, Send)]

    def on_inputs(self, sender: PeerId, inputs: Inputs) -> Effects:
        """The telemetry to every committee member, once the inputs have its commitment."""
        answered = self._rounds.get(RoundId(inputs.round))
        if answered is None or answered.coordinator != sender:
            return []
        try:
            opened = open_signed(answered.opened, self.local.cluster, Open)
            commits = read_commits(self.local, opened, inputs)
        except (SignatureInvalid, WireInvalid):
            return []
        parts = self.local.parts_of(opened.epoch)
        if commits.get(self.local.peer) != sha256(answered.vector) or parts is None:
            return []
        return self._to_committee(parts, RoundId(inputs.round), answered.vector)

    def cover(self) -> Effects:
        """Now and then the same bytes on the wire without a round, so that being a candidate does not show."""
        parts, every = self.local.epoch, self.local.settings.cover_tick_s
        if parts is None or every <= 0 or self.local.now() < self._cover_s:
            return []
        self._cover_s = self.local.now() + every
        try:
            vector = parts.encryptor.telemetry(self._capacity.free(), NEVER)
        except FheUnavailable:
            return []
        return self._to_committee(parts, COVER_ROUND, vector)

    def _score(self, parts: EpochParts, found: Anchored) -> float | None:
        """How much this node is to get a replica of that workload, by the workload's policy."""
        left_over = parts.encryptor.left_over(self._capacity.free(), self._capacity.total())
        return score(found.envelope, self.local.traits, self._standing(found, left_over))

    def _standing(self, found: Anchored, left_over: float = 0.0, *, besides: ReplicaKey | None = None) -> Standing:
        held = [one for one in self._holdings.bindings() if one.state != "superseded" and binding_key(one) != besides]
        owners = [of.owner for one in held if (of := anchored(self.local.view, one.object_id)) is not None]
        return Standing(
            left_over=left_over,
            since_last_s=self._since_last_s(),
            holds_same=any((one.object_id, one.generation) == (found.object_id, found.generation) for one in held),
            held_of_owner=owners.count(found.owner),
        )

    def _since_last_s(self) -> float:
        """By the wall clock, because a turn outlives this process."""
        last_s = self._counters.value(TAKEN)
        return max(0.0, self.local.wall_s() - last_s) if last_s else float("inf")

    def _to_committee(self, parts: EpochParts, round: RoundId, vector: bytes) -> Effects:
        epoch = parts.key_epoch
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
        if not self._is_for_us(sender, opened) or not set(offer.replicas) <= set(opened.replicas):
            return []
        if known := self._offers.get((round, offer.replicas)):
            return [known.answer] if known.answer and known.offer == offer else []
        held = [key for replica in offer.replicas if self._holdings.holds(key := key_in(opened, replica))]
        again = [effect for key in held for effect in self._holdings.renew_now(key)]
        if len(held) == len(offer.replicas):
            return [self._decline(sender, offer, round, reasons.ALREADY_BOUND), *again]
        found = anchored_in(self.local.view, ObjectId(opened.object_id), opened.epoch)
        if found is None or found.generation != opened.generation or not found.envelope.resources:
            return [self._decline(sender, offer, round, reasons.STALE)]
        deadline = self.local.now() + self.local.settings.offer_s
        self._offers[round, offer.replicas] = offered = _Offered(offer, opened, sender, found, deadline)
        _trim(self._offers)
        early = self._early.pop(round, {}).values()
        offered.shares = {one.member: one.share for one in early if one.part == found.envelope.resources}
        return [Fetch(Digest(found.envelope.resources)), *again]

    def on_content(self, wanted: Digest, content: bytes | None) -> Effects:
        """The sealed part of an offer."""
        effects: Effects = []
        for offered in list(self._offers.values()):
            if content is None or offered.answer or offered.found.envelope.resources != wanted:
                continue
            try:
                offered.part = decode(content, SealedPart)
            except WireInvalid:
                effects.append(self._answer(offered, self._declined(offered, reasons.KEY_UNAVAILABLE)))
                continue
            effects += self._try(offered)
        return effects

    def on_key_share(self, sender: PeerId, share: KeyShare) -> Effects:
        """One share of the key, from the committee member whose index it names."""
        round = RoundId(share.round)
        if share.piece != "resources" or not is_member(self.local, sender, share.member):
            return []
        waiting = [offered for (of, _), offered in self._offers.items() if of == round and not offered.answer]
        if not waiting and round in self._rounds:
            self._early.setdefault(round, {})[share.member] = share
            _trim(self._early)
        effects: Effects = []
        for offered in waiting:
            if share.part == offered.found.envelope.resources:
                offered.shares[share.member] = share.share
                effects += self._try(offered)
        return effects

    def tick(self) -> Effects:
        """Look again at what waits for the view; ask again for missing parts; decline what never became complete."""
        unseen, self._unseen = self._unseen, OrderedDict()
        effects: Effects = [effect for waiting in unseen.values() for effect in self.on_open(*waiting)]
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
        """As many of the replicas as there is exactly room for: capacity, then the journal, then the promise.

        What a quota or anti-affinity forbids by now is refused in the same words as what does not fit.
        """
        taken: list[int] = []
        salts: list[bytes] = []
        expires_s = self.local.wall_s() + int(self.local.settings.reserve_s)
        for replica in offered.offer.replicas:
            key = key_in(offered.open, replica)
            if self._holdings.holds(key):
                continue
            if forbids(offered.found.envelope, self.local.traits, self._standing(offered.found, besides=key)):
                break
            if not self._capacity.reserve(key, total_of(resources), self.local.settings.reserve_s):
                break
            leaf = self._leaf(offered, replica)
            self._holdings.reserved(self._binding(offered, key, leaf, resources, expires_s), held=offered.offer.held)
            taken.append(replica)
            salts.append(leaf.salt)
        if not taken:
            return self._declined(offered, reasons.CAPACITY_SHORT)
        log.info("round %s: %d of %d taken", offered.open.round.hex()[:8], len(taken), len(offered.offer.replicas))
        self._counters.raise_to(TAKEN, self.local.wall_s())
        accept = Accept(
            round=offered.open.round,
            offered=offered.offer.replicas,
            replicas=tuple(taken),
            salts=tuple(salts),
            expires_s=expires_s,
        )
        return self.local.send(offered.coordinator, accept)

    def _leaf(self, offered: _Offered, replica: int) -> Leaf:
        opened = offered.open
        return Leaf(
            salt=self.local.random.bytes(32),
            object_id=opened.object_id,
            generation=opened.generation,
            replica=replica,
            round=opened.round,
            epoch=opened.epoch,
            transcript=offered.offer.transcript,
            peer=self.local.peer,
            checked=offered.offer.checked,
        )

    def _binding(self, offered: _Offered, key: ReplicaKey, leaf: Leaf, resources: Resources, expires_s: int) -> Binding:
        return Binding(
            object_id=key.object_id,
            generation=key.generation,
            replica=key.replica,
            state="reserved",
            leaf=encode(leaf),
            resources=encode(resources),
            expires_s=expires_s,
            workload=offered.found.envelope.name,
            namespace=offered.found.envelope.namespace,
        )

    def _answer(self, offered: _Offered, answer: Send) -> Send:
        offered.answer = answer
        offered.shares.clear()
        return answer

    def _declined(self, offered: _Offered, reason: str) -> Send:
        return self._decline(offered.coordinator, offered.offer, RoundId(offered.open.round), reason)

    def _decline(self, to: PeerId, offer: Offer, round: RoundId, reason: str) -> Send:
        return self.local.send(to, Decline(round=round, replicas=offer.replicas, reason=reason))


def key_in(opened: Open, replica: int) -> ReplicaKey:
    """The key of one of the opening's replicas."""
    return ReplicaKey(ObjectId(opened.object_id), Generation(opened.generation), replica)


def _trim(held: OrderedDict[Any, Any]) -> None:
    while len(held) > ROUNDS_HELD_MAX:
        held.popitem(last=False)

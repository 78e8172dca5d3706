"""One round, as its coordinator runs it: open, gather commits, ask for partials, combine, offer, hear an acceptance.

It learns bits and who refused, nothing else. Every message may be lost, repeated or late: what does not belong to the present
phase is dropped, and each phase has a named time limit. A round never places anything by itself: what it gives back is a leaf
that still has to be appended (:mod:`veil.placement.append`), and the log decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from veil.errors import CiphertextInvalid, FheUnavailable
from veil.placement import reasons
from veil.placement.effects import Effects, Keep, Send
from veil.placement.local import Local
from veil.placement.ports import EpochParts, ReplicaKey
from veil.placement.settings import MEMBER_SETS_MAX, OFFERS_MAX
from veil.types import Digest, Generation, ObjectId, PeerId, RoundId, Shard
from veil.wire.codec import sha256
from veil.wire.rounds import (
    Accept,
    Bound,
    Commit,
    Decline,
    Inputs,
    KeyRequest,
    Leaf,
    Offer,
    Open,
    Partial,
    ReleaseRequest,
    Transcript,
    Withheld,
    transcript_root,
)
from veil.wire.signed import Signed


class Phase(Enum):
    COMMITTING = auto()
    RELEASING = auto()
    OFFERING = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows a committee member whom the round chose (for the key of a confidential template, after the append)."""

    opened: Signed
    inputs: Signed
    members: tuple[int, ...]
    partials: tuple[Signed, ...]
    result: bytes
    offer: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The round's good end: ``leaf`` is to be appended before ``expires_s`` (Unix seconds)."""

    leaf: Leaf
    expires_s: int
    proof: Proof


@dataclass(frozen=True, slots=True)
class Failed:
    """``without``: candidates that refused or spoilt it, to be left out of the next round; ``silent``: committee members
    (1-based) that are asked last in the next round."""

    reason: str
    message: str = ""
    without: frozenset[PeerId] = frozenset()
    silent: frozenset[int] = frozenset()


class Round:
    """Give it messages and ticks; once ``outcome`` is set it is over.

    ``base`` counts the appends of others that the coordinator had seen in the shard's log when it opened the round: what it held
    to be unbound, it held so as of then. ``members`` are the committee's 1-based indices in the order in which they are asked.
    """

    def __init__(self, local: Local, parts: EpochParts, opened: Open, *, base: int, members: Sequence[int]) -> None:
        self.local = local
        self.parts = parts
        self.open = opened
        self.base = base
        self.phase = Phase.COMMITTING
        self.outcome: Accepted | Failed | None = None
        self._signed_open = local.sign(opened)
        self._signed_inputs: Signed | None = None
        self._deadline_s = 0.0
        self._members = list(members)
        self._asked: tuple[int, ...] = ()
        self._sets = 0
        self._commits: dict[PeerId, Signed] = {}
        self._partials: dict[int, tuple[Partial, Signed, bytes]] = {}
        self._unanswered: set[int] = set()
        self._hot: list[PeerId] = []
        self._refused: set[PeerId] = set()
        self._offer = 0
        self._proof: Proof | None = None

    @property
    def id(self) -> RoundId:
        return RoundId(self.open.round)

    @property
    def key(self) -> ReplicaKey:
        return ReplicaKey(ObjectId(self.open.object_id), Generation(self.open.generation), self.open.replica)

    @property
    def shard(self) -> Shard:
        return Shard(self.open.shard)

    def start(self) -> Effects:
        self._until(self.local.settings.commit_s)
        return [Send(PeerId(peer), self._signed_open) for peer in self.open.candidates]

    def abort(self, reason: str) -> None:
        """End it without a word: whoever waits for it has time limits of its own."""
        self._fail(Failed(reason))

    # what is heard

    def on_commit(self, signer: PeerId, commit: Commit, signed: Signed) -> Effects:
        if self.phase is not Phase.COMMITTING or signer not in self.open.candidates or signer in self._commits:
            return []
        self._commits[signer] = signed
        return self._close() if len(self._commits) == len(self.open.candidates) else []

    def on_release(self, signer: PeerId, signed: Signed, partial: Partial, result: bytes) -> Effects:
        """A member's partial of exactly the set that was asked."""
        if self.phase is not Phase.RELEASING or partial.members != self._asked or partial.member not in self._asked:
            return []
        if self._index(signer) != partial.member or sha256(result) != partial.evaluation:
            return []
        self._partials[partial.member] = (partial, signed, result)
        return self._combine() if len(self._partials) == len(self._asked) else []

    def on_withheld(self, signer: PeerId, withheld: Withheld) -> Effects:
        member = self._index(signer)
        if self.phase is not Phase.RELEASING or member not in self._asked:
            return []
        named = frozenset(PeerId(peer) for peer in withheld.peers) & frozenset(self._commits)
        if named:
            return self._fail(Failed(withheld.reason, withheld.message, without=named))
        self._unanswered = {member}
        return self._other_members(withheld.reason, withheld.message)

    def on_accept(self, signer: PeerId, accept: Accept) -> Effects:
        """The reservation of the node that the present offer is with; a late one of an earlier offer just expires."""
        if self.phase is not Phase.OFFERING or signer != self._hot[self._offer] or self._proof is None:
            return []
        leaf = Leaf(
            salt=accept.salt,
            object_id=self.open.object_id,
            generation=self.open.generation,
            replica=self.open.replica,
            round=self.open.round,
            epoch=self.open.epoch,
            transcript=self._transcript(),
            peer=signer,
        )
        self.outcome = Accepted(leaf, accept.expires_s, self._proof)
        self.phase = Phase.OVER
        return []

    def on_decline(self, signer: PeerId, decline: Decline) -> Effects:
        if self.phase is not Phase.OFFERING or signer != self._hot[self._offer]:
            return []
        return self._refusal(decline.reason)

    def tick(self) -> Effects:
        if self.phase is Phase.OVER or self.local.now() < self._deadline_s:
            return []
        if self.phase is Phase.COMMITTING:
            return self._close()
        if self.phase is Phase.RELEASING:
            self._unanswered = set(self._asked) - set(self._partials)
            return self._other_members(reasons.QUORUM_MISSING, "committee members did not answer in time")
        return self._refusal(reasons.KEY_UNAVAILABLE)

    # what is done

    def _close(self) -> Effects:
        if not self._commits:
            return self._fail(Failed(reasons.NO_CANDIDATES, "no candidate sent a commitment"))
        ordered = tuple(self._commits[peer] for peer in map(PeerId, self.open.candidates) if peer in self._commits)
        self._signed_inputs = self.local.sign(Inputs(round=self.open.round, commits=ordered))
        effects: Effects = [Send(peer, self._signed_inputs) for peer in self._commits]
        return effects + self._ask(tuple(sorted(self._members[: self.parts.key_epoch.threshold])))

    def _ask(self, members: tuple[int, ...]) -> Effects:
        assert self._signed_inputs is not None
        if len(members) < self.parts.key_epoch.threshold:
            return self._fail(Failed(reasons.QUORUM_MISSING, "too few committee members are reachable"))
        self.phase = Phase.RELEASING
        self._sets += 1
        self._asked = members
        self._partials = {}
        self._until(self.local.settings.release_s)
        request = ReleaseRequest(open=self._signed_open, inputs=self._signed_inputs, evaluation=b"", members=members)
        return [self.local.send(self._peer(member), request) for member in members]

    def _other_members(self, reason: str, message: str) -> Effects:
        """Once more with another set, unless somebody has released: that member's part of the round is spent."""
        self._members.sort(key=lambda member: member in self._unanswered)
        members = tuple(sorted(self._members[: self.parts.key_epoch.threshold]))
        if self._sets >= MEMBER_SETS_MAX or members == self._asked or self._partials:
            return self._fail(Failed(reason, message, silent=frozenset(self._unanswered)))
        return self._ask(members)

    def _combine(self) -> Effects:
        evaluations = {partial.evaluation for partial, _, _ in self._partials.values()}
        if len(evaluations) > 1:
            return self._fail(Failed(reasons.EVALUATION_DIFFERS, "committee members evaluated differently"))
        _, _, result = next(iter(self._partials.values()))
        shares = {member: partial.partial for member, (partial, _, _) in self._partials.items()}
        try:
            bits = self.parts.combiner.open(result, self._asked, shares).bits
        except (CiphertextInvalid, FheUnavailable) as error:
            return self._fail(Failed(reasons.FHE_UNAVAILABLE, error.message[:100]))
        self._hot = winners(bits, self.open)
        kept: Effects = [self._transcript_kept(result)]
        if not self._hot:
            return kept + self._fail(Failed(reasons.NO_NODE_FITS, "no eligible node has room for it"))
        return kept + self._make_offer(0)

    def _transcript_kept(self, result: bytes) -> Keep:
        """The decision and how it came about, for whoever checks it later."""
        assert self._signed_inputs is not None
        transcript = Transcript(
            open=self._signed_open,
            inputs=self._signed_inputs,
            evaluation=sha256(result),
            partials=tuple(self._partials[member][1] for member in self._asked),
            result=result,
        )
        return Keep(self.id, "coordinator", transcript)

    def _make_offer(self, offer: int) -> Effects:
        assert self._signed_inputs is not None
        self.phase = Phase.OFFERING
        self._offer = offer
        self._until(self.local.settings.offer_s)
        signed = tuple(self._partials[member][1] for member in self._asked)
        result = self._partials[self._asked[0]][2]
        self._proof = Proof(self._signed_open, self._signed_inputs, self._asked, signed, result, offer)
        winner = self._hot[offer]
        offered = Offer(open=self._signed_open, transcript=self._transcript(), offer=offer)
        request = key_request(self._proof, winner, "resources")
        effects: Effects = [self.local.send(winner, offered)]
        return effects + [self.local.send(self._peer(member), request) for member in self._asked]

    def _refusal(self, reason: str) -> Effects:
        self._refused.add(self._hot[self._offer])
        following = self._offer + 1
        if following < min(len(self._hot), OFFERS_MAX):
            return self._make_offer(following)
        return self._fail(Failed(reason, "the chosen nodes did not take it", without=frozenset(self._refused)))

    def _fail(self, failed: Failed) -> Effects:
        if self.outcome is None:
            self.outcome = failed
        self.phase = Phase.OVER
        return []

    # small things

    def _until(self, seconds: float) -> None:
        self._deadline_s = self.local.now() + seconds

    def _transcript(self) -> Digest:
        assert self._signed_inputs is not None
        evaluation = next(iter(self._partials.values()))[0].evaluation
        return transcript_root(self._signed_open, self._signed_inputs, Digest(evaluation))

    def _peer(self, member: int) -> PeerId:
        return PeerId(self.parts.key_epoch.committee[member - 1])

    def _index(self, peer: PeerId) -> int:
        """The 1-based Shamir index of a committee member, 0 for anybody else."""
        committee = self.parts.key_epoch.committee
        return committee.index(peer) + 1 if peer in committee else 0


def winners(bits: Sequence[int], opened: Open) -> list[PeerId]:
    """The chosen candidates in the order in which they are offered the replica: several when they tie, none when none fits.

    The last bit says "none fits"; with it the others mean nothing.
    """
    if len(bits) <= len(opened.candidates) or bits[-1] != 0:
        return []
    return [PeerId(peer) for peer, bit in zip(opened.candidates, bits, strict=False) if bit == 1]


def key_request(proof: Proof, winner: PeerId, piece: Literal["resources", "template"], bound: Bound | None = None) -> KeyRequest:
    """What committee members are shown to release a content key's shares to ``winner``."""
    return KeyRequest(
        open=proof.opened,
        inputs=proof.inputs,
        winner=winner,
        offer=proof.offer,
        piece=piece,
        partials=proof.partials,
        result=proof.result,
        bound=bound,
    )

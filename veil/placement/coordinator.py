"""One round, as its coordinator runs it: open, gather commits, ask for partials, combine, offer, hear acceptances.

It learns the order of nodes and who refused, nothing else. Every message may be lost, repeated or late: what does not belong to
the present phase is dropped, and each phase has a named time limit. A round never places anything by itself: what it gives back
are leaves that still have to be appended (:mod:`veil.placement.append`), and the log decides.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from veil.errors import CiphertextInvalid, DecryptionDisputed, FheUnavailable, PartialInvalid
from veil.placement import reasons
from veil.placement.effects import Effects, Keep, Send
from veil.placement.gathering import Gathering, Given
from veil.placement.local import Local
from veil.placement.offering import FILL, Manner, Offering
from veil.placement.outcome import Accepted, Failed, Proof, candidates_in_order, key_request
from veil.placement.ports import EpochParts, ReplicaKey
from veil.types import Digest, Generation, ObjectId, PeerId, RoundId, Shard
from veil.wire.codec import sha256
from veil.wire.rounds import (
    Accept,
    Commit,
    Decline,
    Exclusion,
    Exclusions,
    Inputs,
    Leaf,
    Missing,
    Offer,
    Open,
    Partial,
    ReleaseRequest,
    Transcript,
    Withheld,
    transcript_root,
)
from veil.wire.signed import Signed

log = logging.getLogger(__name__)


class Phase(Enum):
    COMMITTING = auto()
    RELEASING = auto()
    OFFERING = auto()
    OVER = auto()


@dataclass(slots=True)
class _Decided:
    """What the quorum opened."""

    given: dict[int, Given]
    checked: bool
    offering: Offering
    deadlines_s: dict[PeerId, float] = field(default_factory=dict)

    @property
    def result(self) -> bytes:
        return next(iter(self.given.values())).result


class Round:
    """Give it messages and ticks, take :meth:`accepted` after each; it is over once ``failed`` or ``over`` says so.

    ``base`` counts the appends of others that the coordinator had seen in the shard's log when it opened the round: what it held
    to be unbound, it held so as of then. ``members`` are the committee's 1-based indices in the order in which they are asked.
    """

    def __init__(
        self,
        local: Local,
        parts: EpochParts,
        opened: Open,
        *,
        base: int,
        members: Sequence[int],
        manner: Manner = FILL,
        exclusions: Sequence[Exclusion] = (),
        held: bool = False,
    ) -> None:
        self.local = local
        self.parts = parts
        self.open = opened
        self.base = base
        self.held = held
        """Whether its replicas run on nodes that want to be rid of them: then it is not over because somebody holds them."""
        self.phase = Phase.COMMITTING
        self.failed: Failed | None = None
        self.silent: set[int] = set()
        """Committee members that did not answer in time."""
        self.liars: tuple[int, ...] = ()
        """Committee members whose partials were shown to be wrong."""
        self._manner = manner
        self._signed_open = local.sign(opened)
        self._signed_exclusions = local.sign(Exclusions(round=opened.round, exclusions=tuple(exclusions)))
        self._signed_inputs: Signed | None = None
        self._deadline_s = 0.0
        self._look_s = 0.0
        """When members are asked to look for commitments, too; infinite once they were."""
        self._commits: dict[PeerId, Signed] = {}
        self._gathering = Gathering(parts.key_epoch.threshold, members)
        self._finding = Failed(reasons.QUORUM_MISSING, "committee members did not answer in time")
        self._decided: _Decided | None = None
        self._refusal = Failed(reasons.CAPACITY_SHORT, "the chosen nodes did not take it")
        self._accepted: list[Accepted] = []
        self._withdrawn: set[int] = set()

    @property
    def id(self) -> RoundId:
        return RoundId(self.open.round)

    @property
    def name(self) -> str:
        """As logs have it: every node logs a round's steps under it, which shows where its time goes."""
        return self.id.hex()[:8]

    @property
    def keys(self) -> list[ReplicaKey]:
        """Replicas that it still tries to place, or has placed."""
        return [self.key_of(replica) for replica in self.open.replicas if replica not in self._withdrawn]

    def key_of(self, replica: int) -> ReplicaKey:
        return ReplicaKey(ObjectId(self.open.object_id), Generation(self.open.generation), replica)

    @property
    def shard(self) -> Shard:
        return Shard(self.open.shard)

    @property
    def over(self) -> bool:
        return self.phase is Phase.OVER

    def accepted(self) -> list[Accepted]:
        """What was accepted since this was last asked."""
        taken, self._accepted = self._accepted, []
        return taken

    def start(self) -> Effects:
        log.info("round %s opened", self.name)
        self._until(self.local.settings.commit_s)
        self._look_s = self.local.now() + self.local.settings.commit_s / 2
        return [Send(PeerId(peer), self._signed_open) for peer in self.open.candidates]

    def withdraw(self, key: ReplicaKey) -> None:
        """Somebody holds that replica, or it is not wanted any more. Without any it ends, without a word: whoever waits for it
        has time limits of its own."""
        self._withdrawn.add(key.replica)
        if self._decided is not None:
            self._decided.offering.withdraw(key.replica)
        if not self.keys:
            self.phase = Phase.OVER

    # what is heard

    def on_commit(self, signer: PeerId, commit: Commit, signed: Signed) -> Effects:
        if self.phase is not Phase.COMMITTING or signer not in self.open.candidates or signer in self._commits:
            return []
        self._commits[signer] = signed
        return self._close() if len(self._commits) == len(self.open.candidates) else []

    def on_release(self, signer: PeerId, signed: Signed, partial: Partial, result: bytes) -> Effects:
        """A member's partials for exactly the quorum that was asked."""
        if self.phase is not Phase.RELEASING or self._index(signer) != partial.member or sha256(result) != partial.evaluation:
            return []
        if not self._gathering.give(Given(partial, signed, result)):
            return []
        if self._gathering.enough:
            self._deadline_s = min(self._deadline_s, self.local.now() + self.local.settings.check_s)
        return self._consider()

    def on_withheld(self, signer: PeerId, withheld: Withheld, signed: Signed) -> Effects:
        if self.phase is not Phase.RELEASING or not self._gathering.withhold(self._index(signer)):
            return []
        found = self._finding
        known = {exclusion.peer for exclusion in found.without}
        named = tuple(
            Exclusion(peer=peer, reason=withheld.reason, round=self.open.round, word=signed)
            for peer in dict.fromkeys(withheld.peers)
            if withheld.reason in reasons.SPOILT and peer in self._commits and peer not in known
        )
        left_out = {
            reasons.EXCLUSION_UNFOUNDED: frozenset(self.open.excluded),
            reasons.CANDIDATE_OMITTED: frozenset(self.open.candidates) - frozenset(self._commits),
        }
        disputed = frozenset(map(PeerId, left_out.get(withheld.reason, frozenset()) & frozenset(withheld.peers)))
        if named or disputed or not (found.without or found.disputed):
            without, disputed = (*found.without, *named), found.disputed | disputed
            self._finding = Failed(withheld.reason, withheld.message, without=without, disputed=disputed)
        return self._consider()

    def on_accept(self, signer: PeerId, accept: Accept) -> Effects:
        """The reservations of a node for what is with it; a late answer to an earlier offer just expires."""
        decided = self._answering(signer, accept.offered)
        if decided is None or not set(accept.replicas) <= set(accept.offered) or len(accept.salts) != len(accept.replicas):
            return []
        proof = self._proof(decided, decided.offering.place(signer))
        for replica, salt in zip(accept.replicas, accept.salts, strict=True):
            if replica not in self._withdrawn:
                self._accepted.append(Accepted(self._leaf(decided, signer, replica, salt), accept.expires_s, proof))
        if accept.replicas != accept.offered:
            self._refusal = Failed(reasons.CAPACITY_SHORT, "the chosen nodes did not take it")
        return self._go_on(decided, signer, accept.replicas)

    def on_decline(self, signer: PeerId, decline: Decline) -> Effects:
        decided = self._answering(signer, decline.replicas)
        if decided is None:
            return []
        self._refusal = Failed(decline.reason, "the chosen nodes did not take it")
        return self._go_on(decided, signer, ())

    def tick(self) -> Effects:
        if self.phase is Phase.OFFERING and self._decided is not None:
            return self._time_out_offers(self._decided)
        if self.phase is Phase.COMMITTING and self.local.now() >= self._look_s:
            return self._look_for_commits()
        if self.phase is Phase.OVER or self.local.now() < self._deadline_s:
            return []
        if self.phase is Phase.COMMITTING:
            return self._close()
        self.silent |= self._gathering.missing
        return self._consider(waited=True)

    # the decision

    def _look_for_commits(self) -> Effects:
        """Have those who will check see for themselves who is silent: they may also hear what was lost on its way here."""
        self._look_s = float("inf")
        peers = tuple(peer for peer in self.open.candidates if peer not in self._commits)
        missing = Missing(open=self._signed_open, what="commitments", peers=peers)
        return [self.local.send(self._peer(member), missing) for member in self._gathering.askable]

    def _close(self) -> Effects:
        if not self._commits:
            return self._fail(Failed(reasons.NO_CANDIDATES, "no candidate sent a commitment"))
        ordered = tuple(self._commits[peer] for peer in map(PeerId, self.open.candidates) if peer in self._commits)
        log.info("round %s committed", self.name)
        self._signed_inputs = self.local.sign(Inputs(round=self.open.round, commits=ordered))
        effects: Effects = [Send(peer, self._signed_inputs) for peer in self._commits]
        if not self._gathering.begin():
            return effects + self._fail(Failed(reasons.QUORUM_MISSING, "too few committee members are reachable"))
        return effects + self._ask(b"")

    def _ask(self, evaluation: bytes) -> Effects:
        assert self._signed_inputs is not None
        self.phase = Phase.RELEASING
        self._until(self.local.settings.release_s)
        members = self._gathering.asked
        request = ReleaseRequest(
            open=self._signed_open,
            inputs=self._signed_inputs,
            exclusions=self._signed_exclusions,
            evaluation=evaluation,
            members=members,
        )
        return [self.local.send(self._peer(member), request) for member in members]

    def _consider(self, *, waited: bool = False) -> Effects:
        """Wait on, ask one member more, open what is there, or give up."""
        gathering = self._gathering
        if gathering.missing and not waited:
            return []
        if gathering.differing:
            self._finding = Failed(reasons.EVALUATION_DIFFERS, "committee members evaluated differently")
        if not gathering.whole:
            agreed = gathering.agreeing
            evaluation = next(iter(agreed.values())).partial.evaluation if gathering.enough else b""
            if gathering.enlarge():
                return self._ask(evaluation)
        return self._open_result() if gathering.enough else self._fail(self._finding)

    def _open_result(self) -> Effects:
        gathering = self._gathering
        given = gathering.agreeing
        result = next(iter(given.values())).result
        parts = {member: one.partial.partial for member, one in given.items()}
        try:
            opened = self.parts.combiner.open(result, gathering.asked, parts)
        except DecryptionDisputed as error:
            evaluation = next(iter(given.values())).partial.evaluation
            if gathering.enlarge():
                return self._ask(evaluation)
            disputed = Failed(reasons.DECRYPTION_DISPUTED, error.message[:100])
            return [self._transcript_kept(given, result), *self._fail(disputed)]
        except PartialInvalid as error:
            log.warning("round %s: %s", self.name, error.message)
            gathering.discard(error.member)
            return self._consider(waited=True)
        except (CiphertextInvalid, FheUnavailable) as error:
            return self._fail(Failed(reasons.FHE_UNAVAILABLE, error.message[:100]))
        kept: Effects = [self._transcript_kept(given, result)]
        if opened.liars:
            self.liars = opened.liars
            given = {member: one for member, one in given.items() if member not in opened.liars}
            log.error("round %s: wrong partial decryptions by committee members %s", self.name, list(opened.liars))
        order = candidates_in_order(self.parts.key_epoch, self.open, opened.bits)
        replicas = [replica for replica in self.open.replicas if replica not in self._withdrawn]
        self._decided = _Decided(given, opened.checked, Offering(order, replicas, self._manner))
        if not order:
            return kept + self._fail(Failed(reasons.NO_NODE_FITS, "no eligible node has room for it"))
        log.info("round %s decided", self.name)
        self.phase = Phase.OFFERING
        return kept + self._make_offers(self._decided)

    def _transcript_kept(self, given: Mapping[int, Given], result: bytes) -> Keep:
        """The decision and how it came about, wrong partials included, for whoever checks it later."""
        assert self._signed_inputs is not None
        transcript = Transcript(
            open=self._signed_open,
            inputs=self._signed_inputs,
            exclusions=self._signed_exclusions,
            evaluation=sha256(result),
            partials=tuple(one.signed for one in given.values()),
            result=result,
        )
        return Keep(self.id, "coordinator", transcript)

    # offers

    def _make_offers(self, decided: _Decided) -> Effects:
        effects: Effects = []
        for peer, replicas in decided.offering.next():
            decided.deadlines_s[peer] = self.local.now() + self.local.settings.offer_s
            proof = self._proof(decided, decided.offering.place(peer))
            offer = Offer(
                open=self._signed_open,
                transcript=self._transcript(decided),
                place=proof.place,
                replicas=replicas,
                checked=decided.checked,
                held=self.held,
            )
            request = key_request(proof, peer, "resources")
            effects.append(self.local.send(peer, offer))
            effects += [self.local.send(self._peer(member), request) for member in proof.members]
        return effects

    def _answering(self, signer: PeerId, offered: Sequence[int]) -> _Decided | None:
        """The decision, when ``signer`` answers the offer that is with it."""
        decided = self._decided
        if self.phase is not Phase.OFFERING or decided is None or not offered:
            return None
        return decided if decided.offering.offered(signer) == tuple(offered) else None

    def _go_on(self, decided: _Decided, peer: PeerId, accepted: Sequence[int]) -> Effects:
        decided.offering.answered(peer, accepted)
        decided.deadlines_s.pop(peer, None)
        effects = self._make_offers(decided)
        if not decided.offering.over:
            return effects
        if decided.offering.left:
            refused = tuple(
                Exclusion(peer=peer, reason=reasons.REFUSED, round=self.open.round) for peer in sorted(decided.offering.refused)
            )
            return effects + self._fail(Failed(self._refusal.reason, self._refusal.message, without=refused))
        log.info("round %s accepted", self.name)
        self.phase = Phase.OVER
        return effects

    def _time_out_offers(self, decided: _Decided) -> Effects:
        effects: Effects = []
        for peer in [peer for peer, deadline_s in decided.deadlines_s.items() if self.local.now() >= deadline_s]:
            self._refusal = Failed(reasons.KEY_UNAVAILABLE, "a chosen node did not answer in time")
            effects += self._go_on(decided, peer, ())
        return effects

    def _fail(self, failed: Failed) -> Effects:
        self.failed = self.failed or failed
        self.phase = Phase.OVER
        return []

    # small things

    def _until(self, seconds: float) -> None:
        self._deadline_s = self.local.now() + seconds

    def _leaf(self, decided: _Decided, peer: PeerId, replica: int, salt: bytes) -> Leaf:
        return Leaf(
            salt=salt,
            object_id=self.open.object_id,
            generation=self.open.generation,
            replica=replica,
            round=self.open.round,
            epoch=self.open.epoch,
            transcript=self._transcript(decided),
            peer=peer,
            checked=decided.checked,
        )

    def _proof(self, decided: _Decided, place: int) -> Proof:
        assert self._signed_inputs is not None
        members, signed = tuple(decided.given), tuple(one.signed for one in decided.given.values())
        return Proof(self._signed_open, self._signed_inputs, members, signed, decided.result, place)

    def _transcript(self, decided: _Decided) -> Digest:
        assert self._signed_inputs is not None
        return transcript_root(self._signed_open, self._signed_inputs, sha256(decided.result))

    def _peer(self, member: int) -> PeerId:
        return PeerId(self.parts.key_epoch.committee[member - 1])

    def _index(self, peer: PeerId) -> int:
        """The 1-based Shamir index of a committee member, 0 for anybody else."""
        committee = self.parts.key_epoch.committee
        return committee.index(peer) + 1 if peer in committee else 0

"""A committee member: it holds telemetry, evaluates, checks, journals, and only then releases its part of a decision.

It decrypts nothing but what it evaluated itself from inputs that it holds itself, so a request can at most make it do work.
Telemetry never leaves it. What a member has released for a round is journalled first; a member that lost its journal must
not be given its old share again.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from veil.errors import CiphertextInvalid, FheUnavailable, SignatureInvalid, WireInvalid
from veil.placement import reasons
from veil.placement.checks import MEMBER_CHECKS, Case, Check, Finding, Search, first_finding, read_commits, read_round
from veil.placement.effects import Effects, Evaluate, Fetch, Keep, Send
from veil.placement.eligibility import anchored
from veil.placement.exclusions import Known, read_exclusions
from veil.placement.local import Local
from veil.placement.ports import SpentRounds
from veil.placement.settings import DIGESTS_REMEMBERED_MAX, ROUNDS_HELD_MAX, ROUNDS_PER_CANDIDATE_MAX, TELEMETRY_PASSED_MAX
from veil.types import Digest, Epoch, ObjectId, PeerId, RoundId, Shard, Term
from veil.wire.codec import decode, digest, sha256
from veil.wire.objects import Demand
from veil.wire.rounds import (
    Commit,
    Exclusion,
    Inputs,
    Missing,
    Open,
    Partial,
    Passed,
    Release,
    ReleaseRequest,
    Telemetry,
    Transcript,
    Withheld,
    transcript_root,
)
from veil.wire.signed import Signed, open_signed

log = logging.getLogger(__name__)

COVER_ROUND = RoundId(bytes(16))
"""The round of telemetry that is sent only to be seen on the wire."""


class _State(Enum):
    CHECKING = auto()
    EVALUATING = auto()
    ANSWERED = auto()


@dataclass(slots=True)
class _Request:
    """What was asked for one round, and how far it is."""

    coordinator: PeerId
    request: ReleaseRequest
    open: Open
    inputs: Inputs
    commits: dict[PeerId, Digest]
    exclusions: tuple[Exclusion, ...]
    begun_s: float
    deadline_s: float
    looked: bool = False
    """Whether other members were asked for telemetry that has not come."""
    state: _State = _State.CHECKING
    result: bytes = b""
    answer: Send | None = None
    named: frozenset[PeerId] = frozenset()
    """Whom it was withheld for."""
    waiting: Finding | None = field(default=None)


class Member:
    """``checks`` are all of DESIGN 4.3 but the journal and the budget, which are inseparable from the release itself.

    ``chosen`` names the nodes that a round decided for and whose keys this member was asked for.
    """

    def __init__(
        self,
        local: Local,
        rounds: SpentRounds,
        *,
        checks: Sequence[Check] = MEMBER_CHECKS,
        chosen: Callable[[RoundId], frozenset[PeerId]] = lambda round: frozenset(),
    ) -> None:
        self.local = local
        self._rounds = rounds
        self._checks = checks
        self._chosen = chosen
        self._telemetry: OrderedDict[tuple[PeerId, RoundId], bytes] = OrderedDict()
        self._used: OrderedDict[Digest, tuple[PeerId, RoundId]] = OrderedDict()
        self._requests: OrderedDict[RoundId, _Request] = OrderedDict()
        self._demands: OrderedDict[Digest, bytes] = OrderedDict()
        self._signed: OrderedDict[tuple[PeerId, RoundId], Signed] = OrderedDict()
        self._searches: OrderedDict[RoundId, Search] = OrderedDict()

    # telemetry

    def on_telemetry(self, signer: PeerId, telemetry: Telemetry, signed: Signed) -> Effects:
        """Keep it if it is of this epoch and has the right form. The first sender of a ciphertext is its owner."""
        parts, round = self.local.parts_of(telemetry.epoch), RoundId(telemetry.round)
        if parts is None or round == COVER_ROUND:
            return []
        try:
            parts.encryptor.check_telemetry(telemetry.vector)
        except CiphertextInvalid:
            log.warning("telemetry of the wrong form from %s", signer.hex()[:16])
            return []
        if (signer, round) in self._telemetry:
            return []
        self._used.setdefault(sha256(telemetry.vector), (signer, round))
        self._telemetry[signer, round] = telemetry.vector
        self._signed[signer, round] = signed
        self._forget(signer)
        request = self._requests.get(round)
        return self._advance(request) if request else []

    def _forget(self, signer: PeerId) -> None:
        own = [key for key in self._telemetry if key[0] == signer]
        for key in own[:-ROUNDS_PER_CANDIDATE_MAX]:
            del self._telemetry[key]
        while len(self._signed) > TELEMETRY_PASSED_MAX:
            self._signed.popitem(last=False)
        while len(self._used) > DIGESTS_REMEMBERED_MAX:
            self._used.popitem(last=False)
        while len(self._searches) > ROUNDS_HELD_MAX:
            self._searches.popitem(last=False)
        while len(self._requests) > ROUNDS_HELD_MAX:
            self._requests.popitem(last=False)
        while len(self._demands) > ROUNDS_HELD_MAX:
            self._demands.popitem(last=False)

    # what has not come

    def on_missing(self, sender: PeerId, missing: Missing) -> Effects:
        """Look for commitments that a coordinator has not got; give another member telemetry that it has not got."""
        opened = open_signed(missing.open, self.local.cluster, Open)
        parts, round = self.local.parts_of(opened.epoch), RoundId(opened.round)
        if parts is None or self.local.peer not in parts.key_epoch.committee:
            return []
        peers = [PeerId(peer) for peer in missing.peers if peer in opened.candidates]
        if missing.what == "telemetry":
            held = [self._signed.get((peer, round)) for peer in peers] if sender in parts.key_epoch.committee else []
            return [self.local.send(sender, Passed(message=signed)) for signed in held if signed is not None]
        shard, term = Shard(opened.shard), Term(opened.term)
        ranked = sender == missing.open.signer and self.local.ranking.may_coordinate(sender, shard, term)
        if not ranked or round in self._searches or self.local.wall_s() > opened.expires_s:
            return []
        self._searches[round] = Search(sender, self.local.now(), frozenset(peers))
        self._forget(sender)
        return [self.local.send(peer, Passed(message=missing.open)) for peer in peers]

    def on_commit(self, signer: PeerId, commit: Commit, signed: Signed) -> Effects:
        """A candidate that was looked for answers."""
        search = self._searches.get(RoundId(commit.round))
        if search is None or signer not in search.peers or signer in search.found_s:
            return []
        search.found_s[signer] = self.local.now()
        return [self.local.send(search.coordinator, Passed(message=signed))]

    def _look_for_telemetry(self, entry: _Request, peers: Sequence[PeerId]) -> Effects:
        """Once, after a third of its patience: a candidate that served some members only is then one that served all."""
        if entry.looked or self.local.now() < entry.begun_s + self.local.settings.telemetry_s / 3:
            return []
        entry.looked = True
        committee = self.local.parts_of(entry.open.epoch)
        others = [committee.key_epoch.committee[member - 1] for member in entry.request.members] if committee else []
        missing = Missing(open=entry.request.open, what="telemetry", peers=tuple(peers))
        return [self.local.send(PeerId(peer), missing) for peer in others if peer != self.local.peer]

    # requests

    def on_release_request(self, sender: PeerId, request: ReleaseRequest) -> Effects:
        try:
            opened, inputs = read_round(self.local, request.open, request.inputs)
            commits = read_commits(self.local, opened, inputs)
            exclusions = read_exclusions(self.local, opened, request.exclusions, sender)
        except (SignatureInvalid, WireInvalid) as error:
            log.warning("a release request of %s that does not hold together: %s", sender.hex()[:16], error)
            return []
        if sender != request.open.signer:
            return []
        round = RoundId(opened.round)
        known = self._requests.get(round)
        if known is not None and known.request == request:
            return [known.answer] if known.answer else []
        if known is not None and set(request.members) < set(known.request.members):
            return []
        if known is not None and (known.request.open, known.request.inputs) != (request.open, request.inputs):
            return [self._withheld(sender, round, Finding(reasons.ROUND_SPENT, "the round was opened differently before"))]
        now = self.local.now()
        deadline = now + self.local.settings.telemetry_s
        result = known.result if known else b""
        entry = _Request(sender, request, opened, inputs, commits, exclusions, now, deadline, result=result)
        self._requests[round] = entry
        self._forget(sender)
        return self._advance(entry)

    def on_content(self, wanted: Digest, content: bytes | None) -> Effects:
        """A demand that was fetched; None when nobody had it."""
        if content is None:
            return []
        if not any(entry.open.demand == wanted for entry in self._requests.values()):
            return []
        self._demands[wanted] = content
        return self.look_again()

    def look_again(self) -> Effects:
        """The view or the clock has moved."""
        return [effect for entry in list(self._requests.values()) for effect in self._advance(entry)]

    def on_evaluated(self, round: RoundId, result: bytes | None) -> Effects:
        """``result`` None: the evaluator failed."""
        entry = self._requests.get(round)
        if entry is None or entry.state is not _State.EVALUATING:
            return []
        if result is None:
            return self._answer(entry, Finding(reasons.FHE_UNAVAILABLE, "the evaluator failed"))
        entry.result = result
        return self._release(entry)

    # how a request goes on

    def _case(self, entry: _Request) -> Case | None:
        parts = self.local.parts_of(entry.open.epoch) or self.local.epoch
        if parts is None:
            return None
        return Case(
            local=self.local,
            parts=parts,
            request=entry.request,
            open=entry.open,
            inputs=entry.inputs,
            coordinator=entry.coordinator,
            commits=entry.commits,
            held=self._held(entry),
            used={digest: user for digest in entry.commits.values() if (user := self._user_of(digest)) is not None},
            exclusions=entry.exclusions,
            earlier=self._earlier(entry.exclusions),
            search=self._searches.get(RoundId(entry.open.round)),
        )

    def _held(self, entry: _Request) -> dict[PeerId, Digest]:
        """The digests of the telemetry of its candidates that is here."""
        round = RoundId(entry.open.round)
        held = {peer: vector for peer in entry.commits if (vector := self._telemetry.get((peer, round))) is not None}
        return {peer: sha256(vector) for peer, vector in held.items()}

    def _earlier(self, exclusions: Sequence[Exclusion]) -> dict[RoundId, Known]:
        """Of the rounds that are given as reasons, those in which this member was asked."""
        named = {RoundId(exclusion.round) for exclusion in exclusions}
        return {
            round: Known(
                open=entry.open,
                commits=entry.commits,
                held=self._held(entry),
                named=entry.named,
                released=bool(entry.result) and self._rounds.is_spent(round),
                chosen=self._chosen(round),
            )
            for round in named
            if (entry := self._requests.get(round)) is not None
        }

    def _user_of(self, telemetry: Digest) -> tuple[PeerId, RoundId] | None:
        """Whose it is: by the rounds that this member released ever, else by what it has received since it started."""
        return self._rounds.used_by(telemetry) or self._used.get(telemetry)

    def _advance(self, entry: _Request) -> Effects:
        if entry.state is not _State.CHECKING:
            return []
        case = self._case(entry)
        if case is None:
            return self._answer(entry, Finding(reasons.EPOCH_MISSING, "this node has no key epoch"))
        finding = first_finding(case, self._checks)
        if finding is not None:
            if finding.wait and self.local.now() < entry.deadline_s:
                lacking = finding.reason == reasons.TELEMETRY_MISSING
                return self._look_for_telemetry(entry, finding.peers) if lacking else []
            return self._answer(entry, finding)
        if (finding := self._over_budget(entry, case)) is not None:
            return self._answer(entry, finding)
        if case.parts.evaluator is None:
            return self._answer(entry, Finding(reasons.FHE_UNAVAILABLE, "this node has no evaluator"))
        return self._evaluate(entry)

    def _evaluate(self, entry: _Request) -> Effects:
        demand = self._demands.get(Digest(entry.open.demand))
        if demand is None:
            if self.local.now() >= entry.deadline_s:
                return self._answer(entry, Finding(reasons.DEMAND_NOT_ANCHORED, "nobody reachable has the demand"))
            return [Fetch(Digest(entry.open.demand))]
        entry.state = _State.EVALUATING
        log.info("round %s checked", entry.open.round.hex()[:8])
        if entry.result:
            return self._release(entry)
        vector = self._demand_vector(entry, demand)
        if vector is None:
            return self._answer(entry, Finding(reasons.DEMAND_NOT_ANCHORED, "the demand is not of this workload and epoch"))
        round = RoundId(entry.open.round)
        telemetry = [
            self._telemetry.get((PeerId(peer), round)) if peer in entry.commits else None for peer in entry.open.candidates
        ]
        return [Evaluate(round, entry.open.epoch, entry.open.circuit, vector, telemetry)]

    def _demand_vector(self, entry: _Request, content: bytes) -> bytes | None:
        parts = self.local.parts_of(entry.open.epoch)
        try:
            demand = decode(content, Demand)
            if parts is None or digest(demand) != entry.open.demand:
                return None
            parts.encryptor.check_demand(demand.vector)
        except (WireInvalid, CiphertextInvalid):
            return None
        return demand.vector if (demand.object_id, demand.epoch) == (entry.open.object_id, entry.open.epoch) else None

    def _release(self, entry: _Request) -> Effects:
        """Check once more, journal, decrypt: in this order."""
        case = self._case(entry)
        if case is None or case.parts.decryptor is None:
            return self._answer(entry, Finding(reasons.EPOCH_MISSING, "this node has no key epoch any more"))
        evaluation = sha256(entry.result)
        finding = first_finding(case, self._checks)
        if finding is None and entry.request.evaluation not in (b"", evaluation):
            finding = Finding(reasons.EVALUATION_DIFFERS, "this member's own evaluation is another one")
        finding = finding or self._over_budget(entry, case)
        if finding is None and not self._spend(entry, evaluation):
            finding = Finding(reasons.ROUND_SPENT, "the round was used before")
        if finding is not None:
            return self._answer(entry, finding)
        try:
            part = case.parts.decryptor.partial(entry.result, entry.request.members)
        except (CiphertextInvalid, FheUnavailable) as error:
            return self._answer(entry, Finding(reasons.FHE_UNAVAILABLE, error.message[:100]))
        partial = Partial(
            round=entry.open.round,
            member=case.parts.decryptor.member,
            members=entry.request.members,
            evaluation=evaluation,
            transcript=transcript_root(entry.request.open, entry.request.inputs, evaluation),
            partial=part,
        )
        log.info("round %s released", entry.open.round.hex()[:8])
        release = Release(partial=self.local.sign(partial), result=entry.result)
        entry.state, entry.answer = _State.ANSWERED, self.local.send(entry.coordinator, release)
        return [entry.answer, self._transcript(entry, release)]

    def _over_budget(self, entry: _Request, case: Case) -> Finding | None:
        """Looked at before evaluating, to save the work, and once more before the round is spent. A spent one is paid for."""
        epoch = Epoch(entry.open.epoch)
        if self._rounds.is_spent(RoundId(entry.open.round)):
            return None
        if self._rounds.count(epoch) >= case.parts.key_epoch.max_decryptions:
            return Finding(reasons.BUDGET_EXHAUSTED, "the epoch's decryptions are used up")
        of, limit = ObjectId(entry.open.object_id), self.local.view.decision_limit(ObjectId(entry.open.object_id))
        if 0 < limit <= self._rounds.of_namespace(epoch, of[:16]):
            return Finding(
                reasons.NAMESPACE_LIMIT, "the decisions that the registry allows the namespace in the epoch are used up"
            )
        most = self.local.view.decisions_per_candidate()
        over = tuple(peer for peer in entry.commits if self._rounds.decisions(epoch, peer) >= most)
        return (
            Finding(reasons.BUDGET_EXHAUSTED, "candidates whose decisions in the epoch are used up", peers=over) if over else None
        )

    def _transcript(self, entry: _Request, release: Release) -> Keep:
        """What this member evaluated and said, for whoever checks the decision later."""
        round = RoundId(entry.open.round)
        transcript = Transcript(
            open=entry.request.open,
            inputs=entry.request.inputs,
            exclusions=entry.request.exclusions,
            evaluation=sha256(entry.result),
            partials=(release.partial,),
            telemetry=tuple(self._telemetry[peer, round] for peer in entry.commits),
        )
        return Keep(round, "member", transcript)

    def _spend(self, entry: _Request, evaluation: Digest) -> bool:
        found = anchored(self.local.view, ObjectId(entry.open.object_id))
        return self._rounds.spend(
            Epoch(entry.open.epoch),
            RoundId(entry.open.round),
            found.owner if found else "",
            ObjectId(entry.open.object_id),
            entry.open.replicas,
            entry.open.circuit,
            entry.request.members,
            evaluation,
            self.local.wall_s(),
            entry.commits,
        )

    def _answer(self, entry: _Request, finding: Finding) -> Effects:
        entry.state, entry.named = _State.ANSWERED, frozenset(finding.peers)
        entry.answer = self._withheld(entry.coordinator, RoundId(entry.open.round), finding)
        return [entry.answer]

    def _withheld(self, to: PeerId, round: RoundId, finding: Finding) -> Send:
        log.info("round %s withheld: %s", round.hex()[:8], finding.reason)
        return self.local.send(to, Withheld(round=round, reason=finding.reason, message=finding.message, peers=finding.peers))

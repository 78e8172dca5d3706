"""Checks a placement afterwards: that its leaf is in the log, that its round was what the leaf says, and who lied, if anybody.

Pure: evidence in, a report out. It trusts the chain as this node reads it, this node's own evaluator and nothing else: a
transcript is what somebody kept, so each part of it counts for what its signatures say. A lie is only found by what its author
signed (or, for a leaf, put on the chain); where a signature does not hold, the liar is who gave it away as sound.

``lie`` means that two things contradict each other which cannot both be honest; ``missing`` that something needed is not at
hand; ``skipped`` that this node is not one that can check it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from veil.errors import CiphertextInvalid, DecryptionDisputed, FheUnavailable, PartialInvalid, SignatureInvalid, WireInvalid
from veil.fhe.ports import Opened
from veil.placement.append import proves
from veil.placement.checks import read_commits, read_round
from veil.placement.eligibility import anchored, anchored_demand
from veil.placement.exclusions import read_exclusions
from veil.placement.local import Local
from veil.placement.offering import shown_max
from veil.placement.outcome import candidates_in_order
from veil.placement.ranking import shard_of
from veil.store.rows import LogRow
from veil.types import Digest, ObjectId, PeerId, Shard, Term
from veil.wire.codec import sha256
from veil.wire.merkle import leaf_hash, root_of
from veil.wire.rounds import Bound, Inputs, Leaf, LeafBatch, Open, Partial, Transcript, transcript_root
from veil.wire.signed import Signed, open_signed


class State(StrEnum):
    """Of one check, in the order in which they count."""

    LIE = "lie"
    MISSING = "missing"
    OK = "ok"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """One check. ``liars`` are named where what they signed shows it; a lie without any is one whose author cannot be told."""

    check: str
    state: State
    message: str
    liars: tuple[PeerId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was found of one placement, and at whom."""

    row: LogRow
    index: int
    """The leaf's place in the append."""
    batch: LeafBatch | None = None
    bound: Bound | None = None
    bound_from: PeerId | None = None
    coordinator: Transcript | None = None
    coordinator_from: PeerId | None = None
    member: Transcript | None = None
    """This node's own, as a member of the committee."""
    in_committee: bool = False
    evaluation: Digest | None = None
    """Of this node's evaluator, now, on ``member``'s telemetry."""
    verified: bool | None = None
    """Whether the contract itself verifies the leaf's Merkle proof; None when it was not asked."""
    gaps: Mapping[str, str] = field(default_factory=dict)
    """Why something is not there, by the name of its field."""


@dataclass(frozen=True, slots=True)
class Report:
    """``agreed`` when nothing is a lie and nothing needed is missing."""

    results: tuple[Result, ...]

    @property
    def state(self) -> State:
        states = {result.state for result in self.results}
        return next((state for state in (State.LIE, State.MISSING) if state in states), State.OK)

    @property
    def liars(self) -> tuple[PeerId, ...]:
        return tuple(dict.fromkeys(peer for result in self.results for peer in result.liars))


@dataclass(slots=True)
class _Case:
    """What the checks have read so far; a later check that needs what is not there says nothing."""

    local: Local
    evidence: Evidence
    leaf: Leaf | None = None
    """Shown to be the one on chain: whatever else was given as the leaf is not used."""
    opened: Open | None = None
    inputs: Inputs | None = None
    commits: dict[PeerId, Digest] | None = None
    coordinator: PeerId | None = None
    partials: dict[int, Partial] = field(default_factory=dict)
    telemetry_sound: bool = False
    """Only then does evaluating again say anything about others."""

    @property
    def transcript(self) -> Transcript | None:
        return self.evidence.coordinator or self.evidence.member

    @property
    def appended_by(self) -> tuple[PeerId, ...]:
        """Who put the leaf on the chain: the round's coordinator if its operator sent it, else all nodes of the sender."""
        row = self.evidence.row
        operated = tuple(node.peer for node in self.local.view.nodes() if node.operator == row.sender)
        return (self.coordinator,) if self.coordinator is not None and self.coordinator in operated else operated

    @property
    def kept_by(self) -> tuple[PeerId, ...]:
        """Who gave the transcript away as sound."""
        giver = self.evidence.coordinator_from if self.evidence.coordinator else self.local.peer
        return (giver,) if giver else ()


_Check = Callable[[_Case], Result | None]


def audit(local: Local, evidence: Evidence) -> Report:
    """All checks in order. Raises nothing for evidence of whatever kind."""
    case = _Case(local, evidence)
    return Report(tuple(result for check in _CHECKS if (result := check(case)) is not None))


# the leaf and the log


def _log(case: _Case) -> Result:
    row = case.evidence.row
    if case.local.ranking.counts(row):
        return Result("log", State.OK, f"append {row.sequence} of shard {row.shard} is on chain, by a coordinator of its term")
    message = f"{row.sender}, who appended it, is not among the first ranks of the shard then"
    return Result("log", State.LIE, message, case.appended_by)


def _batch(case: _Case) -> Result | None:
    row, batch = case.evidence.row, case.evidence.batch
    if batch is None:
        return _missing(case, "leaves", "batch", "nobody reachable has the leaves of the append")
    sound = (batch.shard, batch.sequence, len(batch.leaves)) == (row.shard, row.sequence, row.count)
    if sound and root_of([Digest(leaf) for leaf in batch.leaves]) == row.root and case.evidence.index < len(batch.leaves):
        return Result("leaves", State.OK, "the leaves have the digest and the root that the chain has")
    message = "what the chain names as the append's leaves does not have the append's root"
    return Result("leaves", State.LIE, message, case.appended_by)


def _contract(case: _Case) -> Result | None:
    """What this node has read of the log is compared with what the contract says now."""
    if case.evidence.verified is None:
        return _missing(case, "contract", "verified", "the contract was not asked") if "verified" in case.evidence.gaps else None
    if case.evidence.verified:
        return Result("contract", State.OK, "the contract verifies the leaf's Merkle proof")
    return Result("contract", State.LIE, "the contract does not verify the leaf's proof: an RPC endpoint lies")


def _leaf(case: _Case) -> Result | None:
    row, batch, bound = case.evidence.row, case.evidence.batch, case.evidence.bound
    if batch is None or case.evidence.index >= len(batch.leaves):
        return None
    if bound is None:
        return _missing(case, "leaf", "bound", "nobody reachable knows what the leaf stands for")
    place = (bound.shard, bound.sequence, bound.root) == (row.shard, row.sequence, row.root)
    if place and leaf_hash(bound.leaf) == batch.leaves[case.evidence.index] and proves(bound):
        case.leaf = bound.leaf
        return Result("leaf", State.OK, "its Merkle proof leads to the root on chain")
    giver = (case.evidence.bound_from,) if case.evidence.bound_from else ()
    return Result(
        "leaf", State.LIE, "what was given as the leaf is not the one on chain, or its proof does not lead there", giver
    )


# the round


def _opening(case: _Case) -> Result | None:
    transcript, local = case.transcript, case.local
    if case.leaf is None:
        return None
    if transcript is None:
        return _missing(case, "transcript", "coordinator", "nobody reachable has kept the round's transcript")
    try:
        opened, inputs = read_round(local, transcript.open, transcript.inputs)
    except (SignatureInvalid, WireInvalid) as error:
        return Result("opening", State.LIE, f"opening or inputs are forged: {error.message}", case.kept_by)
    if case.evidence.coordinator is not None and case.evidence.coordinator_from != transcript.open.signer:
        return Result("opening", State.MISSING, "the transcript was given by another node than the round's coordinator")
    coordinator, shard, term = PeerId(transcript.open.signer), Shard(opened.shard), Term(opened.term)
    known = local.view.term_members(term)
    ranked = coordinator in local.ranking.coordinators(shard, term) if known else _is_proven(local, coordinator)
    if shard != shard_of(ObjectId(opened.object_id)) or shard != case.evidence.row.shard or not ranked:
        return Result("opening", State.LIE, "who opened the round is not among the first ranks of its shard", (coordinator,))
    case.opened, case.inputs, case.coordinator = opened, inputs, coordinator
    return Result("opening", State.OK, "opening and inputs are signed by a coordinator of the shard")


def _is_proven(local: Local, peer: PeerId) -> bool:
    """A term that has no members of its own yet is coordinated by any registered peer."""
    return any(node.peer == peer and node.proven for node in local.view.nodes())


def _inputs(case: _Case) -> Result | None:
    if case.opened is None or case.inputs is None or case.coordinator is None:
        return None
    try:
        case.commits = read_commits(case.local, case.opened, case.inputs)
    except (SignatureInvalid, WireInvalid) as error:
        return Result("inputs", State.LIE, f"the inputs hold a commitment that is none: {error.message}", (case.coordinator,))
    digests = list(case.commits.values())
    copied = tuple(peer for index, (peer, digest) in enumerate(case.commits.items()) if digest in digests[:index])
    if copied:
        return Result("inputs", State.LIE, "a candidate committed to the ciphertext of another one", copied)
    return Result("inputs", State.OK, f"{len(digests)} candidates signed the commitments")


def _left_out(case: _Case) -> Result | None:
    """Whom the coordinator left out, and why, by what it signed for the members."""
    opened, transcript, coordinator = case.opened, case.transcript, case.coordinator
    if opened is None or transcript is None or coordinator is None:
        return None
    try:
        exclusions = read_exclusions(case.local, opened, transcript.exclusions, coordinator)
    except (SignatureInvalid, WireInvalid) as error:
        return Result("left out", State.LIE, f"who was left out, and why, is forged: {error.message}", case.kept_by)
    named = ", ".join(f"{exclusion.peer.hex()[:16]} ({exclusion.reason})" for exclusion in exclusions)
    return Result("left out", State.OK, f"left out, as members were told: {named}" if named else "nobody was left out")


def _one_story(case: _Case) -> Result | None:
    """What the coordinator sent this member is what it kept itself."""
    kept, own = case.evidence.coordinator, case.evidence.member
    if kept is None or own is None or case.coordinator is None:
        return None
    if (kept.open, kept.inputs, kept.exclusions) == (own.open, own.inputs, own.exclusions):
        return Result("one story", State.OK, "this member was sent the same opening, inputs and reasons")
    try:
        opened, _ = read_round(case.local, own.open, own.inputs)
        read_exclusions(case.local, opened, own.exclusions, PeerId(own.open.signer))
    except (SignatureInvalid, WireInvalid) as error:
        return Result("one story", State.MISSING, f"this node's own transcript does not hold together: {error.message}")
    message = "the coordinator signed another opening, other inputs or reasons for this member than it shows now"
    return Result("one story", State.LIE, message, (PeerId(own.open.signer),))


def _named(case: _Case) -> Result | None:
    """The leaf is of this round, this workload, this decision."""
    opened, transcript, leaf = case.opened, case.transcript, case.leaf
    if opened is None or transcript is None or leaf is None or case.coordinator is None:
        return None
    same = (leaf.round, leaf.object_id, leaf.generation, leaf.epoch) == (
        opened.round,
        opened.object_id,
        opened.generation,
        opened.epoch,
    )
    if not same or leaf.replica not in opened.replicas or leaf.peer not in opened.candidates:
        return Result("named", State.LIE, "the leaf is of another round, workload or candidate", case.appended_by)
    if transcript_root(transcript.open, transcript.inputs, Digest(transcript.evaluation)) != leaf.transcript:
        message = "the leaf names another opening, other inputs or another evaluation than the transcript"
        sure = case.evidence.coordinator is not None or transcript.evaluation == case.evidence.evaluation
        both = case.coordinator in case.appended_by
        return Result("named", State.LIE, message, (case.coordinator,) if sure and both else ())
    return Result("named", State.OK, "the leaf names exactly this opening, these inputs and this evaluation")


def _demand(case: _Case) -> Result | None:
    """The opening's demand is the workload's, as far as the chain still has it."""
    opened = case.opened
    if opened is None or case.coordinator is None:
        return None
    object_id = ObjectId(opened.object_id)
    found, demand = anchored(case.local.view, object_id), anchored_demand(case.local.view, object_id, opened.epoch)
    if found is None or demand is None or found.generation != opened.generation:
        return Result("demand", State.SKIPPED, "the chain has that generation, or its demand, no more")
    if demand.resources != found.envelope.resources:
        return Result("demand", State.SKIPPED, "the workload's demand is being replaced")
    if demand.demand != opened.demand:
        return Result("demand", State.LIE, "the round decided about another demand than the workload's", (case.coordinator,))
    return Result("demand", State.OK, "the round decided about the demand that the chain has of the workload")


# the decision


def _partials(case: _Case) -> Result | None:
    transcript, opened, parts = case.evidence.coordinator, case.opened, case.local.epoch
    if opened is None or case.coordinator is None:
        return None
    if transcript is None:
        return _missing(case, "partials", "coordinator", "the coordinator's transcript, which has all partials, is not at hand")
    if parts is None or parts.key_epoch.epoch != opened.epoch:
        return Result("partials", State.MISSING, f"the keys of epoch {opened.epoch} are not those that this node works with")
    committee = [PeerId(peer) for peer in parts.key_epoch.committee]
    root = transcript_root(transcript.open, transcript.inputs, Digest(transcript.evaluation))
    quorums: set[tuple[int, ...]] = set()
    for signed in transcript.partials:
        partial = _signed_partial(case, signed, committee)
        if partial is None:
            return Result("partials", State.LIE, "a partial is not signed by the member that it names", (case.coordinator,))
        if (partial.round, partial.transcript, partial.evaluation) != (opened.round, root, transcript.evaluation):
            return Result("partials", State.LIE, "a partial is of another round or decision", (case.coordinator,))
        case.partials[partial.member] = partial
        quorums.add(partial.members)
    quorum = next(iter(quorums))
    if len(quorums) > 1 or not set(case.partials) <= set(quorum) or len(case.partials) < parts.key_epoch.threshold:
        case.partials.clear()
        return Result("partials", State.LIE, "they are not those of enough members of one quorum", (case.coordinator,))
    silent = sorted(set(quorum) - set(case.partials))
    note = f"; member {', '.join(map(str, silent))} of the quorum is not among them" if silent else ""
    return Result("partials", State.OK, f"{len(case.partials)} members of the committee signed theirs{note}")


def _signed_partial(case: _Case, signed: Signed, committee: Sequence[PeerId]) -> Partial | None:
    try:
        partial = open_signed(signed, case.local.cluster, Partial)
    except (SignatureInvalid, WireInvalid):
        return None
    known = partial.member <= len(committee) and committee[partial.member - 1] == signed.signer
    return partial if known else None


def _decision(case: _Case) -> Result | None:
    transcript, opened, parts, leaf = case.evidence.coordinator, case.opened, case.local.epoch, case.leaf
    if not case.partials or transcript is None or opened is None or parts is None or leaf is None or case.coordinator is None:
        return None
    if sha256(transcript.result) != transcript.evaluation:
        return Result("decision", State.LIE, "the result is not the one that the members signed", (case.coordinator,))
    found = _opened(case, transcript.result)
    if isinstance(found, Result):
        return found
    order = candidates_in_order(parts.key_epoch, opened, found.bits)[: shown_max(len(opened.replicas))]
    if leaf.peer not in order:
        message = "the decision does not name the winner at a place that is offered"
        return Result("decision", State.LIE, message, case.appended_by)
    if leaf.checked and not found.checked:
        return Result("decision", State.LIE, "the leaf says that it was checked, and it was not", case.appended_by)
    if found.liars:
        liars = tuple(PeerId(parts.key_epoch.committee[member - 1]) for member in found.liars)
        return Result("decision", State.LIE, "it names the winner in spite of a wrong partial", liars)
    note = "" if found.checked else "; no member more than needed took part, so a wrong partial would not show"
    return Result("decision", State.OK, f"the partials open to a decision that names the winner{note}")


def _opened(case: _Case, result: bytes) -> Opened | Result:
    parts = case.local.epoch
    assert parts is not None
    committee = [PeerId(peer) for peer in parts.key_epoch.committee]
    quorum = next(iter(case.partials.values())).members
    try:
        return parts.combiner.open(result, quorum, {member: one.partial for member, one in case.partials.items()})
    except PartialInvalid as error:
        return Result("decision", State.LIE, f"a partial is malformed: {error.message}", (committee[error.member - 1],))
    except DecryptionDisputed:
        return Result("decision", State.LIE, "the partials contradict each other; who gave a wrong one cannot be told from them")
    except CiphertextInvalid as error:
        signers = tuple(committee[member - 1] for member in case.partials)
        return Result("decision", State.LIE, f"what the members signed as the result is none: {error.message}", signers)
    except FheUnavailable as error:
        return Result("decision", State.MISSING, error.message)


# what only a committee member can check


def _telemetry(case: _Case) -> Result | None:
    own = case.evidence.member
    if not case.evidence.in_committee:
        return Result("telemetry", State.SKIPPED, "only members of the committee hold it")
    if own is None:
        return _missing(case, "telemetry", "member", "this member did not evaluate that round, or keeps its telemetry no more")
    try:
        commits = read_commits(case.local, *read_round(case.local, own.open, own.inputs))
    except (SignatureInvalid, WireInvalid) as error:
        return Result("telemetry", State.MISSING, f"this node's own transcript does not hold together: {error.message}")
    if len(own.telemetry) != len(commits):
        return Result("telemetry", State.MISSING, "this member's own transcript does not have one vector for each commitment")
    wrong = tuple(peer for (peer, digest), vector in zip(commits.items(), own.telemetry, strict=True) if sha256(vector) != digest)
    if wrong:
        return Result("telemetry", State.LIE, "what a candidate sent is not what it committed to", wrong)
    case.telemetry_sound = True
    return Result("telemetry", State.OK, "each candidate sent what it had committed to")


def _evaluation(case: _Case) -> Result | None:
    transcript, own, fresh = case.transcript, case.evidence.member, case.evidence.evaluation
    if not case.evidence.in_committee:
        return Result("evaluation", State.SKIPPED, "only members of the committee can evaluate again")
    if own is None or case.coordinator is None or transcript is None or not case.telemetry_sound:
        return None
    if fresh is None:
        return _missing(case, "evaluation", "evaluation", "this member's evaluator is not at hand")
    parts = case.local.epoch
    signed_by = {PeerId(signed.signer): _evaluation_in(case, own, signed) for signed in (*transcript.partials, *own.partials)}
    said = {peer: evaluation for peer, evaluation in signed_by.items() if evaluation is not None}
    liars = tuple(peer for peer, evaluation in said.items() if evaluation != fresh)
    if liars:
        message = "evaluated again here, the inputs give another result than these members signed"
        own_too = " (this one among them: its evaluator gives other bits than it did then)" if case.local.peer in liars else ""
        return Result("evaluation", State.LIE, message + own_too, liars)
    same = (transcript.open, transcript.inputs) == (own.open, own.inputs)
    if same and transcript.evaluation != fresh:
        message = "evaluated again here, the inputs give another result than the coordinator's transcript names"
        return Result("evaluation", State.LIE, message, (case.coordinator,))
    agreeing = len(said) if parts is None else f"{len(said)} of {len(parts.key_epoch.committee)}"
    return Result("evaluation", State.OK, f"evaluated again here, bit for bit what {agreeing} members signed")


def _evaluation_in(case: _Case, own: Transcript, signed: Signed) -> Digest | None:
    """What a member signed as the result of exactly the inputs that are evaluated here; None for anything else."""
    try:
        partial = open_signed(signed, case.local.cluster, Partial)
    except (SignatureInvalid, WireInvalid):
        return None
    evaluation = Digest(partial.evaluation)
    return evaluation if partial.transcript == transcript_root(own.open, own.inputs, evaluation) else None


def _missing(case: _Case, check: str, gap: str, message: str) -> Result:
    why = case.evidence.gaps.get(gap, "")
    return Result(check, State.MISSING, f"{message}: {why}" if why else message)


_CHECKS: Sequence[_Check] = (
    _log,
    _batch,
    _contract,
    _leaf,
    _opening,
    _inputs,
    _left_out,
    _one_story,
    _named,
    _demand,
    _partials,
    _decision,
    _telemetry,
    _evaluation,
)

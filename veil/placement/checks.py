"""What a committee member checks before it releases its part (DESIGN section 4.3): one small function for each demand.

There is no decryption oracle: a result is decrypted because of what these found, never because somebody asked. A finding
with ``wait`` may be this member's own view lagging behind, or a message under way; the member looks again until its patience
ends. Everything is checked against this node's own view of the chain, nothing against what the coordinator says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from veil.errors import SignatureInvalid, WireInvalid
from veil.placement import reasons
from veil.placement.eligibility import anchored, anchored_demand, candidates_of, choose_circuit, circuit_of, eligible
from veil.placement.exclusions import Known, is_founded
from veil.placement.local import Local
from veil.placement.ports import EpochParts
from veil.placement.ranking import shard_of
from veil.types import Digest, ObjectId, PeerId, RoundId, Shard, Term
from veil.wire.rounds import Commit, Exclusion, Inputs, Open, ReleaseRequest
from veil.wire.signed import Signed, open_signed


@dataclass(frozen=True, slots=True)
class Finding:
    """Why nothing is released."""

    reason: str
    message: str = ""
    wait: bool = False
    peers: tuple[PeerId, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """A coordinator has this member look for commitments that it did not get, at ``begun_s``; who answered, and when."""

    coordinator: PeerId
    begun_s: float
    peers: frozenset[PeerId]
    found_s: dict[PeerId, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request as it is checked: the messages, and what this member holds itself."""

    local: Local
    parts: EpochParts
    request: ReleaseRequest
    open: Open
    inputs: Inputs
    coordinator: PeerId
    commits: Mapping[PeerId, Digest]
    """By candidate, as signed."""
    held: Mapping[PeerId, Digest]
    """Digests of the telemetry that this member holds for the round, by its signed sender."""
    used: Mapping[Digest, tuple[PeerId, RoundId]]
    """Of the telemetry committed to, who first sent it for which round, as far as this member has seen."""
    exclusions: Sequence[Exclusion] = ()
    """Whom the coordinator leaves out, and why."""
    earlier: Mapping[RoundId, Known] = field(default_factory=dict)
    """What this member knows of the rounds that the exclusions name."""
    search: Search | None = None
    """For commitments of this round."""


Check = Callable[[Case], Finding | None]


def read_commits(local: Local, opened: Open, inputs: Inputs) -> dict[PeerId, Digest]:
    """The commits by candidate. Raises SignatureInvalid or WireInvalid for a forged one, a stranger's, or a wrong order."""
    position = {PeerId(peer): index for index, peer in enumerate(opened.candidates)}
    commits: dict[PeerId, Digest] = {}
    last = -1
    for signed in inputs.commits:
        signer = PeerId(signed.signer)
        commit = open_signed(signed, local.cluster, Commit)
        if commit.round != opened.round or position.get(signer, -1) <= last:
            raise WireInvalid("a commit of another round, by a stranger, repeated or out of order")
        last = position[signer]
        commits[signer] = Digest(commit.telemetry)
    return commits


def read_round(local: Local, signed_open: Signed, signed_inputs: Signed) -> tuple[Open, Inputs]:
    """Opening and inputs, both signed by one peer for one round. Raises SignatureInvalid or WireInvalid."""
    opened = open_signed(signed_open, local.cluster, Open)
    inputs = open_signed(signed_inputs, local.cluster, Inputs)
    if signed_open.signer != signed_inputs.signer or opened.round != inputs.round:
        raise SignatureInvalid("an opening and inputs of different rounds or coordinators")
    return opened, inputs


def epoch_is_ours(case: Case) -> Finding | None:
    if case.open.epoch != case.parts.key_epoch.epoch:
        return Finding(reasons.EPOCH_DIFFERS, "the round is of another key epoch")
    return None


def circuit_is_registered(case: Case) -> Finding | None:
    """By name, in the epoch, large enough, of the cluster's profile, and no more telling than the round needs."""
    epoch, opened = case.parts.key_epoch, case.open
    found, profile = circuit_of(epoch, opened.circuit), case.local.view.profile()
    if found is None or found.candidates < len(opened.candidates):
        return Finding(reasons.CIRCUIT_UNKNOWN, "the epoch registers no such circuit for so many candidates")
    if profile is None:
        return Finding(reasons.POLICY_UNREADABLE, "this node cannot read the cluster's policy", wait=True)
    fitting = choose_circuit(epoch, profile, candidates=len(opened.candidates), replicas=len(opened.replicas))
    if fitting is None or (found.profile, found.shape) != (fitting.profile, fitting.shape):
        return Finding(reasons.CIRCUIT_UNKNOWN, "a circuit of another profile or shape than the round needs", wait=True)
    return None


def coordinator_is_ranked(case: Case) -> Finding | None:
    shard, term = Shard(case.open.shard), Term(case.open.term)
    if shard != shard_of(ObjectId(case.open.object_id)):
        return Finding(reasons.NOT_COORDINATOR, "the object belongs to another shard")
    if not case.local.ranking.may_coordinate(case.coordinator, shard, term):
        behind = term > case.local.ranking.term()
        return Finding(reasons.NOT_COORDINATOR, "not among the first ranks of the shard in this term", wait=behind)
    return None


def round_is_open(case: Case) -> Finding | None:
    if case.local.wall_s() > case.open.expires_s:
        return Finding(reasons.ROUND_EXPIRED, "the round is over")
    return None


def members_are_a_quorum(case: Case) -> Finding | None:
    """The threshold or up to two more, sorted, of this epoch's committee, this member among them."""
    decryptor, epoch, members = case.parts.decryptor, case.parts.key_epoch, case.request.members
    if decryptor is None:
        return Finding(reasons.NO_SHARE, "this node holds no share of the epoch's key")
    sizes = range(epoch.threshold, epoch.threshold + 3)
    sound = list(members) == sorted(set(members)) and len(members) in sizes and members[-1] <= len(epoch.committee)
    if not sound or decryptor.member not in members:
        return Finding(reasons.MEMBERS_WRONG, "not a sorted quorum that includes this member")
    return None


def generation_is_anchored(case: Case) -> Finding | None:
    """The template's generation is the chain's, and the replicas are wanted: scaling up may not be in this member's view yet."""
    found = anchored(case.local.view, ObjectId(case.open.object_id))
    if found is None or found.generation < case.open.generation:
        return Finding(reasons.NOT_ANCHORED, "the chain has no such generation", wait=True)
    if found.generation > case.open.generation:
        return Finding(reasons.NOT_ANCHORED, "the chain has a newer generation")
    if list(case.open.replicas) != sorted(set(case.open.replicas)):
        return Finding(reasons.NOT_ANCHORED, "the replicas are not ascending")
    if case.open.replicas[-1] >= found.envelope.replicas:
        return Finding(reasons.NOT_ANCHORED, "the chain has fewer replicas", wait=True)
    return None


def demand_is_anchored(case: Case) -> Finding | None:
    """The demand is the chain's for this workload and epoch, and was made from the resources that the envelope names."""
    found = anchored(case.local.view, ObjectId(case.open.object_id))
    demand = anchored_demand(case.local.view, ObjectId(case.open.object_id), case.open.epoch)
    if found is None or demand is None or demand.demand != case.open.demand:
        return Finding(reasons.DEMAND_NOT_ANCHORED, "the chain has no such demand in this epoch", wait=True)
    if demand.resources != found.envelope.resources:
        return Finding(reasons.DEMAND_NOT_ANCHORED, "the demand is that of other resources", wait=True)
    return None


def candidates_are_complete(case: Case) -> Finding | None:
    """Every eligible node but the excluded ones, in the order of the beacon; nobody else, nobody twice."""
    found = anchored(case.local.view, ObjectId(case.open.object_id))
    if found is None:
        return Finding(reasons.NOT_ANCHORED, "the chain has no such workload", wait=True)
    listed = tuple(PeerId(peer) for peer in case.open.candidates)
    able = eligible(case.local.view, found.envelope) - {PeerId(peer) for peer in case.open.excluded}
    profile, replicas = case.local.view.profile(), len(case.open.replicas)
    circuit = choose_circuit(case.parts.key_epoch, profile, candidates=len(able), replicas=replicas) if profile else None
    expected = candidates_of(found.seed, RoundId(case.open.round), able, circuit) if circuit else ()
    if listed == expected:
        return None
    if missing := tuple(peer for peer in expected if peer not in listed):
        return Finding(
            reasons.CANDIDATE_OMITTED, "an eligible node is neither a candidate nor excluded", wait=True, peers=missing
        )
    return Finding(reasons.CANDIDATES_WRONG, "a candidate is not eligible, or the order is not the beacon's", wait=True)


def exclusions_are_founded(case: Case) -> Finding | None:
    """Nobody is left out for a reason that this member knows to be wrong; of who is gone its view may be behind."""
    committee = tuple(case.parts.key_epoch.committee)
    wrong = [one for one in case.exclusions if not is_founded(one, case.open, case.earlier, case.local, committee)]
    if not wrong:
        return None
    return Finding(
        reasons.EXCLUSION_UNFOUNDED,
        f"a node is left out as {wrong[0].reason}, which this member cannot confirm",
        wait=all(one.reason == reasons.GONE for one in wrong),
        peers=tuple(PeerId(one.peer) for one in wrong),
    )


def silence_is_heard(case: Case) -> Finding | None:
    """A candidate without a commitment did not answer this member either.

    The coordinator waits twice as long as counts here, so that what this member passes on still reaches it.
    """
    absent = tuple(peer for peer in map(PeerId, case.open.candidates) if peer not in case.commits)
    if not absent:
        return None
    search, patience_s = case.search, case.local.settings.commit_s / 4
    if search is None or not search.peers.issuperset(absent):
        message = "a candidate that did not commit, and this member was not told to look for it"
        return Finding(reasons.CANDIDATE_OMITTED, message, wait=True, peers=absent)
    if found := tuple(peer for peer in absent if search.found_s.get(peer, float("inf")) <= search.begun_s + patience_s):
        return Finding(reasons.CANDIDATE_OMITTED, "a candidate that did commit, to this member", peers=found)
    if case.local.now() < search.begun_s + patience_s:
        return Finding(reasons.CANDIDATE_OMITTED, "a candidate that this member still looks for", wait=True, peers=absent)
    return None


def telemetry_is_fresh(case: Case) -> Finding | None:
    """No digest twice in the round, and none that another signer or round has used."""
    digests = list(case.commits.values())
    copied = [peer for peer, digest in case.commits.items() if digests.count(digest) > 1]
    round = RoundId(case.open.round)
    copied += [peer for peer, digest in case.commits.items() if case.used.get(digest, (peer, round)) != (peer, round)]
    if copied:
        return Finding(reasons.CIPHERTEXT_REUSED, "a commitment to telemetry that was used before", peers=tuple(copied))
    return None


def telemetry_is_here(case: Case) -> Finding | None:
    """All that was committed, from its signer, with the digest that was committed."""
    missing = tuple(peer for peer, digest in case.commits.items() if case.held.get(peer) != digest)
    if missing:
        return Finding(reasons.TELEMETRY_MISSING, "committed telemetry has not arrived", wait=True, peers=missing)
    return None


MEMBER_CHECKS: Sequence[Check] = (
    epoch_is_ours,
    circuit_is_registered,
    coordinator_is_ranked,
    round_is_open,
    members_are_a_quorum,
    generation_is_anchored,
    demand_is_anchored,
    candidates_are_complete,
    exclusions_are_founded,
    silence_is_heard,
    telemetry_is_fresh,
    telemetry_is_here,
)
"""In this order: what is wrong for good before what may still come."""


def first_finding(case: Case, checks: Sequence[Check] = MEMBER_CHECKS) -> Finding | None:
    """None when every check is content. What can be waited for comes after what cannot."""
    found = [finding for check in checks if (finding := check(case)) is not None]
    return min(found, key=lambda finding: finding.wait, default=None)

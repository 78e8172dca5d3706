"""The audit of a placement: an honest one agrees, each forged transcript has its liar, what is missing is named."""

import random
from dataclasses import replace

import msgspec
import pytest
from placement_doubles import CLUSTER, evaluate_now, key_epoch_of, parts_of
from placement_table import NODE, Asked, Table

from veil.errors import DecryptionDisputed, WireInvalid
from veil.fhe.fake import FakeDecryptor
from veil.placement.audit import Evidence, State, audit
from veil.placement.effects import Keep
from veil.placement.outcome import candidates_in_order
from veil.types import Digest
from veil.wire.codec import decode, encode, sha256
from veil.wire.merkle import leaf_hash, proof_of, root_of
from veil.wire.objects import Demand
from veil.wire.rounds import Bound, Commit, Inputs, Leaf, LeafBatch, Partial, Telemetry, Transcript, transcript_root
from veil.wire.signed import open_signed, sign


def changed(message, **changes):
    return msgspec.structs.replace(message, **changes)


class Keeping(Asked):
    """A member that is asked, and what it has kept."""

    kept = None

    def carry_out(self, effects):
        for effect in effects:
            if isinstance(effect, Keep):
                self.kept = effect.transcript
        return super().carry_out(effects)


class Scene:
    """One placement as it was: members 1 to ``quorum`` decrypted, the first of the decision's order won.

    ``lies``: the bit that a member flips; ``favourite``: the node that is chosen alone, else all tie.
    """

    def __init__(self, quorum=3, *, auditor=0, lies=None, checked=None, favourite=None, committee=3):
        self.table = table = Table()
        table.key_epoch = key_epoch_of(table.peers[:committee], 2)
        if favourite is not None:
            vector = parts_of(table.key_epoch, table.peers[favourite]).encryptor.telemetry(NODE, 0.0)
            table.telemetry[favourite] = Telemetry(round=table.round, epoch=1, vector=vector)
        self.auditor = auditor
        self.request = table.request(members=tuple(range(1, quorum + 1)))
        self.members = {}
        self.releases = {}
        for member in range(1, quorum + 1):
            asked = self.members[member] = Keeping(table, member - 1)
            if member in (lies or {}):
                threshold = table.key_epoch.threshold
                liar = FakeDecryptor(1, member, threshold=threshold, lie_at=lies[member])
                asked.local.epoch = replace(asked.local.epoch, decryptor=liar)
            asked.give_telemetry()
            self.releases[member] = asked.ask(self.request)
        self.result = self.releases[1].result
        self.kept = Transcript(
            open=self.request.open,
            inputs=self.request.inputs,
            exclusions=self.request.exclusions,
            evaluation=sha256(self.result),
            partials=tuple(release.partial for release in self.releases.values()),
            result=self.result,
        )
        self.own = self.members[auditor + 1].kept if auditor + 1 in self.members else None
        self.opened = table.opened()
        self.order = self.order_of(self.kept)
        self.checked = quorum > table.key_epoch.threshold if checked is None else checked
        self.place(self.order[0])

    def order_of(self, transcript):
        parts = self.table.local(0).epoch
        partials = {number: open_signed(one.partial, CLUSTER, Partial).partial for number, one in self.releases.items()}
        try:
            bits = parts.combiner.open(transcript.result, tuple(self.releases), partials).bits
        except DecryptionDisputed:
            return list(self.opened.candidates)
        return candidates_in_order(parts.key_epoch, self.opened, bits)

    def place(self, winner, **leaf):
        """Append a leaf that gives replica 0 to ``winner``."""
        values = {
            "salt": bytes(32),
            "object_id": self.table.workload.id,
            "generation": 1,
            "replica": 0,
            "round": self.table.round,
            "epoch": 1,
            "transcript": transcript_root(self.kept.open, self.kept.inputs, Digest(self.kept.evaluation)),
            "peer": winner,
            "checked": self.checked,
        }
        mine = Leaf(**(values | leaf))
        hashes = [Digest(b"o" * 32), leaf_hash(mine), Digest(b"p" * 32)]
        shard = self.table.shard
        self.batch = LeafBatch(shard=shard, sequence=1, leaves=tuple(hashes))
        root = root_of(hashes)
        sender = f"operator-{self.table.coordinator}"
        row = self.table.view.append(shard, 1, root, data=sha256(encode(self.batch)), sender=sender)
        self.row = replace(row, count=3)
        self.bound = Bound(leaf=mine, shard=shard, sequence=1, root=root, proof=proof_of(hashes, 1))

    def evaluate(self, transcript, **changes):
        """What the auditor's own evaluator makes of its telemetry."""
        evaluator = self.table.local(0).epoch.evaluator
        for name, value in changes.items():
            setattr(evaluator, name, value)
        inputs = open_signed(transcript.inputs, CLUSTER, Inputs)
        signers = [signed.signer for signed in inputs.commits]
        by_peer = dict(zip(signers, transcript.telemetry, strict=True))
        demand = decode(self.table.workload.blobs[self.table.workload.demand], Demand).vector
        vectors = [by_peer.get(peer) for peer in self.opened.candidates]
        return evaluate_now(evaluator, self.opened.circuit, demand, vectors).digest

    def evidence(self, **changes):
        values = {
            "row": self.row,
            "index": 1,
            "batch": self.batch,
            "bound": self.bound,
            "bound_from": self.peer(self.table.coordinator),
            "coordinator": self.kept,
            "coordinator_from": self.peer(self.table.coordinator),
            "member": self.own,
            "in_committee": self.own is not None,
            "evaluation": self.evaluate(self.own) if self.own else None,
        }
        return Evidence(**(values | changes))

    def audit(self, **changes):
        return audit(self.table.local(self.auditor), self.evidence(**changes))

    def peer(self, number):
        return self.table.peers[number]

    @property
    def coordinator(self):
        return self.peer(self.table.coordinator)

    def sign(self, number, message):
        return sign(self.table.identities[number], CLUSTER, message)

    def member_partial(self, member, **changes):
        partial = open_signed(self.releases[member].partial, CLUSTER, Partial)
        return self.sign(member - 1, changed(partial, **changes))


def states(report):
    return {result.check: result.state for result in report.results}


def lies(report):
    return {result.check: result.liars for result in report.results if result.state is State.LIE}


# honest


@pytest.mark.parametrize("quorum", [2, 3])
def test_an_honest_placement_agrees_in_every_check(quorum):
    report = Scene(quorum).audit()
    assert (report.state, report.liars) == (State.OK, ())
    assert set(states(report).values()) == {State.OK}
    assert len(report.results) == 13


def test_a_node_outside_the_committee_checks_all_but_the_evaluation():
    scene = Scene()
    report = scene.audit(member=None, in_committee=False, evaluation=None)
    assert report.state is State.OK
    skipped = [result.check for result in report.results if result.state is State.SKIPPED]
    assert skipped == ["telemetry", "evaluation"]


def test_a_decision_that_nobody_checked_is_said_and_no_lie():
    report = Scene(2).audit()
    (decision,) = [result for result in report.results if result.check == "decision"]
    assert "a wrong partial would not show" in decision.message


# the leaf and the log


def test_an_append_by_somebody_who_does_not_coordinate_is_a_lie_of_its_operator():
    scene = Scene()
    row = replace(scene.row, sender=f"operator-{scene.table.last_rank}")
    assert lies(scene.audit(row=row)) == {"log": (scene.peer(scene.table.last_rank),)}


def test_leaves_that_are_not_those_of_the_root_are_a_lie_of_the_appender():
    scene = Scene()
    batch = changed(scene.batch, leaves=(*scene.batch.leaves[:2], bytes(32)))
    assert lies(scene.audit(batch=batch))["leaves"] == (scene.coordinator,)


@pytest.mark.parametrize("forge", ["leaf", "proof", "root", "sequence"])
def test_a_leaf_that_is_not_the_one_on_chain_is_a_lie_of_who_gave_it(forge):
    scene = Scene()
    bound = {
        "leaf": changed(scene.bound, leaf=changed(scene.bound.leaf, replica=1)),
        "proof": changed(scene.bound, proof=(bytes(32),)),
        "root": changed(scene.bound, root=bytes(32)),
        "sequence": changed(scene.bound, sequence=2),
    }[forge]
    assert lies(scene.audit(bound=bound, bound_from=scene.peer(3))) == {"leaf": (scene.peer(3),)}, "and nobody else is blamed"


# the round


def test_a_forged_opening_is_a_lie_of_who_kept_it_and_never_of_who_is_named():
    scene = Scene()
    victim = next(number for number in range(4) if number != scene.table.coordinator)
    for forged in (
        changed(scene.kept.open, signer=scene.peer(victim)),
        changed(scene.kept.open, body=encode(changed(scene.opened, replicas=(0, 1)))),
    ):
        report = scene.audit(coordinator=changed(scene.kept, open=forged), member=None, in_committee=False, evaluation=None)
        assert lies(report) == {"opening": (scene.coordinator,)}


def test_a_transcript_of_somebody_elses_round_proves_nothing():
    scene = Scene()
    report = scene.audit(coordinator_from=scene.peer(scene.table.last_rank))
    assert states(report)["opening"] is State.MISSING
    assert report.liars == ()


def test_a_round_that_was_opened_without_the_right_to_is_a_lie_of_its_opener():
    scene = Scene()
    intruder = scene.table.last_rank
    request = scene.table.request(by=intruder)
    kept = changed(scene.kept, open=request.open, inputs=request.inputs)
    report = scene.audit(coordinator=kept, coordinator_from=scene.peer(intruder), member=None, in_committee=False)
    assert lies(report) == {"opening": (scene.peer(intruder),)}


def test_inputs_with_a_forged_commitment_are_a_lie_of_the_coordinator():
    scene = Scene()
    inputs = open_signed(scene.kept.inputs, CLUSTER, Inputs)
    commit = changed(inputs.commits[0], body=encode(Commit(round=scene.table.round, telemetry=bytes(32))))
    forged = scene.sign(scene.table.coordinator, changed(inputs, commits=(commit, *inputs.commits[1:])))
    report = scene.audit(coordinator=changed(scene.kept, inputs=forged), member=None, in_committee=False)
    assert lies(report)["inputs"] == (scene.coordinator,)


def test_a_commitment_to_anothers_ciphertext_is_a_lie_of_the_later_candidate():
    scene = Scene()
    inputs = open_signed(scene.kept.inputs, CLUSTER, Inputs)
    first, second, *rest = inputs.commits
    copier = scene.table.peers.index(second.signer)
    copied = open_signed(first, CLUSTER, Commit).telemetry
    copy = scene.sign(copier, Commit(round=scene.table.round, telemetry=copied))
    forged = scene.sign(scene.table.coordinator, changed(inputs, commits=(first, copy, *rest)))
    report = scene.audit(coordinator=changed(scene.kept, inputs=forged), member=None, in_committee=False)
    assert lies(report)["inputs"] == (second.signer,)


def test_a_coordinator_that_shows_other_inputs_than_it_sent_is_caught_by_its_own_signature():
    scene = Scene()
    inputs = open_signed(scene.kept.inputs, CLUSTER, Inputs)
    others = scene.sign(scene.table.coordinator, changed(inputs, commits=inputs.commits[1:]))
    report = scene.audit(coordinator=changed(scene.kept, inputs=others))
    assert lies(report)["one story"] == (scene.coordinator,)
    assert set(report.liars) == {scene.coordinator}, "no member is blamed for inputs that it never saw"


@pytest.mark.parametrize("change", [{"round": b"another round 00"}, {"replica": 2}, {"generation": 2}, {"peer": bytes(32)}])
def test_a_leaf_of_something_else_than_the_round_is_a_lie_of_the_coordinator(change):
    scene = Scene()
    scene.place(scene.order[0], **change)
    assert lies(scene.audit())["named"] == (scene.coordinator,)


def test_a_leaf_that_names_another_transcript_is_a_lie_of_the_coordinator():
    scene = Scene()
    scene.place(scene.order[0], transcript=bytes(32))
    assert lies(scene.audit()) == {"named": (scene.coordinator,)}
    own_only = scene.audit(coordinator=None, coordinator_from=None)
    assert lies(own_only) == {"named": (scene.coordinator,)}, "the member's own evaluation is enough to say so"


def test_a_round_about_another_demand_is_a_lie_of_the_coordinator():
    scene = Scene()
    forged = scene.sign(scene.table.coordinator, changed(scene.opened, demand=bytes(32)))
    report = scene.audit(coordinator=changed(scene.kept, open=forged), member=None, in_committee=False)
    assert lies(report)["demand"] == (scene.coordinator,)


def test_the_demand_of_a_workload_that_has_moved_on_is_not_judged():
    scene = Scene()
    scene.table.view.add(*scene.table.workload.rows(generation=2))
    assert states(scene.audit())["demand"] is State.SKIPPED
    scene.table.view.objects.clear()
    report = scene.audit()
    assert (states(report)["demand"], report.state) == (State.SKIPPED, State.OK)


@pytest.mark.parametrize("change", [{"replica": 2}, {"peer": bytes(32)}])
def test_a_leaf_that_another_coordinator_appended_for_a_round_is_that_ones_lie(change):
    scene = Scene()
    scene.place(scene.order[0], **change)
    stand_in = scene.table.ranks[1]
    report = scene.audit(row=replace(scene.row, sender=f"operator-{stand_in}"))
    assert set(lies(report)["named"]) == {scene.peer(stand_in)}
    assert scene.coordinator not in report.liars


# whatever is forged


@pytest.mark.parametrize("seed", range(150))
def test_a_forged_transcript_frames_nobody_but_who_gave_it(seed):
    """Random changes of what the coordinator kept, and of the leaf that another node gave: audits end, and blame no third."""
    dice, scene = random.Random(seed), SCENES.setdefault("forged", Scene())
    content = bytearray(encode(scene.kept if seed % 3 else scene.bound))
    for _ in range(dice.randint(1, 3)):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    try:
        forged = decode(bytes(content), Transcript if seed % 3 else Bound)
    except WireInvalid:
        return
    if seed % 3:
        report, giver = scene.audit(coordinator=forged), scene.coordinator
    else:
        report, giver = scene.audit(bound=forged, bound_from=scene.peer(3)), scene.peer(3)
    assert set(report.liars) <= {giver}, f"seed {seed}"
    assert report.state is not State.OK or forged in (scene.kept, scene.bound), f"seed {seed}"


SCENES = {}


# the decision


def test_a_partial_that_its_member_did_not_sign_is_a_lie_of_the_coordinator():
    scene = Scene()
    forged = scene.sign(scene.table.coordinator, open_signed(scene.kept.partials[1], CLUSTER, Partial))
    forged = changed(scene.kept.partials[1], signature=forged.signature)
    if forged == scene.kept.partials[1]:
        forged = changed(forged, signature=bytes(64))
    report = scene.audit(coordinator=changed(scene.kept, partials=(scene.kept.partials[0], forged)))
    assert lies(report) == {"partials": (scene.coordinator,)}


@pytest.mark.parametrize("change", [{"round": b"another round 00"}, {"transcript": bytes(32)}, {"evaluation": bytes(32)}])
def test_a_partial_of_another_decision_is_a_lie_of_the_coordinator_and_frames_no_member(change):
    scene = Scene()
    other = scene.member_partial(2, **change)
    report = scene.audit(coordinator=changed(scene.kept, partials=(scene.kept.partials[0], other, scene.kept.partials[2])))
    assert lies(report) == {"partials": (scene.coordinator,)}


def test_too_few_partials_are_a_lie_of_the_coordinator():
    scene = Scene()
    report = scene.audit(coordinator=changed(scene.kept, partials=scene.kept.partials[:1]))
    assert lies(report) == {"partials": (scene.coordinator,)}


def test_a_winner_that_the_decision_does_not_name_is_a_lie_of_the_coordinator():
    scene = Scene(favourite=3)
    assert scene.order == [scene.peer(3)]
    assert lies(scene.audit()) == {}
    scene.place(scene.peer(1))
    assert lies(scene.audit()) == {"decision": (scene.coordinator,)}


def test_another_result_than_the_members_signed_is_a_lie_of_the_coordinator():
    scene = Scene()
    report = scene.audit(coordinator=changed(scene.kept, result=scene.result[:-1] + b"\1"))
    assert lies(report) == {"decision": (scene.coordinator,)}


def test_partials_that_contradict_each_other_are_a_lie_without_a_name():
    scene = Scene(3, lies={2: 0})
    report = scene.audit()
    assert lies(report) == {"decision": ()}
    assert report.state is State.LIE


def test_a_wrong_partial_in_a_quorum_of_two_more_is_a_lie_of_its_member():
    scene = Scene(4, lies={3: 0}, committee=4)
    assert lies(scene.audit()) == {"decision": (scene.peer(2),)}
    assert lies(Scene(4, committee=4).audit()) == {}


def test_a_partial_that_its_member_signed_and_that_is_none_is_that_members_lie():
    scene = Scene()
    partials = (scene.kept.partials[0], scene.member_partial(2, partial=b"rubbish"), scene.kept.partials[2])
    assert lies(scene.audit(coordinator=changed(scene.kept, partials=partials))) == {"decision": (scene.peer(1),)}


def test_a_result_that_is_none_is_a_lie_of_the_members_that_signed_it():
    scene = Scene(2)
    rubbish = b"no result at all"
    root = transcript_root(scene.kept.open, scene.kept.inputs, sha256(rubbish))
    partials = tuple(scene.member_partial(member, evaluation=sha256(rubbish), transcript=root) for member in (1, 2))
    kept = changed(scene.kept, result=rubbish, evaluation=sha256(rubbish), partials=partials)
    scene.place(scene.order[0], transcript=root)
    report = scene.audit(coordinator=kept, member=None, in_committee=False)
    assert set(lies(report)["decision"]) == {scene.peer(0), scene.peer(1)}


def test_a_leaf_that_says_checked_when_nobody_checked_is_a_lie_of_the_coordinator():
    assert lies(Scene(2, checked=True).audit())["decision"]
    assert lies(Scene(2, checked=False).audit()) == {}


# what a committee member adds


def test_telemetry_that_is_not_what_was_committed_is_a_lie_of_the_candidate():
    scene = Scene()
    inputs = open_signed(scene.own.inputs, CLUSTER, Inputs)
    own = changed(scene.own, telemetry=(scene.own.telemetry[0], b"another", *scene.own.telemetry[2:]))
    report = scene.audit(member=own, evaluation=Digest(b"w" * 32))
    assert lies(report) == {"telemetry": (inputs.commits[1].signer,)}, "and no member is blamed for what was never committed"


def test_a_member_that_signed_another_evaluation_is_named():
    scene = Scene(2)
    fresh = scene.evaluate(scene.own)
    wrong = Digest(b"w" * 32)
    root = transcript_root(scene.kept.open, scene.kept.inputs, wrong)
    liars = [scene.member_partial(member, evaluation=wrong, transcript=root) for member in (1, 2)]
    kept = changed(scene.kept, evaluation=wrong, partials=tuple(liars))
    scene.place(scene.order[0], transcript=root)
    own = changed(scene.own, partials=(scene.own.partials[0],))
    report = scene.audit(coordinator=kept, member=changed(own, partials=(liars[1],)), evaluation=fresh)
    assert set(lies(report)["evaluation"]) == {scene.peer(0), scene.peer(1)}


def test_one_lying_member_among_honest_ones_is_named_alone():
    scene = Scene(3)
    wrong = Digest(b"w" * 32)
    root = transcript_root(scene.own.open, scene.own.inputs, wrong)
    kept = changed(scene.kept, partials=(*scene.kept.partials[:2], scene.member_partial(3, evaluation=wrong, transcript=root)))
    report = scene.audit(coordinator=kept)
    assert lies(report)["evaluation"] == (scene.peer(2),)


def test_an_evaluation_that_no_member_signed_is_a_lie_of_the_coordinator():
    scene = Scene()
    report = scene.audit(coordinator=changed(scene.kept, evaluation=bytes(32)))
    assert lies(report)["evaluation"] == (scene.coordinator,)
    assert set(report.liars) == {scene.coordinator}


def test_an_evaluator_of_another_class_is_said_to_be_this_nodes_own_matter():
    scene = Scene()
    report = scene.audit(evaluation=scene.evaluate(scene.own, other_class=True))
    (evaluation,) = [result for result in report.results if result.check == "evaluation"]
    assert scene.peer(0) in evaluation.liars
    assert "its evaluator gives other bits than it did then" in evaluation.message


# not enough


@pytest.mark.parametrize(
    ("gone", "check"),
    [
        ({"batch": None}, "leaves"),
        ({"bound": None}, "leaf"),
        ({"coordinator": None, "member": None}, "transcript"),
        ({"coordinator": None}, "partials"),
        ({"member": None}, "telemetry"),
        ({"evaluation": None}, "evaluation"),
    ],
)
def test_what_is_missing_is_named_with_its_reason_and_is_no_lie(gone, check):
    scene = Scene()
    gaps = dict.fromkeys(gone, "because of that")
    report = scene.audit(**gone, gaps=gaps | ({"coordinator": "because of that"} if "member" in gone else {}))
    assert (report.state, report.liars) == (State.MISSING, ())
    (missing,) = [result for result in report.results if result.check == check]
    assert (missing.state, "because of that" in missing.message) == (State.MISSING, True)


def test_keys_of_another_epoch_are_missing_and_no_lie():
    scene = Scene()
    local = scene.table.local(0)
    local.epoch = replace(local.epoch, key_epoch=changed(local.epoch.key_epoch, epoch=2))
    report = audit(local, scene.evidence())
    assert states(report)["partials"] is State.MISSING
    assert report.liars == ()

"""What a committee member releases, and everything that it does not."""

import hashlib
from dataclasses import replace

import msgspec
import pytest
from msgspec import structs
from placement_doubles import CLUSTER, FIRST_BLOCK, MemoryJournal, node_row
from placement_table import Asked, Table

from veil.errors import CiphertextInvalid
from veil.placement import checks, reasons
from veil.placement.eligibility import anchored, beacon_order
from veil.store.journal import Journal
from veil.types import Epoch, RoundId
from veil.wire.codec import sha256
from veil.wire.nodes import HOSTNAME_LABEL, NodeInfo, labels_digest
from veil.wire.rounds import Commit, Inputs, Open, Release, Telemetry, Withheld, transcript_root
from veil.wire.signed import open_signed


def answer(table, number=0, *, asked=None, silent=(), **request):
    """``silent`` did not commit, also not when it was looked for."""
    asked = asked or Asked(table, number)
    built = table.request(committed=tuple(other for other in range(4) if other not in silent), **request)
    if silent:
        asked.look_for(built, *silent)
    asked.give_telemetry()
    return asked.ask(built), asked


def refused(table, number=0, **request):
    """The reason, once the member's patience is over."""
    reply, asked = answer(table, number, **request)
    if reply is None:
        reply = asked.wait(10)
    assert isinstance(reply, Withheld), reply
    assert asked.journal.rounds.spent == {}
    return reply.reason


def test_it_releases_its_partial_of_its_own_evaluation(table):
    reply, asked = answer(table)
    assert isinstance(reply, Release)
    partial = asked.partial(reply)
    assert (partial.member, partial.members, partial.evaluation) == (1, (1, 2), sha256(reply.result))
    assert list(asked.journal.rounds.spent) == [table.round]


def test_the_partial_names_the_transcript_of_what_it_checked(table):
    request = table.request()
    asked = Asked(table)
    asked.give_telemetry()
    partial = asked.partial(asked.ask(request))
    assert partial.transcript == transcript_root(request.open, request.inputs, partial.evaluation)


def test_a_repeated_request_gets_the_same_answer_without_work(table):
    request = table.request()
    asked = Asked(table)
    asked.give_telemetry()
    assert asked.ask(request) == asked.ask(request)
    assert asked.evaluations == 1


def test_it_waits_for_telemetry_and_names_whose_is_missing(table):
    request = table.request()
    asked = Asked(table)
    asked.give_telemetry((0, 1, 2))
    assert asked.ask(request) is None
    reply = asked.wait(10)
    assert (reply.reason, reply.peers) == (reasons.TELEMETRY_MISSING, (table.peers[3],))


def test_telemetry_that_comes_late_is_still_used(table):
    request = table.request()
    asked = Asked(table)
    assert asked.ask(request) is None
    asked.give_telemetry((0, 1, 2))
    last = asked.give_telemetry((3,))
    assert isinstance(last, Release)


def test_it_waits_for_its_own_view_of_the_chain(table):
    rows = list(table.view.objects.values())
    request = table.request()
    table.view.objects.clear()
    asked = Asked(table)
    asked.give_telemetry()
    assert asked.ask(request) is None
    table.view.add(*rows)
    assert isinstance(asked.wait(0.1), Release)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"circuit": "reveal-everything"}, reasons.CIRCUIT_UNKNOWN),
        ({"epoch": 2}, reasons.EPOCH_DIFFERS),
        ({"shard": 15}, reasons.NOT_COORDINATOR),
        ({"term": 9}, reasons.NOT_COORDINATOR),
        ({"generation": 2}, reasons.NOT_ANCHORED),
        ({"generation": 0}, reasons.NOT_ANCHORED),
        ({"replicas": (3,)}, reasons.NOT_ANCHORED),
        ({"object_id": hashlib.sha256(b"another").digest()}, None),
        ({"demand": bytes(32)}, reasons.DEMAND_NOT_ANCHORED),
        ({"expires_s": 0}, reasons.ROUND_EXPIRED),
    ],
)
def test_what_the_opening_says_must_be_so(table, changes, reason):
    assert table.shard != 15
    found = refused(table, **changes)
    assert reason is None or found == reason


def test_only_the_first_ranks_may_ask(table):
    assert refused_by(table, table.last_rank) == reasons.NOT_COORDINATOR
    assert refused_by(table, table.ranks[2]) is None


def refused_by(table, number):
    asked = Asked(table)
    request = table.request(by=number)
    asked.give_telemetry()
    reply = asked.ask(request, sender=number)
    return reply.reason if isinstance(reply, Withheld) else None


def test_a_request_by_another_than_the_opening_s_author_is_dropped(table):
    asked = Asked(table)
    request = table.request()
    asked.give_telemetry()
    assert asked.ask(request, sender=table.ranks[1]) is None
    assert asked.member.look_again() == []


@pytest.mark.parametrize("members", [(1,), (2, 1), (1, 1), (2, 3), (1, 4), (1, 2, 3, 4)])
def test_the_set_asked_must_be_a_quorum_with_this_member(table, members):
    assert refused(table, members=members) == reasons.MEMBERS_WRONG


def test_an_eligible_node_may_not_be_left_out(table):
    short = table.opened().candidates[:-1]
    assert refused(table, candidates=short) == reasons.CANDIDATE_OMITTED


def test_the_order_is_the_beacon_s(table):
    assert refused(table, candidates=tuple(reversed(table.opened().candidates))) == reasons.CANDIDATES_WRONG


def test_a_cordoned_node_is_no_candidate(table):
    table.view.node_rows[3] = node_row(3, table.peers[3], status="Cordoned")
    assert refused(table) == reasons.CANDIDATES_WRONG


def test_labels_must_match(table):
    table.workload.selector = {"zone": "a"}
    table.view.add(*table.workload.rows())
    assert refused(table) == reasons.CANDIDATES_WRONG


def test_labels_must_be_vouched_for_where_that_is_asked(table):
    """By an administrator, and for exactly what the node says: an operator's own word does not do."""
    table.workload.vouched = True
    table.view.add(*table.workload.rows())
    labels = {"zone": "a", HOSTNAME_LABEL: "n"}
    said = NodeInfo(peer=table.peers[0], sequence=1, name="n", addresses=("/ip4/10.0.0.1/tcp/1",), labels=labels)
    plain = table.view.node_rows
    vouched = [replace(row, info=said, vouched=labels_digest(labels), vouched_by="0xadmin") for row in plain]
    assert refused(table) == reasons.CANDIDATES_WRONG
    table.view.node_rows = vouched
    reply, _ = answer(table)
    assert isinstance(reply, Release)
    for change in (
        {"vouched_by": vouched[3].operator},
        {"info": structs.replace(said, labels={"zone": "b"})},
        {"info": None},
        {"vouched": b""},
    ):
        table.view.node_rows = [*vouched[:3], replace(vouched[3], **change)]
        assert refused(table) == reasons.CANDIDATES_WRONG


def test_taints_must_be_tolerated(table):
    table.view.node_rows[3] = node_row(3, table.peers[3], taints={"dedicated": "db", "zone": "b"})
    assert refused(table) == reasons.CANDIDATES_WRONG
    table.workload.tolerations = {"dedicated": "db", "zone": "c"}
    table.view.add(*table.workload.rows())
    assert refused(table) == reasons.CANDIDATES_WRONG, "each of them, by its value"
    table.workload.tolerations = {"dedicated": "db", "zone": "b", "other": "x"}
    table.view.add(*table.workload.rows())
    reply, _ = answer(table)
    assert isinstance(reply, Release)


def test_a_scaled_workload_is_placed_by_its_template_s_generation_and_block(table):
    table.view.add(*table.workload.rows(generation=4, block=FIRST_BLOCK + 3, template=(1, FIRST_BLOCK)))
    request = table.request()
    seed = hashlib.sha256(b"block %d" % FIRST_BLOCK).digest()
    found = anchored(table.view, table.workload.id)
    assert (found.generation, found.block, found.seed) == (1, FIRST_BLOCK, seed)
    assert open_signed(request.open, CLUSTER, Open).candidates == beacon_order(seed, table.round, table.peers)
    asked = Asked(table)
    asked.give_telemetry()
    assert isinstance(asked.ask(request), Release)
    assert refused(table, generation=4) == reasons.NOT_ANCHORED


def test_scaling_up_may_not_have_been_seen_yet(table):
    request = table.request(replicas=(3,))
    asked = Asked(table)
    asked.give_telemetry()
    assert asked.ask(request) is None
    table.workload.replicas = 4
    table.view.add(*table.workload.rows(generation=2, block=FIRST_BLOCK + 1, template=(1, FIRST_BLOCK)))
    assert isinstance(asked.wait(0.1), Release)


def test_a_demand_of_other_resources_is_refused(table):
    other = replace(table.workload, name="other")
    table.workload.resources = other.resources
    rows = table.workload.rows()
    table.view.add(rows[0])
    assert refused(table) == reasons.DEMAND_NOT_ANCHORED


def test_a_deleted_workload_is_not_placed(table):
    request = table.request()
    row = table.view.objects[2, table.workload.id]
    table.view.add(replace(row, deleting=True))
    asked = Asked(table)
    asked.give_telemetry()
    assert asked.ask(request) is None
    assert asked.wait(10).reason == reasons.NOT_ANCHORED


def test_a_commit_that_its_candidate_did_not_sign_is_dropped(table):
    request = table.request()
    forged = table.signed(3, Commit(round=table.round, telemetry=bytes(32)))
    forged = msgspec.structs.replace(forged, signer=table.peers[0])
    signed = table.signed(table.coordinator, Inputs(round=table.round, commits=(forged,)))
    asked = Asked(table)
    asked.give_telemetry()
    assert asked.ask(msgspec.structs.replace(request, inputs=signed)) is None
    assert asked.evaluations == 0


def test_a_stranger_s_commit_is_dropped(table):
    table.view.node_rows[3] = node_row(3, table.peers[3], status="Cordoned")
    candidates = tuple(peer for peer in table.opened().candidates if peer != table.peers[3])
    request = table.request(candidates=candidates)
    stranger = table.signed(3, Commit(round=table.round, telemetry=bytes(32)))
    signed = table.signed(table.coordinator, Inputs(round=table.round, commits=(stranger,)))
    asked = Asked(table)
    assert asked.ask(msgspec.structs.replace(request, inputs=signed)) is None
    assert asked.wait(10) is None


def test_two_commits_to_one_ciphertext_are_refused(table):
    table.make_telemetry(0)
    table.telemetry[3] = table.telemetry[0]
    assert refused(table) == reasons.CIPHERTEXT_REUSED


def test_a_ciphertext_of_an_earlier_round_is_refused(table):
    asked = Asked(table)
    first, _ = answer(table, asked=asked)
    assert isinstance(first, Release)
    mine = table.telemetry[0].vector
    table.telemetry.clear()
    table.round = RoundId(b"round number two")
    table.telemetry[3] = Telemetry(round=table.round, epoch=1, vector=mine)
    second, _ = answer(table, asked=asked)
    assert (second.reason, second.peers) == (reasons.CIPHERTEXT_REUSED, (table.peers[3],))


def test_a_round_is_spent_once_even_over_a_restart(table, tmp_path):
    journal = Journal(tmp_path / "journal.db")
    first, _ = answer(table, asked=Asked(table, journal=journal))
    assert isinstance(first, Release)
    table.telemetry.clear()
    second, _ = answer(table, asked=Asked(table, journal=journal), replicas=(1,))
    assert second.reason == reasons.ROUND_SPENT
    journal.close()


def test_a_member_with_a_journal_that_forgets_releases_twice(table):
    """The broken twin of the test above."""
    first, _ = answer(table, asked=Asked(table, journal=MemoryJournal()))
    table.telemetry.clear()
    second, _ = answer(table, asked=Asked(table, journal=MemoryJournal()), replicas=(1,))
    assert isinstance(first, Release)
    assert isinstance(second, Release)


def test_the_same_round_opened_differently_is_spent(table):
    asked = Asked(table)
    answer(table, asked=asked)
    second, _ = answer(table, asked=asked, replicas=(1,))
    assert second.reason == reasons.ROUND_SPENT


def test_the_budget_ends():
    table = Table(max_decryptions=1)
    asked = Asked(table)
    first, _ = answer(table, asked=asked)
    table.telemetry.clear()
    table.round = RoundId(b"round number two")
    second, _ = answer(table, asked=asked)
    assert isinstance(first, Release)
    assert second.reason == reasons.BUDGET_EXHAUSTED


def after_two_rounds(table, asked):
    """Node 3 was in two rounds of which this member decrypted its part, the others in one."""
    answer(table, asked=asked)
    table.telemetry.clear()
    table.round = RoundId(b"round number two")
    answer(table, asked=asked, silent=(0, 1, 2))
    table.telemetry.clear()
    table.round = RoundId(b"round number 3..")


@pytest.mark.parametrize("journalled", [True, False])
def test_no_candidate_is_in_more_decisions_than_the_policy_allows(table, tmp_path, journalled):
    """Also over a restart; before it is evaluated, and by name. The broken twin's journal does not survive."""
    journal = Journal(tmp_path / "journal.db") if journalled else MemoryJournal()
    after_two_rounds(table, Asked(table, journal=journal))
    table.view.decisions_max = 2
    asked = Asked(table, journal=journal if journalled else MemoryJournal())
    reply, _ = answer(table, asked=asked)
    if journalled:
        assert (reply.reason, reply.peers, asked.evaluations) == (reasons.BUDGET_EXHAUSTED, (table.peers[3],), 0)
        table.telemetry.clear()
        table.round = RoundId(b"round number 4..")
        without, _ = answer(table, asked=asked, silent=(3,))
        assert isinstance(without, Release), "the others are asked on"
        journal.close()
    else:
        assert isinstance(reply, Release)


@pytest.mark.parametrize("journalled", [True, False])
def test_a_namespace_decides_no_more_often_than_the_registry_allows(table, tmp_path, journalled):
    """Over a restart, before it is evaluated. The broken twin's journal does not survive."""
    journal = Journal(tmp_path / "journal.db") if journalled else MemoryJournal()
    table.view.namespace_limit = 2
    after_two_rounds(table, Asked(table, journal=journal))
    asked = Asked(table, journal=journal if journalled else MemoryJournal())
    reply, _ = answer(table, asked=asked)
    if not journalled:
        assert isinstance(reply, Release)
        return
    assert (reply.reason, reply.peers, asked.evaluations) == (reasons.NAMESPACE_LIMIT, (), 0)
    assert journal.rounds.of_namespace(Epoch(1), table.workload.id[:16]) == 2
    assert journal.rounds.of_namespace(Epoch(2), table.workload.id[:16]) == 0
    assert journal.rounds.of_namespace(Epoch(1), bytes(16)) == 0, "others have limits of their own"
    table.view.namespace_limit = 3
    table.telemetry.clear()
    table.round = RoundId(b"round number 4..")
    more, _ = answer(table, asked=asked)
    assert isinstance(more, Release)
    journal.close()


def test_the_last_decision_of_a_budget_can_still_be_checked_by_one_member_more(table):
    table.view.decisions_max = 1
    asked = Asked(table)
    request = table.request()
    asked.give_telemetry()
    assert isinstance(asked.ask(request), Release)
    enlarged = msgspec.structs.replace(request, members=(1, 2, 3))
    assert asked.partial(asked.ask(enlarged)).members == (1, 2, 3)


def test_the_round_is_journalled_before_the_key_share_is_used(table):
    asked = Asked(table)
    decryptor = asked.local.epoch.decryptor
    partial = decryptor.partial
    order = []

    def watched(result, members):
        order.append(dict(asked.journal.rounds.spent))
        return partial(result, members)

    decryptor.partial = watched
    answer(table, asked=asked)
    assert [list(spent) for spent in order] == [[table.round]]


def test_another_evaluation_is_not_released(table):
    assert refused(table, evaluation=bytes(32)) == reasons.EVALUATION_DIFFERS


def test_a_failed_evaluator_says_so(table):
    asked = Asked(table)
    asked.local.epoch.evaluator.faults.append(CiphertextInvalid("broken"))
    request = table.request()
    asked.give_telemetry()
    with pytest.raises(CiphertextInvalid):
        asked.ask(request)
    reply = asked.carry_out(asked.member.on_evaluated(table.round, None))
    assert reply.reason == reasons.FHE_UNAVAILABLE


def test_a_node_without_a_share_releases_nothing(table):
    request = table.request(members=(1, 2))
    asked = Asked(table, 3)
    asked.give_telemetry()
    assert asked.ask(request).reason == reasons.NO_SHARE


def test_telemetry_of_the_wrong_form_or_epoch_is_not_kept(table):
    asked = Asked(table)
    good = table.make_telemetry(3)
    for bad in (msgspec.structs.replace(good, vector=b"short"), msgspec.structs.replace(good, epoch=2)):
        asked.member.on_telemetry(table.peers[3], bad, table.signed(3, bad))
    assert not asked.member._telemetry


def test_nobody_fills_a_member_s_memory(table):
    asked = Asked(table)
    for number in range(100):
        telemetry = table.make_telemetry(3, RoundId(number.to_bytes(16, "big")))
        asked.member.on_telemetry(table.peers[3], telemetry, table.signed(3, telemetry))
    assert len(asked.member._telemetry) == 16


@pytest.mark.parametrize("check", checks.MEMBER_CHECKS, ids=lambda check: check.__name__)
def test_every_check_passes_an_honest_round(table, check):
    asked = Asked(table, checks=[check])
    reply, _ = answer(table, asked=asked)
    assert isinstance(reply, Release)

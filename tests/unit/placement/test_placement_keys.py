"""Key holders: whom they hand a share of a sealed key to."""

import msgspec
from placement_table import Asked, Table, body_of

from veil.placement.append import make_bound
from veil.placement.coordinator import Proof, key_request
from veil.placement.keys import KeyKeeper
from veil.placement.outcome import candidates_in_order
from veil.types import RoundId
from veil.wire.merkle import leaf_hash, root_of
from veil.wire.rounds import (
    Leaf,
)


def decided(table, **request):
    """A whole round's decision: opening, inputs and the partials of members 1 and 2."""
    built = table.request(**request)
    partials, result = [], b""
    for number in (0, 1):
        asked = Asked(table, number)
        asked.give_telemetry()
        release = asked.ask(built)
        partials.append(release.partial)
        result = release.result
    opened = table.local(0).epoch.combiner.open(
        result, (1, 2), {m + 1: Asked(table, m).local.epoch.decryptor.partial(result, (1, 2)) for m in (0, 1)}
    )
    chosen = candidates_in_order(table.key_epoch, table.opened(**request), opened.bits)
    return Proof(built.open, built.inputs, (1, 2), tuple(partials), result, 0), chosen


def key_share(table, request, *, number=2, sender=None):
    """What key holder ``number`` answers, if anything."""
    keeper = KeyKeeper(table.local(number))
    found = []
    for effect in keeper.on_key_request(table.peers[table.coordinator] if sender is None else sender, request):
        found += keeper.on_content(effect.digest, table.workload.blobs[effect.digest])
    return [(effect.peer, body_of(effect)) for effect in found]


def test_a_key_share_goes_to_the_chosen_node_from_a_member_that_saw_nothing_else(table):
    proof, chosen = decided(table)
    ((peer, share),) = key_share(table, key_request(proof, chosen[0], "resources"))
    assert peer == chosen[0]
    assert (share.member, share.part) == (3, table.workload.resources)


def test_two_rounds_of_one_workload_that_choose_one_node_both_get_their_shares(table):
    keeper, proofs = KeyKeeper(table.local(2)), []
    for replica, name in enumerate((b"round number one", b"round number two")):
        table.round = RoundId(name)
        table.telemetry.clear()
        proofs.append(decided(table, replicas=(replica,)))
    winner = next(peer for peer in proofs[0][1][:3] if peer in proofs[1][1][:3])
    for proof, chosen in proofs:
        request = msgspec.structs.replace(key_request(proof, winner, "resources"), place=chosen.index(winner))
        (fetch,) = keeper.on_key_request(table.peers[table.coordinator], request)
    shares = keeper.on_content(fetch.digest, table.workload.blobs[fetch.digest])
    assert [body_of(effect).round for effect in shares] == [b"round number one", b"round number two"]


def test_no_key_share_for_anybody_else(table):
    proof, chosen = decided(table)
    assert key_share(table, key_request(proof, chosen[1], "resources")) == []
    assert key_share(table, msgspec.structs.replace(key_request(proof, chosen[0], "resources"), place=1)) == []


def test_at_most_three_nodes_are_offered_one_replica(table):
    proof, chosen = decided(table)
    assert len(chosen) == 4
    fourth = msgspec.structs.replace(key_request(proof, chosen[3], "resources"), place=3)
    assert key_share(table, fourth) == []


def test_no_key_share_for_one_who_is_not_the_round_s_coordinator(table):
    proof, chosen = decided(table)
    request = key_request(proof, chosen[0], "resources")
    assert key_share(table, request, sender=table.peers[table.ranks[1]]) == []


def test_another_opening_under_the_same_round_gets_nothing(table):
    """A coordinator shows the decision of one replica's round to get at another workload's resources."""
    proof, chosen = decided(table)
    other = table.signed(table.coordinator, table.opened(replicas=(1,)))
    swapped = msgspec.structs.replace(key_request(proof, chosen[0], "resources"), open=other)
    assert key_share(table, swapped) == []


def test_forged_or_too_few_partials_get_nothing(table):
    proof, chosen = decided(table)
    request = key_request(proof, chosen[0], "resources")
    one = msgspec.structs.replace(request, partials=request.partials[:1])
    twice = msgspec.structs.replace(request, partials=(request.partials[0], request.partials[0]))
    forged = msgspec.structs.replace(request.partials[1], signer=table.peers[3])
    stranger = msgspec.structs.replace(request, partials=(request.partials[0], forged))
    for bad in (one, twice, stranger):
        assert key_share(table, bad) == []


def test_a_changed_result_gets_nothing(table):
    proof, chosen = decided(table)
    request = key_request(proof, chosen[0], "resources")
    assert key_share(table, msgspec.structs.replace(request, result=request.result + b"x")) == []


def test_the_key_of_a_template_needs_the_appended_leaf():
    table = Table(confidential=True)
    proof, chosen = decided(table)
    leaf = Leaf(
        salt=bytes(32),
        object_id=table.workload.id,
        generation=1,
        replica=0,
        round=table.round,
        epoch=1,
        transcript=bytes(32),
        peer=chosen[0],
        checked=True,
    )
    bound = make_bound(table.shard, 1, [leaf], 0)
    assert key_share(table, key_request(proof, chosen[0], "template")) == []
    assert key_share(table, key_request(proof, chosen[0], "template", bound)) == []
    table.view.append(table.shard, 1, root_of([leaf_hash(leaf)]), sender=f"operator-{table.coordinator}")
    ((_, share),) = key_share(table, key_request(proof, chosen[0], "template", bound))
    assert share.part == table.workload.template
    elsewhere = msgspec.structs.replace(leaf, peer=chosen[1])
    table.view.append(table.shard, 2, root_of([leaf_hash(elsewhere)]), sender=f"operator-{table.coordinator}")
    wrong = make_bound(table.shard, 2, [elsewhere], 0)
    assert key_share(table, key_request(proof, chosen[0], "template", wrong)) == []


def test_a_key_share_goes_no_further_down_the_order_than_replicas_and_refusals_need(table):
    proof, chosen = decided(table, replicas=(0, 1))
    assert len(chosen) == 4
    fourth = msgspec.structs.replace(key_request(proof, chosen[3], "resources"), place=3)
    assert len(key_share(table, fourth)) == 1, "two replicas: one node more"
    assert key_share(table, msgspec.structs.replace(fourth, place=2)) == []
